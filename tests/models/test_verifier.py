import math

import pytest
import torch

from ambi_eval.audio import AudioSpan, load_audio
from ambi_eval.candidates import Candidate
from ambi_eval.models.hf_audio import HFAudio
from ambi_eval.models.requests import as_messages, asked_pools
from ambi_eval.models.verifier import expected_rating, rate

PROMPT = "<audio>Happy or sad? Somebody said: <candidate> How well does it fit?"
RATINGS = ["1", "2", "3"]


@pytest.fixture(scope="module")
def lm(qwen2_audio_checkpoint):
    return HFAudio(str(qwen2_audio_checkpoint), device="cpu", seed=7, store="none")


@torch.inference_mode()
def test_answers_of_a_pool_are_rated_as_a_full_reading_of_each_one_alone_says(lm, ask, voice):
    path = voice(1.5)
    verifier = {"verifier": {"prompt": PROMPT, "ratings": RATINGS}}
    request = ask("<audio>Which?", path, repeats=3, num_beams=3, max_gen_toks=4)
    request.arguments = (*request.args[:2], {**request.args[2], **verifier})
    answers = lm.generate_until([request] * 3)
    assert lm.get_model_info()["ambi"]["encodes"] == 1, "the clip stays in the cache"
    part = lm.family.audio_part(load_audio(AudioSpan(path), lm.family.sample_rate))
    for answer in answers:
        inputs = lm.family.model_inputs(as_messages(PROMPT.replace("<candidate>", str(answer)), [part]))
        likelihoods = []
        for rating in RATINGS:
            tokens = lm.family.processor.tokenizer.encode(rating, add_special_tokens=False)
            ids = torch.cat([inputs["input_ids"], torch.tensor([tokens])], dim=1)
            logits = lm.family.model(**{**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits
            logprobs = logits[0, -len(tokens) - 1 :].log_softmax(-1)
            total = logprobs[:-1].gather(1, torch.tensor(tokens)[:, None]).sum()
            likelihoods.append(math.exp(total + logprobs[-1, lm.family.end_ids].logsumexp(-1)))
        expected = sum(int(r) * p for r, p in zip(RATINGS, likelihoods, strict=True)) / sum(likelihoods)
        assert answer.rating == pytest.approx(expected, abs=1e-4)


def test_the_order_of_the_candidates_does_not_matter(lm, ask, voice):
    (question,) = asked_pools([ask("<audio>Which?", voice(1.0))])
    candidates = [Candidate(text) for text in ("happy", "sad", "neither", "happy")]
    one = rate(lm.score, question, candidates, PROMPT, RATINGS)
    other = rate(lm.score, question, candidates[::-1], PROMPT, RATINGS)
    assert one.keys() == {"happy", "sad", "neither"}
    assert other == pytest.approx(one, abs=1e-5)


def test_a_candidate_without_finite_likelihoods_gets_no_rating(ask, voice):
    (question,) = asked_pools([ask("<audio>Which?", voice(1.0))])

    def broken(wanted):
        for each in wanted:
            yield each, [(-math.inf if "sad" in each.context else -1.0, False)] * len(RATINGS)

    assert rate(broken, question, [Candidate("happy"), Candidate("sadly")], "<candidate>", RATINGS) == {"happy": 2.0}


def test_the_expected_rating_bears_tiny_likelihoods():
    assert expected_rating([1, 5], [-2000.0, -2000.0]) == 3.0
