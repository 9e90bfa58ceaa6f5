import json
import pickle

import pytest

from ambi_eval.answers.candidate import Candidate, valid_unicode


def test_a_candidate_is_its_text():
    candidate = Candidate("happy", logprob=-1.5, n_tokens=2, finish="stop", number=3)
    assert candidate == "happy"
    assert f"{candidate}!" == "happy!"
    assert {candidate} == {"happy"}


def test_one_argument_makes_a_candidate_as_the_harness_does():
    assert type(Candidate("x"))("gold").logprob is None


def test_pickling_keeps_what_the_text_cannot_carry():
    again = pickle.loads(
        pickle.dumps(
            Candidate("sad", logprob=-2.0, n_tokens=1, finish="length", number=7, rating=4.5, thinking_tokens=9)
        )
    )
    assert (again, again.logprob, again.n_tokens, again.finish) == ("sad", -2.0, 1, "length")
    assert (again.number, again.rating) == (7, 4.5)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("happy", "happy"),
        ("fröhlich \U0001f600", "fröhlich \U0001f600"),
        ("happy \ud83d", "happy \ufffd"),
        ("\ude00 happy", "\ufffd happy"),
        ("\ud83d\ude00", "\U0001f600"),
    ],
)
def test_the_text_of_an_answer_is_valid_unicode_wherever_it_enters(text, valid):
    candidate = Candidate(text)
    assert candidate == valid_unicode(text) == valid
    assert json.dumps(candidate, ensure_ascii=False).encode()
