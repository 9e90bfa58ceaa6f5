"""Doctor finds a healthy model healthy, and each illness by the check that is there for it."""

import json
import shutil
import zlib
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from lm_eval.api.registry import get_model
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import ambi_eval
from ambi_eval.answers.candidate import Candidate
from ambi_eval.audio import load_audio
from ambi_eval.cli import app
from ambi_eval.doctor import checks as check
from ambi_eval.doctor.checks import CHECKS, CheckError, examine, run_checks, verdict
from ambi_eval.doctor.subject import Subject
from ambi_eval.engines.base import Capabilities, Engine
from ambi_eval.engines.hf.decoding import Decoder
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
    assert [outcome.name for outcome in outcomes if outcome.status != "passed"] == ["gives several answers"]
    assert verdict(outcomes) == f"healthy: {len(CHECKS) - 1} of {len(CHECKS)} checks passed, 1 does not apply to it"


@pytest.mark.slow
def test_half_precision_passes_as_well():
    outcomes = examine("hf-audio", "pretrained=ambi-tiny,device=cpu,dtype=bfloat16")
    assert "failed" not in {outcome.status for outcome in outcomes}


@pytest.mark.slow
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
    """Let every row see the columns that are there for longer prompts, where rows have copies of their prompts."""
    engine.scheduler.decoder = Decoder(engine.family, share_prefixes=False)
    forward = engine.family.model.forward

    def unmasked(*args, attention_mask=None, **kwargs):
        return forward(*args, attention_mask=torch.ones_like(attention_mask), **kwargs)

    engine.family.model.forward = unmasked


def prefill_for_every_answer(engine):
    generate = engine.scheduler.generate

    def one_by_one(prompts, *room):
        for prompt in prompts:
            answers = []
            for key in prompt.keys:
                single = check.Prompt(prompt.inputs, [key], prompt.settings, audios=prompt.audios, owner=prompt.owner)
                answers += next(generate([single], *room))[1]
            yield prompt, answers

    engine.scheduler.generate = one_by_one


def misjudge_likelihoods(engine):
    score = engine.scheduler.loglikelihoods
    engine.scheduler.loglikelihoods = lambda *args: (
        (prompt, [(0.9 * logprob, greedy) for logprob, greedy in scores]) for prompt, scores in score(*args)
    )


def believe_in_every_label(engine):
    engine.loglikelihoods = lambda jobs: ((job, [(-0.1, True)] * len(job.continuations)) for job in jobs)


def hear_the_end_first(engine):
    read = engine._read

    def read_backwards(jobs):
        with mock.patch("ambi_eval.engines.hf.engine.load_audio", lambda *asked: load_audio(*asked)[::-1]):
            return read(jobs)

    engine._read = read_backwards


def have_no_identity(engine):
    engine.__class__ = type("Nobody", (type(engine),), {"identity": {}})


def break_down(engine):
    engine.scheduler.generate = engine.scheduler.loglikelihoods = lambda *args, **kwargs: 1 / 0


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
        (hear_the_end_first, check.hears_its_window, "hears something of what follows after the 6 s"),
        (have_no_identity, check.tells_what_it_is, "has no identity"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_illness_is_found_by_its_check(engine, tmp_path, illness, found_by, sentence):
    illness(engine)
    with pytest.raises(CheckError, match=sentence):
        found_by(Subject(engine, tmp_path))


def test_an_answer_is_not_told_to_stop_at_half_a_character():
    """A character of two tokens is a replacement character until the second one is there."""
    steps = ["\ufffd", "é", "é\ufffd", "é\ufffd\ufffd"]

    def answers(asked, settings):
        ends = [(text, stop) for text in steps for stop in settings.get("until", ()) if stop in text]
        return [[Candidate(ends[0][0].split(ends[0][1])[0], finish="stop") if ends else Candidate(steps[-1])]]

    subject = SimpleNamespace(answers=answers, voice=lambda *_: "")
    assert check.stops_at_strings(subject).endswith("ends before 'é' when told to")


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


@pytest.fixture
def server_that(chat_server):
    """A chat server whose answers follow from what it hears, unless something is wrong with it."""
    pytest.importorskip("openai")
    answer, drawn = chat_server.answer, iter(range(10_000))

    def be(*wrong):
        def describe(body):
            content = answer(body)
            for number, choice in enumerate(content["choices"]):
                heard = 0 if "deaf" in wrong else zlib.crc32(json.dumps(body["messages"]).encode())
                sample = number + body.get("seed", 0) if body["temperature"] else 0
                if "ignores temperature" in wrong or ("ignores seeds" in wrong and body["temperature"]):
                    sample = next(drawn)
                chosen = ["angry", "happy", "neutral", "sad"][sample % 4]
                choice["message"]["content"] = f"Voice {heard}, take {sample}" + f"\n{chosen}" * ("chats" not in wrong)
            return content

        chat_server.answer = describe
        chat_server.most = 1 if "gives one" in wrong else 100
        return f"model=listener,base_url={chat_server.url}"

    return be


def test_a_healthy_chat_server_passes_by_its_answers(server_that):
    outcomes = examine("openai-audio", server_that())
    status = {outcome.name: outcome.status for outcome in outcomes}
    assert {name for name, each in status.items() if each == "passed"} == {
        "hears",
        "repeats greedy answers",
        "draws different samples",
        "repeats samples",
        "honors the temperature",
        "gives several answers",
        "uses the labels",
        "stops at strings",
        "tells what it is",
    }
    assert set(status.values()) == {"passed", "refused"}
    assert verdict(outcomes).startswith("healthy: 9 of 16 checks passed, 7 do not apply to it")
    lm = get_model("openai-audio").create_from_arg_string(f"{server_that()},store=none")
    assert lm.get_model_info()["ambi"]["sampling"] == "honoured"


@pytest.mark.parametrize(
    ("wrong", "name", "status", "sentence"),
    [
        ("deaf", "hears", "failed", "to a deep slow voice and to a high fast one"),
        ("ignores seeds", "repeats samples", "remark", "its samples cannot be drawn again"),
        ("ignores temperature", "repeats greedy answers", "remark", "its greedy answers cannot be had again"),
        ("ignores temperature", "honors the temperature", "remark", "the provider fixes the sampling (4 different"),
        ("gives one", "gives several answers", "remark", "4 samples take 4 requests"),
        ("chats", "uses the labels", "remark", "hardly uses the labels: 0 of 8 answers name one of angry"),
    ],
)
def test_what_is_wrong_with_a_chat_server_is_found_and_in_the_verdict(server_that, wrong, name, status, sentence):
    outcomes = examine("openai-audio", server_that(wrong))
    found = {outcome.name: outcome for outcome in outcomes}[name]
    assert found.status == status
    assert sentence in found.sentence
    healthy = status != "failed"
    assert verdict(outcomes).startswith("healthy: " if healthy else "ill: 1 check failed ('hears')")
    assert (found.sentence in verdict(outcomes)) is healthy


def test_a_provider_that_fixes_the_sampling_is_known_to_later_runs(server_that):
    examine("openai-audio", server_that("ignores temperature"))
    lm = get_model("openai-audio").create_from_arg_string(f"{server_that()},store=none")
    assert lm.get_model_info()["ambi"]["sampling"] == "fixed by the provider"


def test_a_provider_that_fixes_the_sampling_is_not_blamed_for_hearing_more_than_its_window(server_that, tmp_path):
    engine = open_engine("openai-audio", f"{server_that('ignores temperature')},max_audio_seconds=1")
    with pytest.raises(CheckError, match="hears something of what follows after the 1 s"):
        check.hears_its_window(Subject(engine, tmp_path))
    engine.note_sampling("fixed by the provider")
    with pytest.raises(check.RemarkError, match="its greedy answers differ by themselves"):
        check.hears_its_window(Subject(engine, tmp_path))


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pretrained", "exit_code", "words"),
    [("ambi-tiny", 0, "hears"), ("deaf", 1, "is deaf"), ("/no/such/folder", 2, "cannot be loaded")],
)
def test_the_exit_code_of_the_command_tells_how_it_went(deaf, pretrained, exit_code, words):
    source = deaf if pretrained == "deaf" else pretrained
    result = CliRunner().invoke(app, ["doctor", "--model_args", f"pretrained={source},device=cpu"])
    assert (result.exit_code, words in result.output) == (exit_code, True)
    if exit_code < 2:
        assert result.stdout.splitlines()[-1].startswith(("healthy: ", "ill: 2 checks failed")[exit_code])
