"""openai-audio against replies of vLLM 0.32 that were written down (`support.vllm_replies`), beside hf-audio."""

import gzip
import json

import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from support.vllm_equalities import EqualsHFAudio
from support.vllm_replies import CLIPS, FILE, TASKS, ReplyServer, arguments

from ambi_eval.config.generation import GenerationSettings
from ambi_eval.config.model_arguments import OpenAIAudioArguments
from ambi_eval.engines.base import Job
from ambi_eval.engines.openai.choices import cut
from ambi_eval.engines.openai.engine import OpenAIEngine
from ambi_eval.engines.openai.replies import GeneratedToken
from ambi_eval.errors import AmbiError


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


class TestRecordedReplies(EqualsHFAudio):
    pass


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
