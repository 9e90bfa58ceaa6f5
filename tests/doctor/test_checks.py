"""Doctor finds a healthy model healthy, and each illness by the check that is there for it."""

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import ambi_eval
from ambi_eval.answers.candidate import Candidate
from ambi_eval.cli import app
from ambi_eval.doctor import checks as check
from ambi_eval.doctor.checks import CHECKS, CheckError, Subject, examine, run_checks
from ambi_eval.engines.base import Capabilities, Engine
from ambi_eval.errors import AmbiError
from ambi_eval.models.audio_lm import open_engine

AMBI_TINY = Path(ambi_eval.__file__).parent / "demo" / "ambi-tiny"


@pytest.fixture
def engine():
    """A model that may be made ill."""
    return open_engine("hf-audio", "pretrained=ambi-tiny,device=cpu,batch_size=4")


@pytest.fixture(scope="module")
def deaf(tmp_path_factory):
    """A checkpoint in which nothing of the audio reaches the language model."""
    folder = shutil.copytree(AMBI_TINY, tmp_path_factory.mktemp("deaf") / "ambi-tiny")
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if "projector" in name]:
        weights[name] = torch.zeros_like(weights[name])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_healthy_model_passes_every_check():
    outcomes = examine("hf-audio", "pretrained=ambi-tiny,device=cpu,dtype=float32")
    assert [outcome.name for outcome in outcomes] == [each.__name__.replace("_", " ") for each in CHECKS]
    assert {outcome.status for outcome in outcomes} == {"passed"}


def test_half_precision_passes_as_well():
    outcomes = examine("hf-audio", "pretrained=ambi-tiny,device=cpu,dtype=bfloat16")
    assert {outcome.status for outcome in outcomes} == {"passed"}


def test_a_deaf_checkpoint_is_found_deaf_and_nothing_else(deaf):
    outcomes = examine("hf-audio", f"pretrained={deaf},device=cpu,dtype=float32")
    failed = {outcome.name: outcome.sentence for outcome in outcomes if outcome.status == "failed"}
    assert set(failed) == {"hears", "hears to the end"}
    assert failed["hears"] == "is deaf: two voices change the likelihoods of the labels by 0 nats"


def hear_silence(engine):
    part = engine.family.audio_part
    engine.family.audio_part = lambda samples: part(np.zeros_like(samples))


def hear_the_beginning_only(engine):
    part = engine.family.audio_part
    engine.family.audio_part = lambda samples: part(np.where(np.arange(len(samples)) < 48_000, samples, 0 * samples))


def with_answers(change):
    """Let the engine change the answers of each job."""

    def sabotage(engine):
        generate = engine.generate

        def changed(jobs):
            for job, answers in generate(jobs):
                yield job, dict(zip(answers, change(list(answers.values())), strict=True))

        engine.generate = changed

    return sabotage


def forget_the_first_time(engine):
    calls = iter(range(1000))
    with_answers(lambda answers: [Candidate(f"{next(calls)} {each}") for each in answers])(engine)


def draw_by_chance(engine):
    engine._noise_keys = lambda job: torch.randint(2**40, (len(job.numbers),)).tolist()


def draw_all_alike(engine):
    engine._noise_keys = lambda job: [0] * len(job.numbers)


def see_the_padding(engine):
    """Let every row see the columns that are there for longer prompts."""
    forward = engine.family.model.forward

    def unmasked(*args, attention_mask=None, **kwargs):
        return forward(*args, attention_mask=torch.ones_like(attention_mask), **kwargs)

    engine.family.model.forward = unmasked


def prefill_for_every_answer(engine):
    generate = engine.scheduler.generate

    def one_by_one(prompts, widest=None):
        for prompt in prompts:
            answers = []
            for key in prompt.keys:
                single = check.Prompt(prompt.inputs, [key], prompt.settings, audios=prompt.audios, owner=prompt.owner)
                answers += next(generate([single], widest))[1]
            yield prompt, answers

    engine.scheduler.generate = one_by_one


def misjudge_likelihoods(engine):
    score = engine.scheduler.loglikelihoods
    engine.scheduler.loglikelihoods = lambda *args: (
        (prompt, [(0.9 * logprob, greedy) for logprob, greedy in scores]) for prompt, scores in score(*args)
    )


def believe_in_every_label(engine):
    engine.loglikelihoods = lambda jobs: ((job, [(-0.1, True)] * len(job.continuations)) for job in jobs)


def count_nothing(engine):
    counts = engine.counts
    engine.counts = lambda: {**counts(), "truncated_audio": 0}


def have_no_identity(engine):
    engine.__class__ = type("Nobody", (type(engine),), {"identity": {}})


def break_down(engine):
    engine.scheduler.decoder.prefill = lambda *args, **kwargs: 1 / 0


@pytest.mark.parametrize(
    ("illness", "found_by", "sentence"),
    [
        (hear_silence, check.hears, "is deaf"),
        (hear_the_beginning_only, check.hears_to_the_end, "does not hear the last 1 of 6 s"),
        (forget_the_first_time, check.repeats_greedy_answers, "when it is asked again"),
        (see_the_padding, check.ignores_the_batch, "when they are decoded together"),
        (draw_all_alike, check.draws_different_samples, "8 samples at temperature 1 are all"),
        (draw_by_chance, check.repeats_samples, "of 4 samples are the same with the same seed"),
        (prefill_for_every_answer, check.encodes_once, "8 samples cost 8 encodings and 8 prefills"),
        (misjudge_likelihoods, check.agrees_with_generate, "nats per token off those of generate"),
        (believe_in_every_label, check.sums_to_at_most_one, r"the probabilities of 4 labels sum to 3\.6"),
        (
            with_answers(lambda answers: [Candidate("never stops", finish="length")] * len(answers)),
            check.stops_at_strings,
            "is to end before",
        ),
        (with_answers(lambda answers: answers[::-1]), check.searches_beams, "3 beams of"),
        (count_nothing, check.counts_what_it_cuts, "counts 0 of 1 clip that is longer than its 6 s"),
        (have_no_identity, check.tells_what_it_is, "has no identity"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_illness_is_found_by_its_check(engine, tmp_path, illness, found_by, sentence):
    illness(engine)
    with pytest.raises(CheckError, match=sentence):
        found_by(Subject(engine, tmp_path))


def test_a_model_that_breaks_down_fails_that_check_and_goes_on_to_the_next(engine, tmp_path):
    break_down(engine)
    outcomes = {outcome.name: outcome for outcome in run_checks(Subject(engine, tmp_path))}
    assert outcomes["hears"].status == "failed"
    assert outcomes["hears"].sentence == "breaks down: ZeroDivisionError: division by zero"
    assert outcomes["tells what it is"].status == "passed"


class AnswersOnly(Engine):
    """An engine of which only the answers come through, as over HTTP."""

    name, identity, capabilities = "elsewhere", {"server": "elsewhere"}, Capabilities()

    def __init__(self, engine):
        self.generate = engine.generate

    def generate(self, jobs):
        raise NotImplementedError


def test_of_a_model_that_runs_elsewhere_the_answers_are_checked(engine, tmp_path):
    outcomes = {outcome.name: outcome for outcome in run_checks(Subject(AnswersOnly(engine), tmp_path))}
    refused = {name for name, outcome in outcomes.items() if outcome.status == "refused"}
    assert "failed" not in {outcome.status for outcome in outcomes.values()}
    assert {"hears", "draws different samples", "stops at strings", "tells what it is"} <= set(outcomes) - refused
    assert outcomes["sums to at most one"].sentence.startswith(
        "doctor: elsewhere gives no likelihoods of given answers"
    )


@pytest.mark.parametrize(("hears", "status"), [(True, "passed"), (False, "failed")])
def test_a_chat_server_is_checked_by_its_answers(chat_server, hears, status):
    pytest.importorskip("openai")
    answer = chat_server.answer

    def describe(body):
        """Answer with a number that follows from the audio, or from nothing."""
        content = answer(body)
        for number, choice in enumerate(content["choices"]):
            heard = zlib.crc32(json.dumps(body["messages"]).encode()) if hears else 0
            sample = number + body.get("seed", 0) if body["temperature"] else 0
            choice["message"]["content"] = f"voice {heard}, take {sample}"
        return content

    chat_server.answer = describe
    outcomes = {each.name: each for each in examine("openai-audio", f"model=listener,base_url={chat_server.url}")}
    assert outcomes["hears"].status == status
    assert {name for name, outcome in outcomes.items() if outcome.status == "passed"} >= {
        "repeats greedy answers",
        "draws different samples",
        "tells what it is",
    }
    assert outcomes["ignores the batch"].sentence == "only a model that runs in this process shows that"


def test_without_likelihoods_a_model_that_says_the_same_about_everything_counts_as_deaf(engine, tmp_path):
    hear_silence(engine)
    with pytest.raises(CheckError, match="to a deep slow voice and to a high fast one"):
        check.hears(Subject(AnswersOnly(engine), tmp_path))


@pytest.mark.parametrize(
    ("model", "model_args", "sentence"),
    [
        ("hf-audo", "pretrained=ambi-tiny", "there is no engine 'hf-audo', did you mean 'hf-audio'"),
        ("hf-audio", "ambi-tiny", "hf-audio: .*"),
        ("hf-audio", "pretrained=ambi-tiny,dtyp=float32", "hf-audio: unknown key 'dtyp', did you mean 'dtype'"),
        ("hf-audio", "pretrained=/no/such/folder", "/no/such/folder cannot be loaded"),
    ],
)
def test_a_users_mistake_is_one_sentence(model, model_args, sentence):
    with pytest.raises(AmbiError, match=sentence):
        examine(model, model_args)


@pytest.mark.parametrize(
    ("pretrained", "exit_code", "words"),
    [("ambi-tiny", 0, "hears"), ("deaf", 1, "is deaf"), ("/no/such/folder", 2, "cannot be loaded")],
)
def test_the_exit_code_of_the_command_tells_how_it_went(deaf, pretrained, exit_code, words):
    source = deaf if pretrained == "deaf" else pretrained
    result = CliRunner().invoke(app, ["doctor", "--model_args", f"pretrained={source},device=cpu"])
    assert (result.exit_code, words in result.output) == (exit_code, True)
