"""openai-audio against replies of vLLM 0.32 that were written down (`support.vllm_replies`), beside hf-audio."""

import gzip
import json

import numpy as np
import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from scipy.stats import chisquare
from support.vllm_replies import CLIPS, FILE, TASKS, ReplyServer, arguments

from ambi_eval.config.generation import GenerationSettings
from ambi_eval.config.model_arguments import OpenAIAudioArguments
from ambi_eval.engines.base import Job
from ambi_eval.engines.openai.choices import cut
from ambi_eval.engines.openai.engine import OpenAIEngine
from ambi_eval.engines.openai.replies import GeneratedToken
from ambi_eval.errors import AmbiError

# Likelihoods of both engines may differ by that, in nats: they add up the same numbers in another order.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def server():
    server = ReplyServer(json.loads(gzip.decompress(FILE.read_bytes())))
    yield server
    server.close()


@pytest.fixture
def engine(server):
    return OpenAIEngine(OpenAIAudioArguments.read({"model": "ambi-tiny", "base_url": f"{server.url}/v1"}, "test"))


@pytest.fixture(scope="module")
def samples(server):
    """The logged samples of each task, by engine: both hear the same clips."""
    manager, found = TaskManager(), {}
    for model, args in (
        ("openai-audio", arguments(server)),
        ("hf-audio", {"pretrained": "ambi-tiny", "store": "none", "seed": 0}),
    ):
        run = simple_evaluate(model, args, tasks=TASKS, limit=CLIPS, bootstrap_iters=0, task_manager=manager)
        found[model] = run["samples"]
    assert not server.unknown
    return found["openai-audio"], found["hf-audio"]


def candidates(of_task, key):
    return [sample["doc"]["candidates"][key] for sample in of_task if sample["doc"].get("candidates")]


@pytest.mark.parametrize("strategy", ["direct", "cot", "ens", "bon", "wbon", "almv", "walmv"])
def test_greedy_answers_and_beams_are_those_of_hf_audio(samples, strategy):
    ours, theirs = (of_all[f"ambi_demo_{strategy}"] for of_all in samples)
    assert [sample["resps"] for sample in ours] == [sample["resps"] for sample in theirs]
    for key in ("logprob", "n_tokens"):
        one, other = (np.array(candidates(of_task, key), dtype=float) for of_task in (ours, theirs))
        assert one.size
        assert np.allclose(one, other, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("strategy", ["almv", "walmv"])
def test_ratings_are_those_of_hf_audio(samples, strategy):
    one, other = (np.array(candidates(of_all[f"ambi_demo_{strategy}"], "rating"), dtype=float) for of_all in samples)
    assert np.isfinite(one).all()
    assert np.allclose(one, other, rtol=0, atol=TOLERANCE)


def test_likelihoods_of_labels_are_those_of_hf_audio(samples):
    ours, theirs = (of_all["ambi_demo_exact"] for of_all in samples)
    one, other = (
        np.array([[logprob for ((logprob, _),) in sample["resps"]] for sample in of_task], dtype=float)
        for of_task in (ours, theirs)
    )
    assert one.shape == (CLIPS, 4)
    assert np.allclose(one, other, rtol=0, atol=TOLERANCE)
    assert [[greedy for ((_, greedy),) in sample["resps"]] for sample in ours] == [
        [greedy for ((_, greedy),) in sample["resps"]] for sample in theirs
    ]


def test_samples_are_drawn_from_the_likelihoods_of_the_labels(samples):
    """Chi-square test of all labels drawn; by chance one recording in a thousand fails it."""
    labels = ["angry", "happy", "neutral", "sad"]
    observed, expected = np.zeros(4), np.zeros(4)
    once = [sample for sample in samples[0]["ambi_demo_sc"] if sample["filter"] == "dist"]
    for drawn, exact in zip(once, samples[0]["ambi_demo_exact"], strict=True):
        answers = [str(answer) for answer in drawn["resps"][0]]
        p = np.exp([logprob for ((logprob, _),) in exact["resps"]])
        assert set(answers) <= set(labels)
        observed += [answers.count(label) for label in labels]
        expected += len(answers) * p / p.sum()
    assert chisquare(observed, expected).pvalue > 0.001


def test_vllm_has_all_that_the_strategies_need(engine):
    assert (engine.capabilities.beams, engine.capabilities.likelihoods) == (True, True)


def test_beams_ranked_by_length_are_refused(engine):
    job = Job("Which?", settings=GenerationSettings(num_beams=2, length_penalty=1.0), numbers=range(2), task="mine")
    with pytest.raises(AmbiError, match="mine: length_penalty is 1, and vLLM would count the tokens of the prompt"):
        engine.check([job])


@pytest.mark.parametrize(
    ("whole", "tokens", "until", "expected"),
    [
        ("sad", [("sad", -1.0), ("<end>", -0.5)], (), ("sad", -1.5, 2)),
        ("sad\nvery", [("sad", -1.0), ("\n", -0.25), ("very", -4.0)], ("\n",), ("sad", -1.25, 2)),
        ("sad. It", [("sad", -1.0), (". ", -0.25), ("It", -4.0)], (" It", "."), ("sad", -1.25, 2)),
        ("sad", [], ("\n",), ("sad", None, None)),
        ("", [("<end>", -0.5)], ("\n",), ("", -0.5, 1)),
    ],
)
def test_an_answer_counts_up_to_its_stop_string(whole, tokens, until, expected):
    assert cut(whole, [GeneratedToken(token=text, logprob=logprob) for text, logprob in tokens], until) == expected
