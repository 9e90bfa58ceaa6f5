import math

import pytest
import torch

from ambi_eval.answers.candidate import Candidate
from ambi_eval.audio import AudioSpan, load_audio
from ambi_eval.engines.base import Capabilities, Engine, Token, TokenizedAnswer
from ambi_eval.engines.prompt import as_messages
from ambi_eval.filters.mean import Mean
from ambi_eval.filters.weighted import Weighted
from ambi_eval.inference.answer_cache import AnswerCache
from ambi_eval.inference.question import Question, RatingScale
from ambi_eval.inference.verifier import Verifier, expected_rating, rating_of
from ambi_eval.models.hf_audio import HFAudio
from ambi_eval.models.openai_audio import OpenAIAudio

PROMPT = "<audio>Happy or sad? Somebody said: <candidate> How well does it fit?"
RATINGS = ["1", "2", "3"]


@pytest.fixture(scope="module")
def lm(qwen2_audio_checkpoint):
    return HFAudio(str(qwen2_audio_checkpoint), device="cpu", seed=7, store="none")


def rate(engine, path, candidates, prompt=PROMPT):
    """Let an engine rate answers to one clip."""
    question = Question("<audio>Which?", (AudioSpan(path),), scale=RatingScale(prompt, tuple(RATINGS)))
    ((_, ratings),) = Verifier(AnswerCache(None, engine)).rate(iter([(question, candidates)]), engine)
    return ratings


@torch.inference_mode()
def test_answers_of_a_pool_are_rated_as_a_full_reading_of_each_one_alone_says(lm, ask, voice):
    path = voice(1.5)
    verifier = {"verifier": {"prompt": PROMPT, "ratings": RATINGS}}
    request = ask("<audio>Which?", path, repeats=3, num_beams=3, max_gen_toks=4)
    request.arguments = (*request.args[:2], {**request.args[2], **verifier})
    answers = lm.generate_until([request] * 3)
    assert lm.get_model_info()["ambi"]["encodes"] == 1, "the clip stays in the cache"
    part = lm.engine.family.audio_part(load_audio(AudioSpan(path), lm.engine.family.sample_rate))
    for answer in answers:
        inputs = lm.engine.family.model_inputs(as_messages(PROMPT.replace("<candidate>", str(answer)), [part]))
        likelihoods = []
        for rating in RATINGS:
            tokens = lm.engine.family.processor.tokenizer.encode(rating, add_special_tokens=False)
            ids = torch.cat([inputs["input_ids"], torch.tensor([tokens])], dim=1)
            logits = lm.engine.family.model(
                **{**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
            ).logits
            logprobs = logits[0, -len(tokens) - 1 :].log_softmax(-1)
            total = logprobs[:-1].gather(1, torch.tensor(tokens)[:, None]).sum()
            likelihoods.append(math.exp(total + logprobs[-1, lm.engine.family.end_ids].logsumexp(-1)))
        expected = sum(int(r) * p for r, p in zip(RATINGS, likelihoods, strict=True)) / sum(likelihoods)
        assert answer.rating == pytest.approx(expected, abs=1e-4)


def test_the_order_of_the_candidates_does_not_matter(lm, voice):
    candidates = [Candidate(text) for text in ("happy", "sad", "neither", "happy")]
    one = rate(lm.engine, voice(1.0), candidates)
    other = rate(lm.engine, voice(1.0), candidates[::-1])
    assert one.keys() == {"happy", "sad", "neither"}
    assert other == pytest.approx(one, abs=1e-5)


class Unsure(Engine):
    """Finds every rating as likely as the others, and none possible for an answer about sadness."""

    name, identity, capabilities = "unsure", {"model": "unsure"}, Capabilities(likelihoods=True)

    def generate(self, jobs):
        yield from ()

    def loglikelihoods(self, jobs):
        for job in jobs:
            yield job, [(-math.inf if "sad" in job.prompt else -1.0, False)] * len(RATINGS)


def test_a_candidate_without_finite_likelihoods_gets_no_rating(voice):
    candidates = [Candidate("happy"), Candidate("sadly")]
    assert rate(Unsure(None), voice(1.0), candidates, "<candidate>") == {"happy": 2.0}


def test_the_expected_rating_bears_tiny_likelihoods():
    assert expected_rating([1, 5], [-2000.0, -2000.0]) == 3.0


# ---------------------------------------------------------------------------------------------- chat servers


def written(*tokens):
    """Return an answer of these tokens: a text alone, or a text with its alternatives."""
    pairs = [(token, {}) if isinstance(token, str) else token for token in tokens]
    answer = TokenizedAnswer("".join(text for text, _ in pairs))
    answer.tokens = [Token(text, {other: math.log(p) for other, p in likely.items()}) for text, likely in pairs]
    return answer


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("2", 2.0),
        ("2.", 2.0),
        ("**2**", 2.0),
        ("Rating: 3", 3.0),
        ("**Rating:** 3", 3.0),
        ('{"rating": 3}', 3.0),
        ('{"reason": "The voice is calm.", "score": 1}', 1.0),
        ("3/3", 3.0),
        ("2 out of 3", 2.0),
        ("I rate it 2 out of 3.", 2.0),
        ("I would give it a 1, because the voice is flat.", 1.0),
        ("2, on a scale from 1 to 3", 2.0),
        ("On a scale from 1 to 3, I rate this 2", 2.0),
        ("The voice is slow.\nIt fits.\n3", 3.0),
        ("1. The voice is slow.\n2. It is sad.\nRating: 3", 3.0),
        ("1. The voice", None),
        ("1) The voice is slow.\n2) It is sad.", None),
        ("On a scale from 1 to 3, it is hard to say", None),
        ("There are 2 speakers.", None),
        ("Rating: 1 or, on second thought, rating: 3", None),
        ("4", None),
        ("2.5", None),
        ("-1", None),
        ("2%", None),
        ("No idea.", None),
        ("I cannot rate audio.", None),
        ("", None),
    ],
)
def test_the_rating_that_an_answer_asserts(text, rating):
    assert rating_of(Candidate(text), RATINGS) == rating
    assert rating_of(written(*text), RATINGS) == rating, "tokens without alternatives change nothing"


@pytest.mark.parametrize(
    ("answer", "rating"),
    [
        (written(("1", {"1": 0.5, "3": 0.5})), 2.0),
        (written(("1", {"1": 0.25, " 1": 0.25, "3": 0.25, "x": 0.25})), 5 / 3),
        # The first token is no rating, whatever else it might have been.
        (written(("Rating", {"Rating": 0.9, "1": 0.1}), ":", (" 3", {" 3": 0.8, " 1": 0.2})), 2.6),
        (written(("**", {"**": 0.6, "1": 0.4}), ("3", {"3": 1.0}), "**"), 3.0),
        (
            written(("{", {"{": 0.6, "1": 0.4}), '"rating', '":', (" ", {" ": 0.9}), ("3", {"3": 0.5, "2": 0.5}), "}"),
            2.5,
        ),
        (written(("I", {"I": 0.7, "2": 0.3}), " cannot", " listen", "."), None),
        (written(("1", {"1": 0.5, "3": 0.5}), ".", " The", " voice"), None),
    ],
    ids=str,
)
def test_alternatives_count_where_the_written_token_is_the_rating(answer, rating):
    assert rating_of(answer, RATINGS) == (pytest.approx(rating) if rating else None)


def test_a_token_that_may_begin_another_rating_is_not_counted():
    assert rating_of(written(("10", {"10": 0.5, "1": 0.4, "2": 0.1})), ["1", "2", "10"]) == 10.0


def test_tokens_that_are_not_those_of_the_answer_are_ignored():
    answer = written(("1", {"1": 0.5, "3": 0.5}))
    other = TokenizedAnswer("3")
    other.tokens = answer.tokens
    assert rating_of(other, RATINGS) == 3.0


@pytest.fixture
def rated_by_server(chat_server, tmp_path, ask, voice):
    """A model's answers to one clip, rated by a chat server."""

    def answers(path=None, **options):
        store = str(tmp_path / "store.sqlite")
        lm = OpenAIAudio(
            "listener",
            base_url=chat_server.url,
            store=store,
            **{"seed": 7, "max_retries": 0, **options},
        )
        request = ask("<audio>Which?", path or voice(0.3), repeats=8, do_sample=True)
        verifier = {"verifier": {"prompt": PROMPT.replace("How", "Rate it. How"), "ratings": ["1", "3", "5"]}}
        request.arguments = (*request.args[:2], {**request.args[2], **verifier})
        return lm, lm.generate_until([request] * 8)

    return answers


def test_a_chat_server_rates_every_text_once_and_is_not_asked_again(rated_by_server, chat_server):
    _, answers = rated_by_server()
    prompts = [body["messages"][0]["content"][1]["text"] for body in chat_server.bodies[1:]]
    assert sorted(prompts) == sorted(
        f"Happy or sad? Somebody said: {text} Rate it. How well does it fit?" for text in set(answers)
    )
    assert all(body["temperature"] == 0 for body in chat_server.bodies[1:])
    assert {answer.rating for answer in answers} == {3.0}, "the mean of 1 and 5, which the test server finds as likely"
    chat_server.stop()
    lm, again = rated_by_server()
    assert [answer.rating for answer in again] == [answer.rating for answer in answers]
    assert lm.get_model_info()["ambi"]["requests"] == 0


def test_an_answer_whose_rating_failed_stays_unrated_and_is_asked_for_again(rated_by_server, chat_server):
    def no_sad_ones(body):
        content = str(body["messages"])
        return (500, {}, {}) if "said: sad" in content else None

    chat_server.faults = [no_sad_ones]
    lm, answers = rated_by_server()
    assert {str(answer): answer.rating for answer in answers} == {
        text: None if text == "sad" else 3.0 for text in set(answers)
    }
    assert "sad" in answers
    assert lm.get_model_info()["ambi"]["failed"] == 1
    del chat_server.faults[:], chat_server.bodies[:]
    _, again = rated_by_server()
    assert {answer.rating for answer in again} == {3.0}
    assert len(chat_server.bodies) == 1


def test_if_all_ratings_fail_the_strategy_is_the_unweighted_mean_and_says_so(rated_by_server, chat_server):
    chat_server.faults = [lambda body: (500, {}, {}) if "Rate it" in str(body["messages"]) else None]
    _, answers = rated_by_server()
    labels = ["angry", "happy", "neutral", "sad"]
    (weighted,) = Weighted(by="rating", labels=labels, readout="label").apply([answers], [{}])
    (mean,) = Mean(labels=labels, readout="label").apply([answers], [{}])
    assert weighted.distribution.tolist() == mean.distribution.tolist()
    assert weighted.diagnostics["unrated"] == 8


# ---------------------------------------------------------------------------------------------- other verifiers


def verified(lm, ask, path, *ratings):
    """Return three beams that are rated by these scales, each scale for itself."""
    requests = []
    for each in ratings or [RATINGS]:
        request = ask("<audio>Which?", path, repeats=3, num_beams=3, max_gen_toks=4)
        verifier = {"verifier": {"prompt": PROMPT.replace("How", "Rate it. How"), "ratings": each}}
        request.arguments = (*request.args[:2], {**request.args[2], **verifier})
        requests += [request] * 3
    return lm.generate_until(requests)


def test_another_checkpoint_rates_as_it_rates_itself(qwen2_audio_checkpoint, lm, ask, voice, tmp_path):
    store = str(tmp_path / "store.sqlite")
    path = voice(1.5)
    judged = HFAudio(str(qwen2_audio_checkpoint), device="cpu", seed=7, store=store, verifier="ambi-tiny")
    answers = verified(judged, ask, path)
    judge = HFAudio("ambi-tiny", device="cpu", store="none")
    expected = rate(judge.engine, path, answers, PROMPT.replace("How", "Rate it. How"))
    assert {str(answer): answer.rating for answer in answers} == pytest.approx(expected, abs=1e-5)
    own = verified(lm, ask, path)
    assert [str(answer) for answer in own] == [str(answer) for answer in answers]
    assert [answer.rating for answer in own] != [answer.rating for answer in answers]
    info = judged.get_model_info()["ambi"]["verifier"]
    assert (info["name"], info["model_digest"]) == ("ambi-tiny", judge.engine.digest)
    again = HFAudio(str(qwen2_audio_checkpoint), device="cpu", seed=7, store=store, verifier="ambi-tiny")
    assert [answer.rating for answer in verified(again, ask, path)] == [answer.rating for answer in answers]
    assert again.get_model_info()["ambi"]["verifier"]["prefills"] == 0


def test_a_chat_server_rates_the_answers_of_a_checkpoint(qwen2_audio_checkpoint, ask, voice, chat_server, tmp_path):
    lm = HFAudio(
        str(qwen2_audio_checkpoint),
        device="cpu",
        store=str(tmp_path / "store.sqlite"),
        verifier="openai:listener",
        verifier_base_url=chat_server.url,
    )
    answers = verified(lm, ask, voice(1.5))
    assert {answer.rating for answer in answers if answer} == {1.0, None}, "a written 4 or 5 is not among the ratings"
    info = lm.get_model_info()["ambi"]["verifier"]
    assert info["name"] == "listener"
    assert info["requests"] == len(chat_server.bodies) == len({answer for answer in answers if answer})


def test_a_pool_that_two_strategies_share_is_rated_once(qwen2_audio_checkpoint, ask, voice, chat_server):
    by_server = {"verifier": "openai:listener", "verifier_base_url": chat_server.url}
    for options in ({}, by_server):
        lm = HFAudio(str(qwen2_audio_checkpoint), device="cpu", store="none", seed=7, **options)
        once = verified(lm, ask, voice(1.5))
        before, asked = lm.engine.scheduler.counts["prefills"], len(chat_server.bodies)
        twice = verified(lm, ask, voice(1.5), RATINGS, RATINGS)
        assert [answer.rating for answer in twice] == [answer.rating for answer in once] * 2
        assert (lm.engine.scheduler.counts["prefills"], len(chat_server.bodies)) == (2 * before, 2 * asked)
    other = verified(lm, ask, voice(1.5), RATINGS, ["1", "2", "3", "4", "5"])
    assert [answer.rating for answer in other[:3]] == [answer.rating for answer in once]
    assert len(chat_server.bodies) == 4 * asked


def test_a_checkpoint_rates_the_answers_of_a_chat_server(rated_by_server, voice):
    lm, answers = rated_by_server(voice(0.4), verifier="ambi-tiny")
    assert all(1 <= answer.rating <= 5 for answer in answers)
    assert lm.get_model_info()["ambi"]["verifier"]["model_type"] == "qwen2_audio"
