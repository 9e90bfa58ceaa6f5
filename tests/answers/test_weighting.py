import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from support import ROOT

from ambi_eval.answers.candidate import Candidate
from ambi_eval.answers.pool import Reader
from ambi_eval.answers.reducers import Best, Exact, Mean, Vote, Weighted
from ambi_eval.answers.reducers import predict as predict_pools
from ambi_eval.errors import AmbiError

LABELS = ("calm", "tense")


def answer(calm, logprob=None, n_tokens=None, rating=None):
    text = "?" if calm is None else f'{{"calm": {calm}, "tense": {1 - calm}}}'
    return Candidate(text, logprob=logprob, n_tokens=n_tokens, rating=rating)


def predict(cls, answers, **options):
    return predict_pools(cls(**options), LABELS, [Reader(LABELS, "shares").read(answers)])[0]


POOL = [answer(0.25, -1.0, 4, 2.0), answer(0.5, -2.0, 8, 5.0), answer(1.0, -4.0, 32, 3.0)]


@pytest.mark.parametrize(
    ("cls", "options", "weights"),
    [
        (Best, {"by": "logprob"}, [1, 0, 0]),
        (Best, {"by": "mean_logprob"}, [0, 0, 1]),
        (Best, {"by": "rating"}, [0, 1, 0]),
        (Weighted, {"by": "logprob"}, softmax([-1, -2, -4])),
        (Weighted, {"by": "logprob", "temperature": 2.0}, softmax([-0.5, -1, -2])),
        (Weighted, {"by": "mean_logprob"}, softmax([-0.25, -0.25, -0.125])),
        (Weighted, {"by": "rating"}, softmax([2, 5, 3])),
        (Weighted, {"by": "rating", "weighting": "linear"}, [0.2, 0.5, 0.3]),
    ],
)
def test_answers_weigh_what_their_merit_says(cls, options, weights):
    prediction = predict(cls, POOL, **options)
    assert prediction.distribution[0] == pytest.approx(np.dot(weights, [0.25, 0.5, 1.0]))
    assert prediction.diagnostics["ess"] == pytest.approx(1 / np.square(weights).sum())


def test_equal_merits_share_the_first_place():
    prediction = predict(Best, [answer(0.0, -1.0), answer(1.0, -1.0), answer(0.5, -3.0)], by="logprob")
    assert prediction.distribution.tolist() == [0.5, 0.5]


def test_a_failed_answer_weighs_nothing_even_with_the_most_merit():
    prediction = predict(Best, [answer(None, -0.1), answer(0.75, -1.0)], by="logprob")
    assert prediction.distribution[0] == 0.75


def test_an_unrated_answer_keeps_no_weight_and_is_counted():
    prediction = predict(Weighted, [answer(0.0, rating=None), answer(0.75, rating=1.0)], by="rating")
    assert prediction.distribution[0] == 0.75
    assert prediction.diagnostics["unrated"] == 1


@pytest.mark.parametrize("by", ["rating", "logprob", "mean_logprob"])
def test_without_any_merit_it_is_the_unweighted_mean_and_counted(by):
    answers = [answer(0.0), answer(0.75), answer(None)]
    prediction = predict(Weighted, answers, by=by)
    assert prediction.distribution.tolist() == predict(Mean, answers).distribution.tolist()
    assert prediction.diagnostics["unrated"] == 2


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-500, 0)), min_size=1, max_size=7))
def test_temperature_leads_from_the_best_answer_to_the_mean(pool):
    answers = [answer(round(calm, 3), logprob) for calm, logprob in pool]
    cold = predict(Weighted, answers, by="logprob", temperature=1e-9)
    hot = predict(Weighted, answers, by="logprob", temperature=1e12)
    np.testing.assert_allclose(hot.distribution, predict(Mean, answers).distribution, atol=1e-6)
    distinct = sorted({logprob for _, logprob in pool}, reverse=True)
    if len(distinct) == 1 or distinct[0] - distinct[1] > 1e-6:
        np.testing.assert_allclose(cold.distribution, predict(Best, answers, by="logprob").distribution, atol=1e-9)


def test_five_beams_that_are_nearly_as_likely_are_called_uniform():
    answers = [answer(k / 4, -10.0 - 0.01 * k, 40) for k in range(5)]
    diagnostics = predict(Weighted, answers, by="mean_logprob").diagnostics
    assert diagnostics["near_uniform"] == 1
    assert diagnostics["distinct"] == 5
    assert diagnostics["jsd_to_mean"] < 1e-6 < diagnostics["jsd_to_best"]


def test_answers_that_cannot_be_read_do_not_make_equal_weights_unequal():
    answers = [answer(0.0, -10.0), answer(1.0, -10.0), answer(None, -1.0), answer(None, -2.0)]
    diagnostics = predict(Weighted, answers, by="logprob").diagnostics
    assert diagnostics["ess"] == pytest.approx(2)
    assert diagnostics["near_uniform"] == 1
    assert predict(Weighted, [*answers, answer(0.5)], by="logprob").diagnostics["near_uniform"] == 0  # unrated


def test_answers_that_tie_for_the_best_are_compared_with_in_any_order():
    answers = [answer(0.0, -1.0), answer(0.75, -1.0), answer(1.0, -2.0)]
    for order in (answers, answers[::-1]):
        assert predict(Best, order, by="logprob").diagnostics["jsd_to_best"] == 0


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (Best, {"by": "likelihood"}, "by is 'likelihood'; it must be one of logprob"),
        (Best, {"by": None}, "by is 'None'; it must be one of logprob"),
        (Weighted, {"by": "rating", "weighting": "cubic"}, "weighting is 'cubic'"),
        (Weighted, {"by": "logprob", "weighting": "linear"}, "it must be softmax, or linear with `by: rating`"),
        (Weighted, {"by": "rating", "temperature": 0}, "weighting_temperature is 0; it must be a number"),
        (Weighted, {"by": "rating", "temperature": "hot"}, "weighting_temperature is hot"),
    ],
)
def test_an_impossible_weighting_is_refused(cls, options, message):
    with pytest.raises(AmbiError, match=message):
        predict(cls, POOL, **options)


THREE = [answer(0.8, -4.0, 20, 5.0), answer(0.6, -5.0, 20, 3.0), answer(0.1, -6.0, 20, 2.0)]


@pytest.mark.parametrize(
    ("name", "prediction"),
    [
        ("mean", predict(Mean, THREE)),
        ("vote", predict(Vote, THREE)),
        ("best", predict(Best, THREE, by="logprob")),
        ("best", predict(Best, THREE, by="rating")),
        ("weighted", predict(Weighted, THREE, by="logprob")),
        ("length_normalised", predict(Weighted, THREE, by="mean_logprob")),
        ("linear", predict(Weighted, THREE, by="rating", weighting="linear")),
        ("dist", predict_pools(Mean(), LABELS, [Reader(LABELS, "label").read(["calm", "calm", "tense"])])[0]),
        ("exact", Exact(LABELS).predict([np.log(0.06), np.log(0.02)])),
    ],
)
def test_the_worked_example_of_the_docs_is_what_the_pipelines_predict(name, prediction):
    lines = (ROOT / "docs" / "strategies.md").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"- `{name}`"))
    shown = [f"{share:.3f}".removeprefix("0") for share in prediction.distribution]
    assert line.endswith(f"({', '.join(shown)}).")
