"""`openai-audio` in batch mode: nothing is lost and nothing is paid twice, whatever the server does."""

import json

import pytest
from support.batch_server import BatchTestServer

from ambi_eval.batches import run
from ambi_eval.engines.openai.batches import ChatBatches
from ambi_eval.errors import AmbiError, NotYetError
from ambi_eval.models.openai_audio import OpenAIAudio

WHICH = "<audio>Which emotion?"
SAMPLED = {"do_sample": True, "temperature": 1.0, "until": ["\n"], "max_gen_toks": 16}


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("AMBI_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(run, "FIRST_PAUSE", 0.01)
    server = BatchTestServer()
    yield server
    server.close()


@pytest.fixture
def load(server):
    def model(**options):
        return OpenAIAudio(
            "listener", **{"base_url": server.url, "seed": 7, "max_retries": 0, "batch": True, **options}
        )

    return model


@pytest.fixture
def asked(ask, voice):
    def requests(clips=3, repeats=4, first=0, **kwargs):
        seeds = range(first, first + clips)
        each = [ask(WHICH, voice(0.3, seed), repeats=repeats, **{**SAMPLED, **kwargs}) for seed in seeds]
        return [request for request in each for _ in range(repeats)]

    return requests


@pytest.fixture
def open_batches(tmp_path):
    return lambda: sorted((tmp_path / "data" / "batches").glob("*.json*"))


def test_answers_are_those_of_single_requests(load, asked, server, open_batches, tmp_path):
    requests = asked() + asked(do_sample=False)
    lm = load()
    answers = lm.generate_until(requests)
    assert len(server.batches) == 1
    assert open_batches() == []
    single = load(base_url=server.chat.url, batch=False, store=str(tmp_path / "single.sqlite"))
    assert [str(each) for each in answers[12:]] == [str(each) for each in single.generate_until(requests)[12:]]
    assert len(set(answers[:4])) > 1
    info = lm.get_model_info()["ambi"]
    assert (info["prompt_tokens"], info["generated_tokens"]) == (600, 3 * 8 + 3 * 2)
    assert info["audio_seconds"] == pytest.approx(6 * 0.3)
    assert load().generate_until(requests) == answers
    assert len(server.batches) == 1, "from the store"


def test_a_slow_batch_is_picked_up_by_the_same_command_later(load, asked, server, open_batches):
    server.polls = 2
    requests = asked()
    for _ in range(2):
        with pytest.raises(NotYetError, match=r"still works on 3 requests.*run the same command later"):
            load(batch_wait=0).generate_until(requests)
    assert len(open_batches()) == 1
    assert len(load(batch_wait=0).generate_until(requests)) == 12
    assert (len(server.batches), len(server.answered), open_batches()) == (1, 3, [])


def test_waiting_is_the_rule(load, asked, server):
    server.polls = 5
    assert len(load().generate_until(asked())) == 12
    assert len(server.batches) == 1


def test_a_batch_whose_reply_was_lost_is_found_at_the_server(load, asked, server):
    server.lose_reply = True
    requests = asked()
    with pytest.raises(AmbiError, match=r"took no batch .* what was sent is noted: run the same command again"):
        load().generate_until(requests)
    assert len(load().generate_until(requests)) == 12
    assert (len(server.batches), len(server.answered)) == (1, 3)


def test_a_batch_that_never_arrived_is_sent(load, asked, server, monkeypatch):
    def lost(*args):
        raise KeyboardInterrupt

    requests = asked()
    with monkeypatch.context() as patch:
        patch.setattr(ChatBatches, "create", lost)
        with pytest.raises(KeyboardInterrupt):
            load().generate_until(requests)
    assert server.batches == {}
    assert len(load().generate_until(requests)) == 12
    assert len(server.answered) == 3


def test_an_interrupted_collection_goes_on(load, asked, server, monkeypatch):
    requests = asked()
    lm, kept = load(), []
    keep = lm.cache.keep_answers

    def interrupt(*args):
        if kept:
            raise KeyboardInterrupt
        kept.append(args)
        keep(*args)

    monkeypatch.setattr(lm.cache, "keep_answers", interrupt)
    with pytest.raises(KeyboardInterrupt):
        lm.generate_until(requests)
    assert len(load().generate_until(requests)) == 12
    assert (len(server.batches), len(server.answered)) == (1, 3)


def test_a_server_may_forget_a_batch_for_a_while(load, asked, server):
    server.forgotten = run.UNKNOWN_IN_A_ROW - 1
    assert len(load().generate_until(asked())) == 12
    assert len(server.answered) == 3


def test_a_lost_batch_is_not_sent_again_unless_the_user_says_so(load, asked, server, open_batches):
    server.forgotten = 100
    requests = asked()
    for _ in range(2):
        with pytest.raises(AmbiError, match=r"does not know the batch batch-0 any more .*may have been paid; delete "):
            load().generate_until(requests)
    assert len(server.answered) == 3
    server.forgotten = 0
    open_batches()[0].unlink()
    assert len(load().generate_until(requests)) == 12
    assert len(server.answered) == 6


@pytest.mark.parametrize("fault", [(500, {"message": "overloaded"}), "missing"], ids=["fails", "missing"])
def test_lines_that_failed_are_asked_for_by_the_next_run_and_only_they(load, asked, server, fault):
    requests = asked()
    seen = []

    def first(body):
        seen.append(body)
        return fault if len(seen) == 2 else None

    server.line_fault = first
    with pytest.raises(AmbiError, match=r"failed on 1 of 3 prompts \((overloaded|the batch batch-0 ended without it)"):
        load().generate_until(requests)
    server.line_fault = lambda body: None
    assert len(load().generate_until(requests)) == 12
    assert (len(server.batches), len(server.answered)) == (2, 3)


def test_a_field_that_a_line_refuses_is_left_out_in_a_second_batch(load, asked, server):
    server.line_fault = lambda body: (400, {"message": "x", "param": "logprobs"}) if "logprobs" in body else None
    assert len(load().generate_until(asked())) == 12
    assert (len(server.batches), len(server.answered)) == (2, 3)


def test_an_expired_batch_gives_what_it_has(load, asked, server):
    server.status = "expired"
    server.line_fault = lambda body: "missing" if len(server.answered) >= 2 else None
    with pytest.raises(AmbiError, match=r"failed on 1 of 3 prompts \(.*ended without it \(expired\)"):
        load().generate_until(asked())
    server.line_fault = lambda body: None
    assert len(load().generate_until(asked())) == 12
    assert len(server.answered) == 3


def test_requests_of_another_task_in_the_same_batch_wait_for_it(load, asked, server, open_batches):
    server.polls = 1
    both = asked(clips=2) + asked(clips=1, first=2)
    with pytest.raises(NotYetError):
        load(batch_wait=0).generate_until(both)
    assert len(load().generate_until(asked(clips=1, first=2))) == 4
    assert len(json.loads(open_batches()[0].read_text())["keys"]) == 2
    assert len(load().generate_until(both)) == 12
    assert (len(server.batches), len(server.answered)) == (1, 3)


def test_a_large_job_is_split(load, asked, server, monkeypatch):
    monkeypatch.setattr(ChatBatches, "most_requests", 2)
    assert len(load().generate_until(asked())) == 12
    assert (len(server.batches), len(server.answered)) == (2, 3)


def test_what_max_cost_does_not_allow_is_not_sent(load, asked, server):
    prices = {"input_price": 1000.0, "output_price": 1000.0}
    with pytest.raises(AmbiError, match=r"stopped before max_cost=0\.6"):
        load(max_cost=0.6, **prices).generate_until(asked())
    assert len(server.answered) == 1, "one may cost up to 0.348"
    assert len(load(**prices).generate_until(asked())) == 12
    assert len(server.answered) == 3


def test_what_a_batch_cost_counts_and_no_longer_what_it_could_have_cost(load, asked, server):
    lm = load(max_cost=0.6, input_price=1000.0, output_price=1000.0)
    for first in range(3):
        lm.generate_until(asked(clips=1, first=first))
    budget = lm.engine.server.budget
    assert len(server.answered) == 3, "each may cost up to 0.348"
    assert (budget._under_way, budget.unanswered) == (0, 0)
    assert 0 < budget.spent < 0.6


def test_a_server_without_batches_is_one_sentence(load, asked, server):
    with pytest.raises(AmbiError, match=r"took no batch .* without batch=true if it has no batch mode"):
        load(base_url=server.chat.url.replace("/v1", "/none")).generate_until(asked())


def test_batches_need_the_store(load):
    with pytest.raises(AmbiError, match="batch=true needs the store"):
        load(store="none")
