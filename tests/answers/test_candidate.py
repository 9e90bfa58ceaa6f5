import pickle

from ambi_eval.answers.candidate import Candidate


def test_a_candidate_is_its_text():
    candidate = Candidate("happy", logprob=-1.5, n_tokens=2, finish="stop", number=3)
    assert candidate == "happy"
    assert f"{candidate}!" == "happy!"
    assert {candidate} == {"happy"}


def test_one_argument_makes_a_candidate_as_the_harness_does():
    assert type(Candidate("x"))("gold").logprob is None


def test_pickling_keeps_what_the_text_cannot_carry():
    again = pickle.loads(
        pickle.dumps(Candidate("sad", logprob=-2.0, n_tokens=1, finish="length", number=7, rating=4.5))
    )
    assert (again, again.logprob, again.n_tokens, again.finish) == ("sad", -2.0, 1, "length")
    assert (again.number, again.rating) == (7, 4.5)
