"""Two runs of the real harness on a small corpus, by models that hear the votes more or less well."""

import json

import numpy as np
import pytest
import soundfile
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from ambi_eval.answers.candidate import Candidate
from ambi_eval.harness.results import read_runs
from ambi_eval.report.build import build

LABELS = ["calm", "tense", "sad"]
TASKS = {"mine_direct": "direct", "mine_sc": "sc", "mine_exact": "exact"}
TROUBLE = "<img src=x onerror=alert(1)> & I'm not sure."


class Listener(LM):
    """Predicts the votes, mixed with chance; fails on the clip `s0_0`, with an answer that would like to be HTML."""

    MULTIMODAL = True

    def __init__(self, votes, skill):
        super().__init__()
        self.votes, self.skill = votes, skill

    def shares(self, request):
        clip = request.doc["id"]
        chance = np.random.default_rng(list(clip.encode())).dirichlet([1, 1, 1])
        return self.skill * self.votes[clip] / self.votes[clip].sum() + (1 - self.skill) * chance

    def generate_until(self, requests, disable_tqdm=False):
        drawn = {}
        return [self.answer(request, drawn) for request in requests]

    def answer(self, request, drawn):
        clip, shares = request.doc["id"], self.shares(request)
        k = drawn[clip] = drawn.get(clip, -1) + 1
        if clip == "s0_0":
            return Candidate(TROUBLE, n_tokens=9)
        if "JSON" in request.args[0]:
            return Candidate(json.dumps(dict(zip(LABELS, shares.round(2), strict=True))), n_tokens=30)
        rng = np.random.default_rng([k, *clip.encode()])
        return Candidate(LABELS[rng.choice(3, p=shares)], n_tokens=2)

    def loglikelihood(self, requests, disable_tqdm=False):
        return [
            (float(np.log(0.9 * self.shares(request)[LABELS.index(request.args[1])])), False) for request in requests
        ]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError


@pytest.fixture(scope="session")
def votes():
    """Votes of eight speakers, six clips each, of four to eight raters."""
    rng = np.random.default_rng(0)
    names = [f"s{speaker}_{clip}" for speaker in range(8) for clip in range(6)]
    return {name: rng.multinomial(rng.integers(4, 9), rng.dirichlet([0.7] * 3)).astype(float) for name in names}


@pytest.fixture(scope="session")
def corpus(votes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report_corpus")
    soundfile.write(folder / "all.wav", np.zeros(48 * 1600), 16000)
    clips = [
        {
            "id": name,
            "audio": "all.wav",
            "start": number / 10,
            "end": (number + 1) / 10,
            "speaker": name[:2],
            "sentence": "s" + name[-1:] if int(name[-1]) < 2 else "s9",
            "transcript": "I'll be there on Monday.",
            "sex": "female" if int(name[1]) % 2 else "male",
            "votes": dict(zip(LABELS, of_clip, strict=True)),
            "ratings": [
                {"rater": f"rater{rater}", "labels": [label]}
                for rater, label in enumerate(np.repeat(LABELS, of_clip.astype(int)).tolist())
            ],
        }
        for number, (name, of_clip) in enumerate(votes.items())
    ]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, clips)))
    for name, strategy in TASKS.items():
        (folder / f"{name}.yaml").write_text(
            f"class: !function ambi_eval.harness.task.AmbiguousEmotionTask\ntask: {name}\nstrategy: {strategy}\n"
            f"labels: [{', '.join(LABELS)}]\nmanifest: mine.jsonl\n"
        )
    return folder


@pytest.fixture(scope="session")
def lm_eval(corpus, votes):
    """What `lm_eval --log_samples --output_path OUT` does, with a listener of some skill."""

    def run(out, skill, name, **kwargs):
        tracker = EvaluationTracker(output_path=str(out))
        manager = TaskManager(include_path=str(corpus), include_defaults=False, metadata=kwargs.get("metadata"))
        results = simple_evaluate(
            model=Listener(votes, skill),
            model_args={"pretrained": name},
            tasks=kwargs.pop("tasks", list(TASKS)),
            task_manager=manager,
            bootstrap_iters=0,
            log_samples=True,
            evaluation_tracker=tracker,
            **kwargs,
        )
        samples = results.pop("samples")
        tracker.save_results_aggregated(results=results, samples=samples)
        for task, of_task in samples.items():
            tracker.save_results_samples(task_name=task, samples=of_task)
        return out

    return run


@pytest.fixture(scope="session")
def folders(lm_eval, tmp_path_factory):
    """The folders of a good and of a weak model's run."""
    out = tmp_path_factory.mktemp("runs")
    return lm_eval(out / "good", 0.8, "good/model"), lm_eval(out / "weak", 0.3, "weak<model>")


@pytest.fixture(scope="session")
def runs(folders):
    return [run for folder in folders for run in read_runs(folder)]


@pytest.fixture(scope="session")
def content(runs):
    return build(runs)
