"""What `sc` tends to as N grows is what `exact` computes, with the real model and the real prompt."""

import numpy as np
import pytest
from lm_eval.api.instance import Instance
from scipy.stats import chisquare

from ambi_eval.answers.candidate import Candidate
from ambi_eval.config.load import load_task
from ambi_eval.config.prompts import Prompts
from ambi_eval.corpora.manifest import read_manifest
from ambi_eval.corpora.registry import ensure_manifest
from ambi_eval.models.hf_audio import HFAudio
from ambi_eval.paths import tasks_dir

N_SEEDS, N_EACH = 8, 500


@pytest.mark.slow
def test_exact_reads_each_clip_once_and_all_labels_at_once():
    clips, labels = read_manifest(ensure_manifest("demo"))[:3], ["angry", "happy", "neutral", "sad"]
    lm = HFAudio("ambi-tiny", device="cpu", seed=0, store="none")
    passes = []
    lm.engine.family.model.register_forward_pre_hook(lambda module, arguments: passes.append(module))
    heard = [{"audio": [{"path": clip.audio}], "end_of_turn": True} for clip in clips]
    lm.loglikelihood(
        [
            Instance("loglikelihood", {}, ("<audio>Which emotion?", label, audio), 0, ("exact", n, 1))
            for n, audio in enumerate(heard)
            for label in labels
        ],
        disable_tqdm=True,
    )
    counted = lm.get_model_info()["ambi"]
    assert (counted["encodes"], counted["prefills"], counted["generated_tokens"]) == (3, 3, 0)
    assert len(passes) == 2 * len(clips), "the prompt with its audio, and all labels after it"


@pytest.mark.slow
def test_four_thousand_answers_are_distributed_as_the_likelihoods_say():
    config = load_task(tasks_dir() / "demo" / "ambi_demo_sc.yaml")
    labels = config.labels
    [prompt] = Prompts(config).about(transcript=None)
    clip = read_manifest(ensure_manifest("demo"))[0]
    heard = {"audio": [{"path": clip.audio}]}
    answers: list[Candidate] = []
    for seed in range(N_SEEDS):
        lm = HFAudio("ambi-tiny", device="cpu", seed=seed, store="none")
        request = Instance("generate_until", {}, (prompt, config.generation_kwargs, heard), 0, ("sc", 0, N_EACH))
        answers += lm.generate_until([request] * N_EACH, disable_tqdm=True)
    scores = lm.loglikelihood(
        [
            Instance("loglikelihood", {}, (prompt, label, {**heard, "end_of_turn": True}), i, ("exact", 0, 1))
            for i, label in enumerate(labels)
        ],
        disable_tqdm=True,
    )
    exact = np.exp([logprob for logprob, _ in scores])
    observed = np.array([sum(answer == label for answer in answers) for label in labels])
    # The answers that are no label form one more class, of which too few may be expected for the test.
    expected = len(answers) * np.append(exact, max(1 - exact.sum(), 0))
    observed = np.append(observed, len(answers) - observed.sum())
    enough = expected >= 5
    expected = np.append(expected[enough], expected[~enough].sum())
    observed = np.append(observed[enough], observed[~enough].sum())
    keep = expected > 0
    assert chisquare(observed[keep], expected[keep] * observed[keep].sum() / expected[keep].sum()).pvalue > 1e-3
    assert np.abs(observed / len(answers) - expected / len(answers)).max() < 4 * np.sqrt(0.25 / len(answers))
