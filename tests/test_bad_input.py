"""Whatever a file of the user's holds, reading it gives what it says or one sentence: never another error."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from ambi_eval.analysis.predictions import read_predictions
from ambi_eval.answers.candidate import Candidate
from ambi_eval.config.grid import Grid
from ambi_eval.config.load import load_corpus, load_task, read_yaml
from ambi_eval.config.model_arguments import HFAudioArguments, OpenAIAudioArguments, VLLMAudioArguments
from ambi_eval.corpora.manifest import read_manifest
from ambi_eval.errors import AmbiError
from ambi_eval.harness.results import read_runs
from ambi_eval.leaderboard.schema import CARD, CLAIMS, check
from ambi_eval.leaderboard.untrusted import read_json
from ambi_eval.leaderboard.untrusted import read_yaml as read_plain_yaml
from ambi_eval.paths import tasks_dir

pytestmark = pytest.mark.slow

LABELS = ["calm", "tense"]
CLIPS = [
    {"id": f"c{number}", "audio": "a.wav", "speaker": "anna", "votes": {"calm": 1 + number, "tense": 2}}
    for number in range(3)
]
TASK = {"task": "mine", "strategy": "sc", "labels": LABELS, "manifest": "clips.jsonl", "metadata": {"version": 1.0}}
GRID = {
    "models": {"tiny": {"model": "hf-audio", "model_args": {"pretrained": "ambi-tiny"}, "batch_size": 4, "gpus": 0}},
    "corpora": ["demo"],
    "strategies": ["sc", "exact"],
    "seeds": [0, 1],
    "metadata": [{}, {"control": "silence"}],
    "limit": 5,
}
PREDICTIONS = [{"id": clip["id"], "distribution": {"calm": 0.25, "tense": 0.75}} for clip in CLIPS]
SUBMISSION = next(
    folder for folder in sorted((tasks_dir().parent / "leaderboard" / "submissions").iterdir()) if folder.is_dir()
)
# What stands where something else is due.
ODD = st.sampled_from(
    [
        *(None, True, 0, -1, 2.5, 1e308, float("nan"), 10**400),
        *("", "x", "nan", "\x00", "\u202e", "../../x", "a" * 5000),
        *([], [1], [None], ["x", "x"], json.loads("[" * 60 + "]" * 60)),
        *({}, {"a": {}}, {1: 2}, {"labels": "labels"}),
    ]
)
JUNK = ["\x00", "[" * 3000, "{" * 3000, "9" * 5000, "1e999", ": :", "\t", "&a ", "*a", "!!python/x ", "\n"]


class Scripted(LM):
    """A model of somebody else's, whose answers are always the same."""

    MULTIMODAL = True

    def generate_until(self, requests, disable_tqdm=False):
        return [Candidate(LABELS[number % 2], logprob=-1.0, n_tokens=1) for number, _ in enumerate(requests)]

    def loglikelihood(self, requests, disable_tqdm=False):
        raise NotImplementedError

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("input")
    fill(folder)
    return folder


def fill(folder):
    soundfile.write(folder / "a.wav", np.zeros(16000), 16000)
    (folder / "clips.jsonl").write_text("\n".join(map(json.dumps, CLIPS)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The results file and the samples of a small run."""
    folder = tmp_path_factory.mktemp("run")
    fill(folder)
    (folder / "run.yaml").write_text(
        yaml.safe_dump({**TASK, "repeats": 2}) + "class: !function ambi_eval.task.AmbiguousEmotionTask\n"
    )
    tracker = EvaluationTracker(output_path=str(folder / "out"))
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    results = simple_evaluate(
        model=Scripted(), tasks=["mine"], task_manager=manager, evaluation_tracker=tracker, bootstrap_iters=0
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    tracker.save_results_samples(task_name="mine", samples=samples["mine"])
    (file,) = folder.rglob("results_*.json")
    return file


def places(content: Any) -> Iterator[list[Any]]:
    """Yield the way to every value in a structure."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield [key]
        yield from ([key, *rest] for rest in places(value))


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """Return a structure in which one or two values are replaced, taken out, or joined by another key."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 2))):
        way = draw(st.sampled_from([[], *places(content)]))
        if not way:
            if isinstance(content, dict):
                content[draw(st.sampled_from(["stratgy", "x", ""]))] = copy.deepcopy(draw(ODD))
                continue
            return copy.deepcopy(draw(ODD))
        parent = content
        for key in way[:-1]:
            parent = parent[key]
        if draw(st.booleans()):
            parent[way[-1]] = copy.deepcopy(draw(ODD))
        else:
            del parent[way[-1]]
    return content


@st.composite
def broken(draw: st.DrawFn, text: str) -> bytes:
    """Return a text that is cut, scrambled, in another encoding, or has something in it that does not belong there."""
    at = draw(st.integers(0, len(text)))
    junk = draw(st.sampled_from(JUNK))
    return draw(
        st.sampled_from(
            [
                text[:at].encode(),
                (text[:at] + junk + text[at:]).encode(),
                text.encode("utf-16"),
                text.encode()[:at] + b"\xff\xfe" + text.encode()[at:],
                b"\xef\xbb\xbf" + text.encode(),
                text.replace(":", " ", 1).encode(),
                text.encode().replace(b"\n", b"\r", 3),
            ]
        )
    )


def written(content: Any, dump: Callable[[Any], str]) -> st.SearchStrategy[bytes]:
    """Return changed and broken forms of a file's content."""
    return changed(content).map(lambda each: dump(each).encode("utf-8", "replace")) | broken(dump(content))


def as_lines(content: Any) -> str:
    return "\n".join(json.dumps(line) for line in content) if isinstance(content, list) else json.dumps(content)


def as_yaml(content: Any) -> str:
    return yaml.safe_dump(content)


def reads(read: Callable[[], object]) -> None:
    """Check that reading ends well, or with one sentence of ours."""
    sentence = None
    try:
        read()
    except AmbiError as mistake:
        sentence = str(mistake)
    assert sentence is None or ("\n" not in sentence and 10 < len(sentence) < 2000), sentence


cases = settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@cases
@given(content=written(TASK, as_yaml))
def test_a_task(folder: Path, content: bytes) -> None:
    (folder / "mine.yaml").write_bytes(content)
    reads(lambda: load_task(folder / "mine.yaml"))
    reads(lambda: load_corpus(str(folder / "mine.yaml")))


@cases
@given(content=written(read_yaml(tasks_dir() / "_strategies" / "almv.yaml"), as_yaml))
def test_a_strategy(folder: Path, content: bytes) -> None:
    (folder / "own.yaml").write_bytes(content)
    (folder / "mine.yaml").write_text(as_yaml({**TASK, "strategy": "own.yaml"}))
    reads(lambda: load_task(folder / "mine.yaml", {"ratings": 7, "beams": 2}))


@cases
@given(content=written(CLIPS, as_lines))
def test_a_manifest(folder: Path, content: bytes) -> None:
    (folder / "other.jsonl").write_bytes(content)
    reads(lambda: read_manifest(folder / "other.jsonl"))


@cases
@given(content=written(PREDICTIONS, as_lines))
def test_predictions(folder: Path, content: bytes) -> None:
    (folder / "predictions.jsonl").write_bytes(content)
    clips = read_manifest(folder / "clips.jsonl")
    reads(lambda: read_predictions(folder / "predictions.jsonl", clips, LABELS))


@cases
@given(content=written(GRID, as_yaml))
def test_a_grid(folder: Path, content: bytes) -> None:
    (folder / "grid.yaml").write_bytes(content)
    reads(lambda: Grid.read(read_yaml(folder / "grid.yaml"), "grid.yaml"))


@cases
@given(data=st.data())
def test_the_results_of_a_run(run: Path, data: st.DataObject) -> None:
    plain = run.read_bytes()
    try:
        run.write_bytes(data.draw(written(json.loads(plain), json.dumps)))
        reads(lambda: read_runs(run))
    finally:
        run.write_bytes(plain)


@cases
@given(data=st.data())
def test_the_samples_of_a_run(run: Path, data: st.DataObject) -> None:
    (samples,) = run.parent.glob("samples_*")
    plain = samples.read_bytes()
    try:
        samples.write_bytes(data.draw(written([json.loads(line) for line in plain.splitlines()], as_lines)))
        reads(lambda: read_runs(run))
    finally:
        samples.write_bytes(plain)


@cases
@given(
    card=written(read_plain_yaml(SUBMISSION / "submission.yaml"), as_yaml),
    claims=written(read_json(SUBMISSION / "results.json"), json.dumps),
)
def test_a_submission(folder: Path, card: bytes, claims: bytes) -> None:
    (folder / "submission.yaml").write_bytes(card)
    (folder / "results.json").write_bytes(claims)
    reads(lambda: check(CARD, read_plain_yaml(folder / "submission.yaml"), "submission.yaml"))
    reads(lambda: check(CLAIMS, read_json(folder / "results.json"), "results.json"))


@cases
@given(arguments=changed({"pretrained": "x", "dtype": "bfloat16", "batch_size": 4, "seed": 1, "verifier": "self"}))
def test_model_arguments(arguments: Any) -> None:
    for kind in (HFAudioArguments, OpenAIAudioArguments, VLLMAudioArguments):
        reads(lambda kind=kind: kind.read(arguments, "--model_args"))
