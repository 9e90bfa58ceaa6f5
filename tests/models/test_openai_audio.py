import json
import math
import signal
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from support.processes import Script

import ambi_eval
from ambi_eval.config.model_names import other_models
from ambi_eval.demo.corpus import prepare
from ambi_eval.engines.openai import concurrency
from ambi_eval.errors import AmbiError
from ambi_eval.harness.table import cost_line, readable
from ambi_eval.models.audio_lm import open_engine
from ambi_eval.models.hf_audio import HFAudio
from ambi_eval.models.openai_audio import OpenAIAudio
from ambi_eval.models.requests import asked_questions

WHICH = "<audio>Which emotion?"
SAMPLED = {"do_sample": True, "temperature": 1.0, "until": ["\n"], "max_gen_toks": 16}


@pytest.fixture
def load(chat_server, tmp_path):
    def model(**options):
        given = {"base_url": chat_server.url, "seed": 7, "max_retries": 0, "store": str(tmp_path / "store.sqlite")}
        return OpenAIAudio("listener", **{**given, **options})

    return model


@pytest.fixture
def asked(ask, voice):
    """Requests about so many clips, with so many samples of each, as the harness clones them."""

    def requests(clips=2, repeats=20, **kwargs):
        each = [ask(WHICH, voice(0.3, seed), repeats=repeats, **{**SAMPLED, **kwargs}) for seed in range(clips)]
        return [request for request in each for _ in range(repeats)]

    return requests


def refuse(words):
    return 400, {}, {"error": {"message": words}}


def test_an_engine_takes_its_arguments_as_json_too_as_lm_eval_does(chat_server):
    given = {"model": "listener", "base_url": chat_server.url, "extra_body": {"stop": None}}
    assert open_engine("openai-audio", json.dumps(given)).arguments.extra_body == {"stop": None}
    with pytest.raises(AmbiError, match=r"--model_args \{'model': 'x'\} is no JSON \(.*\); correct it"):
        open_engine("openai-audio", "{'model': 'x'}")


# ---------------------------------------------------------------------------------------------- answers


def test_the_samples_of_a_clip_are_one_request(load, asked, chat_server):
    answers = load().generate_until(asked())
    assert [body["n"] for body in chat_server.bodies] == [20, 20]
    sent = chat_server.bodies[0]
    assert {name: sent[name] for name in ("model", "temperature", "top_p", "max_tokens", "stop", "logprobs")} == {
        "model": "listener",
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 16,
        "stop": ["\n"],
        "logprobs": True,
    }
    assert len(answers) == 40
    assert [answer.number for answer in answers] == [*range(20), *range(20)]
    assert len(set(answers[:20])) > 1
    assert (answers[0].logprob, answers[0].n_tokens, answers[0].finish) == (-0.75, 2, "stop")


def test_a_greedy_answer_is_one_for_all_repeats(load, asked, chat_server):
    answers = load().generate_until(asked(clips=1, repeats=3, do_sample=False))
    (sent,) = chat_server.bodies
    assert sent["temperature"] == 0
    assert not {"n", "seed", "top_p", "top_k"} & sent.keys()
    assert len(set(answers)) == 1


def test_top_p_and_top_k_are_sent_where_they_are_asked_for(load, asked, chat_server):
    load().generate_until(asked(clips=1, top_p=0.9, top_k=5))
    assert (chat_server.bodies[0]["top_p"], chat_server.bodies[0]["top_k"]) == (0.9, 5)


@pytest.mark.parametrize(("most", "requests"), [(1, 20), (8, 3), (20, 1)])
def test_a_server_that_gives_fewer_answers_is_asked_again_for_the_very_same_ones(
    most, requests, load, asked, chat_server, caplog
):
    expected = load(store="none").generate_until(asked(clips=1))
    del chat_server.bodies[:]
    chat_server.most = most
    lm = load(store="none", num_concurrent=1)
    assert lm.generate_until(asked(clips=1)) == expected
    assert len(chat_server.bodies) == requests
    assert caplog.text.count("of 20 answers to one request (n)") == (most < 20)
    lm.generate_until(asked(clips=1))
    assert len(chat_server.bodies) == (20 if most == 1 else math.ceil(20 / most)) + requests


def test_samples_per_request_bounds_n(load, asked, chat_server):
    load(samples_per_request=6).generate_until(asked(clips=1))
    assert sorted(body.get("n", 1) for body in chat_server.bodies) == [2, 6, 6, 6]


def test_a_sample_has_its_seed_from_its_clip_and_its_number(load, asked, chat_server):
    small = load().generate_until(asked(repeats=5))
    large = load().generate_until(asked(repeats=20))
    assert [large[0:5], large[20:25]] == [small[:5], small[5:]]
    one, other, *more = chat_server.bodies
    assert abs(one["seed"] - other["seed"]) > 20, "clips do not share samples"
    assert {(body["seed"], body["n"]) for body in more} == {(one["seed"] + 5, 15), (other["seed"] + 5, 15)}
    assert 0 <= one["seed"] < 2**31 - 20, "some servers take no more"
    load(seed=8).generate_until(asked(repeats=5))
    assert chat_server.bodies[-1]["seed"] not in (one["seed"], other["seed"])


def test_samples_that_do_not_follow_one_another_are_asked_for_with_their_own_seeds(load, asked, chat_server):
    whole = load(store="none").generate_until(asked(clips=1, repeats=6))
    del chat_server.bodies[:]
    engine = load(store="none").engine
    ((question, _),) = asked_questions(asked(clips=1, repeats=6)).items()
    found = {}
    for _, answers in engine.generate([question.job(7, [0, 1, 3, 5])]):
        found |= answers
    assert {number: str(answer) for number, answer in found.items()} == {n: whole[n] for n in (0, 1, 3, 5)}
    assert sorted(body.get("n", 1) for body in chat_server.bodies) == [1, 1, 2]


def test_an_adaptive_clip_is_asked_for_in_rounds_until_it_is_settled(load, asked, chat_server):
    requests = asked(clips=3)
    labels = ["angry", "happy", "neutral", "sad"]
    rule = {"stop_rule": {"confidence": 0.7, "round": 4, "labels": labels, "synonyms": {}}}
    for request in {id(request): request for request in requests}.values():
        request.arguments = (*request.args[:2], {**request.args[2], **rule})
    adaptive = load().generate_until(requests)
    drawn = [answer for answer in adaptive if answer.finish != "not_drawn"]
    assert 0 < len(drawn) < 60
    assert sum(body["n"] for body in chat_server.bodies) == len(drawn)
    everything = load(store="none").generate_until(asked(clips=3))
    assert all(one == other for one, other in zip(adaptive, everything, strict=True) if one.finish != "not_drawn")


@pytest.mark.parametrize(("reason", "finish"), [("length", "stop"), ("content_filter", "content_filter")])
def test_an_answer_is_cut_at_a_stop_string_that_the_server_overlooked(reason, finish, load, asked, chat_server):
    reply = {"choices": [{"message": {"content": "happy\nbecause"}, "finish_reason": reason}]}
    chat_server.faults = [(200, {}, reply)]
    (answer,) = load().generate_until(asked(clips=1, repeats=1))
    assert (answer, answer.logprob, answer.n_tokens, answer.finish) == ("happy", None, None, finish)


# ---------------------------------------------------------------------------------------------- the store


def test_an_answer_that_is_there_is_never_asked_for_again(load, asked, chat_server):
    first = load().generate_until(asked())
    chat_server.stop()
    lm = load()
    assert lm.generate_until(asked()) == first
    info = lm.get_model_info()["ambi"]
    assert (info["store_hits"], info["requests"]) == (40, 0)


@pytest.mark.parametrize(
    "change", [{"seed": 8}, {"extra_body": {"reasoning_effort": "low"}}, {"extra_body": '{"reasoning_effort": "low"}'}]
)
def test_what_answers_depend_on_is_in_their_key(change, load, asked, chat_server):
    load().generate_until(asked(clips=1))
    load(**change).generate_until(asked(clips=1))
    assert len(chat_server.bodies) == 2


def test_failed_clips_are_counted_the_others_kept_and_a_second_run_asks_for_what_is_missing(load, asked, chat_server):
    expected = load(store="none").generate_until(asked(clips=6))
    bad = {body["seed"] for body in chat_server.bodies[1:3]}
    chat_server.faults = [lambda body: refuse("no voice in there") if body["seed"] in bad else None]
    lm = load()
    with pytest.raises(
        AmbiError, match=r"listener failed on 2 of 6 prompts \(.*no voice in there\).* no score.* again"
    ):
        lm.generate_until(asked(clips=6))
    assert lm.get_model_info()["ambi"]["failed"] == 2
    del chat_server.faults[:], chat_server.bodies[:]
    assert load().generate_until(asked(clips=6)) == expected
    assert {body["seed"] for body in chat_server.bodies} == bad


def test_of_a_clip_that_fails_half_way_the_first_half_is_kept(load, asked, chat_server):
    chat_server.most = 1
    chat_server.faults = [None] * 7 + [refuse("busy")]
    with pytest.raises(AmbiError, match="failed on 1 of 1 prompt"):
        load(num_concurrent=1, samples_per_request=1).generate_until(asked(clips=1))
    kept = len(chat_server.bodies) - 1
    del chat_server.bodies[:]
    load().generate_until(asked(clips=1))
    assert kept == 19, "the other requests of the clip went on"
    assert len(chat_server.bodies) == 1


def sampled(*texts, **more):
    return [{"index": n, "message": {"content": text}, **more} for n, text in enumerate(texts)]


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource"])
def test_a_choice_that_failed_is_not_kept_and_asked_for_again(reason, load, asked, chat_server):
    choices = sampled("happy", "half an ans", "sad", finish_reason="stop")
    choices[1]["finish_reason"] = reason
    chat_server.faults = [(200, {}, {"choices": choices})]
    lm = load(max_retries=1)
    answers = lm.generate_until(asked(clips=1, repeats=3))
    assert [str(answer) for answer in answers[::2]] == ["happy", "sad"]
    first, again = chat_server.bodies
    assert (again.get("n", 1), again["seed"]) == (1, first["seed"] + 1)
    assert load().generate_until(asked(clips=1, repeats=3)) == answers
    assert len(chat_server.bodies) == 2


def test_a_choice_that_fails_every_time_fails_its_clip_and_the_others_are_kept(load, asked, chat_server):
    def fail(body):
        choices = sampled(*["happy", "sad"][: body.get("n", 1)], finish_reason="stop")
        choices[-1]["finish_reason"] = "error"
        return 200, {}, {"choices": choices}

    chat_server.faults = [fail]
    with pytest.raises(AmbiError, match=r"failed on 1 of 1 prompt \(the server could not finish the answer\)"):
        load(max_retries=2).generate_until(asked(clips=1, repeats=2))
    assert len(chat_server.bodies) == 3
    chat_server.faults = []
    answers = load().generate_until(asked(clips=1, repeats=2))
    assert answers[0] == "happy"
    assert len(chat_server.bodies) == 4


def test_tokens_without_log_probabilities_are_no_likelihood(load, asked, chat_server):
    tokens = {"content": [{"token": "hap", "logprob": None}, {"token": "py", "logprob": -0.5}]}
    chat_server.faults = [(200, {}, {"choices": sampled("happy", logprobs=tokens, finish_reason="stop")})]
    (answer,) = load().generate_until(asked(clips=1, repeats=1))
    assert (answer, answer.logprob, answer.n_tokens) == ("happy", None, 2)


@pytest.mark.parametrize("concurrent", [1, 8])
def test_a_server_that_copies_one_answer_n_times_is_asked_for_each_one(concurrent, load, asked, chat_server, caplog):
    expected = load(store="none").generate_until(asked(clips=5, repeats=4))
    del chat_server.bodies[:]
    answer = chat_server.answer

    def copy(body):
        content = answer(body)
        content["choices"] = [{**content["choices"][0], "index": n} for n in range(body.get("n", 1))]
        return content

    chat_server.answer = copy
    assert load(store="none", num_concurrent=concurrent).generate_until(asked(clips=5, repeats=4)) == expected
    if concurrent == 1:
        assert caplog.text.count("gives 4 equal answers to one request (n)") == 3
        assert caplog.text.count("copies one answer n times: each answer takes a request of its own") == 1
        assert len(chat_server.bodies) == 5 * 4, "the first of the copies is a sample, and is not asked for again"


def test_of_a_sure_model_a_few_clips_only_are_asked_for_one_by_one(load, asked, chat_server, caplog):
    chat_server.answer = lambda body: {"choices": sampled(*["sad"] * body.get("n", 1), finish_reason="stop")}
    answers = load(num_concurrent=1).generate_until(asked(clips=8, repeats=4))
    assert set(answers) == {"sad"}
    assert sorted(body.get("n", 1) for body in chat_server.bodies) == [1] * (3 * 3 + 5) + [4] * 8
    assert caplog.text.count("may be copies") == 4


def test_copies_are_found_after_clips_of_which_the_model_was_sure(load, asked, chat_server):
    expected = load(store="none", num_concurrent=1).generate_until(asked(clips=6, repeats=4))
    easy = {json.dumps(body["messages"]) for body in chat_server.bodies[:4]}
    answer = chat_server.answer

    def copy(body):
        content = answer(body)
        content["choices"] = [{**content["choices"][0], "index": n} for n in range(body.get("n", 1))]
        if json.dumps(body["messages"]) in easy:
            content["choices"] = sampled(*["sad"] * body.get("n", 1), finish_reason="stop")
        return content

    chat_server.answer = copy
    drawn = load(store="none", num_concurrent=1).generate_until(asked(clips=6, repeats=4))
    pools = [drawn[start : start + 4] for start in range(0, 24, 4)]
    assert pools.count(["sad"] * 4) == 4
    assert all(pool in (["sad"] * 4, expected[4 * n : 4 * n + 4]) for n, pool in enumerate(pools))


def test_answers_that_equal_the_copies_by_chance_are_drawn_again_when_copies_are_found_later(load, asked, chat_server):
    """Clips 0 to 2 are easy; of clip 3 the first two answers are equal by chance; clip 4 shows that they are copies."""
    wanted = [["sad"] * 4, ["sad"] * 4, ["sad"] * 4, ["sad", "sad", "happy", "angry"], ["sad", "happy", "sad", "sad"]]
    clips, first_seeds = [], {}

    def copy(body):
        clip = json.dumps(body["messages"])
        if clip not in clips:
            clips.append(clip)
        number = body["seed"] - first_seeds.setdefault(clip, body["seed"])
        return {"choices": sampled(*[wanted[clips.index(clip)][number]] * body.get("n", 1), finish_reason="stop")}

    chat_server.answer = copy
    drawn = load(num_concurrent=1).generate_until(asked(clips=5, repeats=4))
    pools = [drawn[start : start + 4] for start in range(0, 20, 4)]
    assert sorted(pools) == sorted(wanted)
    sent = len(chat_server.bodies)
    assert load().generate_until(asked(clips=5, repeats=4)) == drawn
    assert len(chat_server.bodies) == sent


def test_answers_that_are_held_back_are_stored_as_soon_as_a_request_brings_different_ones(load, asked, chat_server):
    """Clips 0 to 3 are easy, so some answers to clip 3 are held back; clip 4 shows that the server draws."""
    clips = []

    def draw(body):
        clip = json.dumps(body["messages"])
        if clip not in clips:
            clips.append(clip)
        drawn = ["sad"] * 4
        if len(clips) == 5:
            drawn = ["sad", "happy", "sad", "angry"]
            chat_server.faults = [(401, {}, {"error": {"message": "no such key"}})]
        return {"choices": sampled(*drawn[: body.get("n", 1)], finish_reason="stop")}

    chat_server.answer = draw
    with pytest.raises(AmbiError, match="no such key"):
        load(num_concurrent=1).generate_until(asked(clips=6, repeats=4))
    sent = len(chat_server.bodies)
    load(num_concurrent=1).generate_until(asked(clips=6, repeats=4))
    assert {json.dumps(body["messages"]) for body in chat_server.bodies[sent:]} == {clips[5]}


@pytest.mark.parametrize("end", ["error", "Ctrl-C"])
def test_answers_that_are_held_back_are_stored_when_the_run_ends_early(end, load, asked, chat_server, monkeypatch):
    """Clips 0 to 2 are sure, so answers to clip 3 are held back; the run ends at clip 4."""
    monkeypatch.setattr(concurrency, "_ending", None)
    clips = []

    def draw(body):
        clip = json.dumps(body["messages"])
        if clip not in clips:
            clips.append(clip)
            if len(clips) == 5 and end == "Ctrl-C":
                concurrency.finish(10, lambda: pytest.fail("ended"))
            elif len(clips) == 5:
                chat_server.faults = [(401, {}, {"error": {"message": "no such key"}})]
        return {"choices": sampled(*["sad"] * body.get("n", 1), finish_reason="stop")}

    chat_server.answer = draw
    with pytest.raises((AmbiError, pytest.fail.Exception), match=r"no such key|ended"):
        load(num_concurrent=1).generate_until(asked(clips=6, repeats=4))
    monkeypatch.setattr(concurrency, "_ending", None)
    sent = len(chat_server.bodies)
    load(num_concurrent=1).generate_until(asked(clips=6, repeats=4))
    assert {json.dumps(body["messages"]) for body in chat_server.bodies[sent:]} == {clips[4], clips[5]}


def test_one_withheld_answer_for_several_does_not_show_that_a_server_gives_only_one(load, asked, chat_server):
    withheld = {"choices": sampled("", finish_reason="content_filter")}
    chat_server.faults = [(200, {}, withheld)]
    answers = load(num_concurrent=1).generate_until(asked(clips=2, repeats=4))
    assert [body["n"] for body in chat_server.bodies] == [4, 3, 4]
    assert [answer.finish for answer in answers].count("content_filter") == 1


def test_what_a_filter_withheld_is_not_taken_for_copies(load, asked, chat_server):
    refused = {"error": {"message": "withheld", "code": "content_filter"}}
    chat_server.faults = [lambda body: (400, {}, refused)]
    lm = load()
    answers = lm.generate_until(asked(clips=2, repeats=20))
    assert {(str(answer), answer.finish) for answer in answers} == {("", "content_filter")}
    assert len(chat_server.bodies) == 2
    assert lm.get_model_info()["ambi"]["content_filtered"] == 40


# ---------------------------------------------------------------------------------------------- who answered


@pytest.mark.parametrize("batch_size", [1, 8])
def test_answers_of_another_model_are_told_now_and_when_they_come_from_the_store(
    batch_size, load, asked, chat_server, caplog
):
    chat_server.named = ["listener-2026-01-31", "cheap"]
    lm = load(num_concurrent=batch_size)
    first = lm.generate_until(asked(clips=4))
    info = lm.get_model_info()["ambi"]
    assert info["answered_as"] == {"listener-2026-01-31": 2, "cheap": 2}
    assert caplog.text.count("answers as 'cheap', but 'listener' was asked for") == 1
    (told,) = other_models(info)
    assert told == "'listener' was asked for, but the server named another model: 'cheap' (2 replies)."
    chat_server.stop()
    lm = load()
    assert lm.generate_until(asked(clips=4)) == first
    (told,) = other_models(json.loads(json.dumps(lm.get_model_info()["ambi"])))
    assert told == "'listener' was asked for, but the server named another model: 'cheap' (40 stored answers)."
    results = {"results": {}, "configs": {}, "config": {"ambi": lm.get_model_info()["ambi"]}}
    assert f"ANOTHER MODEL: {told}" in readable(lambda *_: "")(results)


@pytest.mark.parametrize("named", [None, 7, "", "listener", "Listener-latest"])
def test_a_reply_that_names_no_other_model_is_told_nowhere(named, load, asked, chat_server, caplog):
    chat_server.named = [named]
    lm = load()
    lm.generate_until(asked(clips=1))
    assert other_models(lm.get_model_info()["ambi"]) == []
    assert "answers as" not in caplog.text


@pytest.mark.parametrize("change", ["scheme", "host", "port", "path", "kind"])
def test_another_address_or_kind_of_server_never_meets_an_old_answer(change, load, asked, chat_server, monkeypatch):
    url, host = chat_server.url, chat_server.url.split("/")[2]
    others = {
        "scheme": url.replace("http:", "https:"),
        "host": url.replace("127.0.0.1", "localhost"),
        "port": url.replace(host, "127.0.0.1:1"),
        "path": f"{url}/v1",
        "kind": url,
    }
    ((question, _),) = asked_questions(asked(clips=1)).items()
    before = load().cache.pool_key(question, 7)
    if change == "kind":
        chat_server.owner = "ambi-eval-bridge"
    else:
        monkeypatch.setattr("ambi_eval.engines.openai.client.ChatServer.kind", "chat")
    assert load(base_url=others[change]).cache.pool_key(question, 7) != before


def test_a_key_that_the_server_repeats_reaches_neither_answers_nor_store(
    load, asked, chat_server, monkeypatch, tmp_path
):
    key = "sk-not-to-be-seen-0123456789"
    monkeypatch.setenv("LISTENER_KEY", key)
    tokens = {"content": [{"token": key, "logprob": -0.5}]}
    chat_server.faults = [(200, {}, {"choices": sampled(f"happy {key}", logprobs=tokens, finish_reason="stop")})]
    lm = load(api_key_env="LISTENER_KEY")
    (answer,) = lm.generate_until(asked(clips=1, repeats=1))
    assert answer == "happy [key]"
    assert chat_server.keys == [f"Bearer {key}"]
    lm.cache.store.close()
    assert all(key.encode() not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_what_the_provider_refuses_of_the_sampling_is_in_the_results(load, asked, chat_server):
    chat_server.faults = [
        lambda body: (400, {}, {"error": {"message": "no", "param": "temperature"}}) if "temperature" in body else None
    ]
    lm = load()
    assert lm.get_model_info()["ambi"]["sampling"] == "unknown"
    lm.generate_until(asked())
    assert lm.get_model_info()["ambi"]["sampling"] == "fixed by the provider"
    from_store = load()
    from_store.generate_until(asked())
    assert from_store.get_model_info()["ambi"]["sampling"] == "fixed by the provider"


def test_what_the_provider_refuses_is_in_the_results_where_notes_cannot_be_written(load, tmp_path, monkeypatch):
    (tmp_path / "servers.json").mkdir()
    monkeypatch.setenv("AMBI_DATA", str(tmp_path))
    lm = load()
    lm.engine.server.refused.add("temperature")
    assert lm.engine.capabilities.sampling_is == "fixed by the provider"


def test_an_answer_that_a_filter_withheld_is_an_answer(load, asked, chat_server):
    chat_server.faults = [(200, {}, {"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]})]
    lm = load()
    (answer,) = lm.generate_until(asked(clips=1, repeats=1))
    assert (answer, answer.finish) == ("", "content_filter")
    assert lm.get_model_info()["ambi"]["content_filtered"] == 1
    lm = load()
    (again,) = lm.generate_until(asked(clips=1, repeats=1))
    assert (again, again.finish) == ("", "content_filter")
    assert lm.get_model_info()["ambi"]["content_filtered"] == 1
    assert len(chat_server.bodies) == 1


# ---------------------------------------------------------------------------------------------- beams, likelihoods


def test_beams_and_likelihoods_are_refused_before_anything_is_asked(load, ask, asked, voice, chat_server):
    beams = ask(WHICH, voice(0.3), repeats=3, num_beams=3)
    with pytest.raises(
        AmbiError, match=r"task: a model behind a chat server has no beam search.* \(sc, sc_shares\).* bridge"
    ):
        load().generate_until([*asked(), beams, beams, beams])
    with pytest.raises(AmbiError, match=r"task: a model behind a chat server gives no likelihoods.* use sc.* bridge"):
        load().loglikelihood([ask(WHICH, voice(0.3), continuation="happy", end_of_turn=True)])
    assert chat_server.bodies == []


@pytest.fixture
def bridge(chat_server):
    chat_server.owner = "ambi-eval-bridge"
    return chat_server


def test_the_bridge_is_told_which_samples_are_wanted(load, asked, bridge):
    load().generate_until(asked(clips=1, repeats=4))
    (sent,) = bridge.bodies
    assert (sent["ambi_samples"], sent["ambi_seed"], len(sent["ambi_audio_digests"])) == ([0, 1, 2, 3], 7, 1)


def test_the_bridge_gives_beams_with_their_likelihoods(load, ask, voice, bridge):
    choices = [
        {"message": {"content": text}, "finish_reason": "stop", "ambi_logprob": logprob, "ambi_n_tokens": 2}
        for text, logprob in (("sad", -1.0), ("happy", -2.0))
    ]
    bridge.faults = [(200, {}, {"choices": choices, "ambi_beams": 3})]
    beams = load().generate_until([ask(WHICH, voice(0.3), repeats=2, num_beams=3)] * 2)
    assert [(beam, beam.logprob, beam.n_tokens) for beam in beams] == [("sad", -1.0, 2), ("happy", -2.0, 2)]
    assert (bridge.bodies[0]["n"], bridge.bodies[0]["ambi_beams"]) == (2, 3)


@pytest.mark.parametrize(
    ("echo", "likelihood", "number"), [({}, -1.0, 2), ({"ambi_beams": 2}, None, 2), ({"ambi_beams": 2}, -1.0, 1)]
)
def test_a_bridge_without_beams_is_refused(echo, likelihood, number, load, ask, voice, bridge):
    choices = [{"message": {"content": "sad"}, "ambi_logprob": likelihood}] * number
    bridge.faults = [(200, {}, {"choices": choices, **echo})]
    with pytest.raises(AmbiError, match="no beam search with likelihoods"):
        load().generate_until([ask(WHICH, voice(0.3), repeats=2, num_beams=2)] * 2)


def test_the_bridge_gives_likelihoods_which_are_kept(load, ask, voice, bridge):
    requests = [ask(WHICH, voice(0.3), continuation=label, end_of_turn=True) for label in ("happy", "sad")]
    bridge.faults = [(200, {}, {"ambi_loglikelihoods": [[-1.5, True], [-2.5, False]]})]
    assert load().loglikelihood(requests) == [(-1.5, True), (-2.5, False)]
    assert bridge.bodies[0]["ambi_continuations"] == ["happy", "sad"]
    bridge.close()
    assert load().loglikelihood(requests) == [(-1.5, True), (-2.5, False)]


def test_a_bridge_without_likelihoods_is_refused(load, ask, voice, bridge):
    with pytest.raises(AmbiError, match="gives no likelihoods of given answers; use sc"):
        load().loglikelihood([ask(WHICH, voice(0.3), continuation="happy", end_of_turn=True)])
    with pytest.raises(AmbiError, match="whole answers only; set end_of_turn: true in the requests"):
        load().loglikelihood([ask(WHICH, voice(0.3), continuation="happy")])


def test_clips_whose_likelihoods_failed_are_counted(load, ask, voice, bridge):
    requests = [ask(WHICH, voice(0.3, seed), continuation="happy", end_of_turn=True) for seed in range(2)]
    good = (200, {}, {"ambi_loglikelihoods": [[-1.5, True]]})
    bridge.faults = [good, refuse("out of memory")]
    with pytest.raises(AmbiError, match=r"failed on 1 of 2 prompts \(.*out of memory"):
        load().loglikelihood(requests)
    bridge.faults = [good]
    assert load().loglikelihood(requests) == [(-1.5, True)] * 2
    assert len(bridge.bodies) == 3


# ---------------------------------------------------------------------------------------------- results, mistakes


def test_what_was_asked_and_what_it_cost_stands_with_the_results(load, asked):
    lm = load(input_price=2.0, output_price=10.0, audio_price=40.0)
    lm.generate_until(asked())
    info = lm.get_model_info()["ambi"]
    counts = {
        "requests": 2,
        "retries": 0,
        "failed": 0,
        "prompt_tokens": 200,
        "generated_tokens": 80,
        "audio_tokens": 160,
    }
    assert counts.items() <= info.items()
    assert info["cost"] == pytest.approx((40 * 2.0 + 160 * 40.0 + 80 * 10.0) / 1e6)
    assert (info["model"], info["seed"], info["verifier"]) == ("listener", 7, "self")
    assert info["system_fingerprints"] == {"fp_1": 2}


def test_without_prices_there_is_no_cost(load, asked):
    lm = load()
    lm.generate_until(asked())
    info = lm.get_model_info()["ambi"]
    assert "cost" not in info
    assert info["audio_seconds"] == pytest.approx(0.6)
    assert cost_line(info) == (
        "listener: 200 prompt tokens (160 of audio), 80 generated, 0.6 s of audio, no price known"
    )


def test_replies_that_count_no_tokens_are_told_and_set_against_max_cost(load, asked, chat_server):
    prices = {"input_price": 1000.0, "output_price": 1000.0, "num_concurrent": 1}
    chat_server.answer = lambda body: {"choices": [{"message": {"content": text}} for text in ("sad", "happy")]}
    with pytest.raises(AmbiError, match=r"0 are spent, requests without a reply or a count of tokens may cost 0.3"):
        load(max_cost=0.4, **prices).generate_until(asked(clips=3, repeats=2))
    assert len(chat_server.bodies) == 1
    lm = load(store="none", **prices)
    lm.generate_until(asked(clips=1, repeats=2))
    assert "0 generated (1 reply without a count of tokens), 0.3 s of audio" in cost_line(lm.get_model_info()["ambi"])


def test_a_run_stops_before_max_cost_and_goes_on_with_a_larger_one(load, asked, chat_server):
    prices = {"input_price": 1000.0, "output_price": 1000.0, "num_concurrent": 1}
    requests = asked(clips=3, repeats=2)  # each at most 256 + 13 + 15 + 32 tokens, and in the end 104
    with pytest.raises(AmbiError, match=r"listener: stopped before max_cost=0.4: 0.104 are spent.*answers are kept"):
        load(max_cost=0.4, **prices).generate_until(requests)
    assert len(chat_server.bodies) == 1
    lm = load(max_cost=0.5, **prices)
    assert len(lm.generate_until(requests)) == 6
    assert len(chat_server.bodies) == 3
    assert lm.get_model_info()["ambi"]["cost"] == pytest.approx(0.208)


def test_a_limit_without_a_price_is_refused_before_anything_is_asked(load, chat_server):
    with pytest.raises(AmbiError, match="max_cost=1: no price of listener is known"):
        load(max_cost=1)
    with pytest.raises(AmbiError, match="leave out store=none"):
        load(max_cost=1, input_price=1, store="none")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"modle": "x"}, "openai-audio: unknown key 'modle', did you mean 'model'"),
        ({"api_key": "sk-1"}, "keys do not belong on the command line; .* api_key_env="),
        ({"model": None}, "needs a model"),
        ({"timeout": "soon"}, "timeout is 'soon'; it must be"),
        ({"requests_per_minute": -1}, "requests_per_minute is -1; it must be more than 0"),
        ({"num_concurrent": 0}, "num_concurrent is 0; it must be more than 0"),
        ({"samples_per_request": 0}, "samples_per_request is 0; it must be more than 0"),
        ({"max_retries": "many"}, "max_retries is 'many'; it must be a"),
        ({"input_price": "free"}, "input_price is 'free'; it must be"),
        ({"extra_body": "{effort"}, "extra_body is '{effort'; it must be JSON"),
        ({"extra_body": "[1]"}, r"extra_body is \[1\]; it must"),
        ({"verifier_base_url": "http://x/v1"}, "verifier=self is no server; give verifier=openai:MODEL"),
    ],
)
def test_a_mistake_is_one_sentence(options, sentence, chat_server):
    with pytest.raises(AmbiError, match=sentence):
        OpenAIAudio(**{"model": "listener", "base_url": chat_server.url, "store": "none", **options})


def test_several_processes_are_refused(load, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(AmbiError, match="runs in one process; leave out torchrun"):
        load()


def test_a_system_message_and_a_question_are_the_context(load):
    history = [{"role": "system", "content": "Be short."}, {"role": "user", "content": WHICH}]
    assert load().apply_chat_template(history) == f"<system>Be short.</system>\n{WHICH}"


# ---------------------------------------------------------------------------------------------- other people's server


@pytest.mark.slow
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_keeps_the_answers_that_are_under_way_unless_it_is_pressed_again(presses, chat_server, tmp_path):
    prepare(tmp_path / "demo")
    fast, answer = threading.Event(), chat_server.answer

    def slow_after_four(body):
        if chat_server.bodies.index(body) >= 4:
            fast.wait(10)
        return answer(body)

    chat_server.answer = slow_after_four
    command = ["lm_eval", "--model", "openai-audio", "--tasks", "ambi_demo_direct", "--limit", "12"]
    arguments = f"model=listener,base_url={chat_server.url},num_concurrent=3"
    run = Script(*command, "--model_args", arguments, environment={"AMBI_DATA": str(tmp_path)})
    while len(chat_server.bodies) < 7:
        time.sleep(0.05)
        assert run.poll() is None, run.error
    time.sleep(0.3)  # the fourth answer is stored
    for _ in range(presses):
        run.send_signal(signal.SIGINT)
        time.sleep(0.3)
    if presses == 1:
        fast.set()
    assert run.wait(8) == 130
    fast.set()
    kept = 7 if presses == 1 else 4
    assert "waiting up to 15 s for the answers to 3 requests under way; press Ctrl-C again" in run.error
    assert run.error.strip().endswith(
        f"stopped; {kept} new answers are kept in {tmp_path / 'candidates.sqlite'}: run the same command to go on"
    )
    assert len(chat_server.bodies) == 7, "no more are asked for"


@pytest.fixture(scope="module")
def transformers_serve():
    """Start `transformers serve` with ambi-tiny; give its address and the model's name."""
    checkpoint = Path(ambi_eval.__file__).parent / "demo" / "ambi-tiny"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", port]
    server = Script("transformers", "serve", checkpoint, *options)
    for _ in range(1200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                break
        except OSError:
            assert server.poll() is None, server.error
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/v1", str(checkpoint)
    server.send_signal(signal.SIGTERM)
    server.wait()


@pytest.mark.slow
def test_transformers_serve_gives_the_greedy_answers_of_the_model(transformers_serve, ask, voice):
    url, checkpoint = transformers_serve
    # Its `stop` needs a tokenizer where it has a processor.
    lm = OpenAIAudio(checkpoint, base_url=url, extra_body={"stop": None}, store="none", num_concurrent=1)
    paths = [voice(0.5, 1), voice(2.0, 2)]
    question = "<audio>Which emotion do you hear? Answer with exactly one word of: angry, happy, neutral, sad."
    contexts = [question, f"<system>Be short.</system>\n{question}"]
    requests = [ask(context, path, until=["\n"], max_gen_toks=8) for path in paths for context in contexts]
    local = HFAudio("ambi-tiny", device="cpu", store="none")
    assert lm.generate_until(requests) == local.generate_until(requests)
    info = lm.get_model_info()["ambi"]
    assert (info["requests"], info["failed"]) == (4, 0)
    assert info["prompt_tokens"] > 4 * 30, "the audio is in there"


@pytest.mark.slow
def test_transformers_serve_gives_one_sample_at_a_time(transformers_serve, ask, voice, caplog):
    url, checkpoint = transformers_serve
    body = {"stop": None, "generation_config": '{"do_sample": true, "temperature": 2.0, "max_new_tokens": 4}'}
    # Requests at the same time share its one random state.
    lm = OpenAIAudio(checkpoint, base_url=url, extra_body=body, seed=3, store="none", num_concurrent=1)
    request = ask(WHICH, voice(0.5, 1), repeats=6, **SAMPLED)
    answers = lm.generate_until([request] * 6)
    assert len(set(answers)) > 1
    assert caplog.text.count("gives 1 of 6 answers to one request (n)") == 1
    again = OpenAIAudio(checkpoint, base_url=url, extra_body=body, seed=3, store="none", num_concurrent=1)
    assert again.generate_until([request] * 6) == answers, "each sample has its own seed"


# ---------------------------------------------------------------------------------------------- the stock command


@pytest.mark.slow
def test_the_stock_command_scores_a_server_and_writes_its_key_nowhere(chat_server, tmp_path):
    key = "sk-not-to-be-seen-0123456789"
    chat_server.faults = [(500, {}, {"error": {"message": f"{key} is too much for me"}})]
    environment = {"OPENAI_API_KEY": key, "LMEVAL_LOG_LEVEL": "DEBUG", "AMBI_DATA": str(tmp_path)}
    prepare(tmp_path / "demo")
    command = ["lm_eval", "--model", "openai-audio", "--tasks", "ambi_demo_sc"]
    command += ["--model_args", f"model=listener,base_url={chat_server.url},max_retries=1", "--limit", "2"]
    command += ["--log_samples", "--output_path", tmp_path / "runs"]
    run = Script(*command, environment=environment)
    printed = run.output()
    assert run.returncode == 0, run.error
    assert "ambi_demo_sc" in printed
    assert set(chat_server.keys) == {f"Bearer {key}"}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"candidates.sqlite", ".json", ".jsonl"} <= {path.name for path in written} | {p.suffix for p in written}
    contents = [*(path.read_bytes() for path in written), printed.encode(), run.error.encode()]
    assert all(key.encode() not in content for content in contents)
    (results,) = (tmp_path / "runs").rglob("results*.json")
    info = json.loads(results.read_text())["config"]["ambi"]
    assert (info["requests"], info["retries"], info["model"]) == (3, 1, "listener")
