"""Each filter of the harness makes what its reducer makes, with the options that YAML gives it."""

from importlib.metadata import entry_points

import numpy as np
import pytest

from ambi_eval.answers import reducers
from ambi_eval.answers.candidate import Candidate
from ambi_eval.answers.pool import Answers, Reader
from ambi_eval.answers.reducers import predict
from ambi_eval.errors import AmbiError
from ambi_eval.filters import drawn, exact, mean, vote, weighted

LABELS = ("calm", "tense")
POOL = [
    Candidate('{"calm": 0.25, "tense": 0.75}', logprob=-1.0, n_tokens=4, rating=2.0),
    Candidate('{"calm": 0.5, "tense": 0.5}', logprob=-2.0, n_tokens=8, rating=5.0),
    Candidate("no idea", logprob=-4.0, n_tokens=32, rating=3.0),
]


@pytest.mark.parametrize(
    ("made_by", "options", "reducer"),
    [
        (mean.Mean, {}, reducers.Mean()),
        (mean.Mean, {"fallback": "uniform"}, reducers.Mean(np.array([0.5, 0.5]))),
        (mean.Mean, {"fallback": "calm"}, reducers.Mean(np.array([1.0, 0.0]))),
        (vote.Vote, {}, reducers.Vote()),
        (weighted.Best, {"by": "rating"}, reducers.Best("rating")),
        (weighted.Weighted, {"by": "logprob"}, reducers.Weighted("logprob")),
        (
            weighted.Weighted,
            {"by": "logprob", "weighting_temperature": 2.0},
            reducers.Weighted("logprob", "softmax", 2.0),
        ),
        (weighted.Weighted, {"by": "rating", "weighting": "linear"}, reducers.Weighted("rating", "linear")),
    ],
)
def test_a_filter_predicts_what_its_reducer_does(made_by, options, reducer):
    (prediction,) = made_by(labels=list(LABELS), readout="shares", **options).apply([POOL], [{}])
    (expected,) = predict(reducer, LABELS, [Reader(LABELS, "shares").read(POOL)])
    assert prediction.distribution.tolist() == expected.distribution.tolist()
    assert prediction.diagnostics == expected.diagnostics
    assert sum(prediction.failed.values()) == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"calibration": "silence"}, {"calibrated": True}),
        ({"length_normalisation": "bytes"}, {"per_byte": True}),
    ],
)
def test_exact_hands_on_its_options(options, expected):
    logprobs = [-1.0, -3.0, -2.0, -1.0]
    (prediction,) = exact.Exact(labels=LABELS, readout="exact", **options).apply(
        [[(logprob, False) for logprob in logprobs]], [{}]
    )
    assert (
        prediction.distribution.tolist() == reducers.Exact(LABELS, **expected).predict(logprobs).distribution.tolist()
    )


def test_answers_that_were_not_drawn_are_left_out():
    (kept,) = drawn.Drawn().apply([["calm", Candidate(finish="not_drawn"), Candidate("tense", finish="stop")]], [{}])
    assert kept == ["calm", "tense"]


def test_answers_are_read_once_for_all_pipelines():
    answers = Answers(["calm", "tense"])
    first, second = (
        made_by(labels=LABELS, readout="label").apply([answers], [{}])[0] for made_by in (mean.Mean, vote.Vote)
    )
    assert first.pool is second.pool


@pytest.mark.parametrize("name", ["ambi_mean", "ambi_vote", "ambi_exact", "ambi_drawn", "ambi_best", "ambi_weighted"])
def test_a_filter_is_found_by_its_name(name):
    (found,) = entry_points(group="lm_eval.filters", name=name)
    assert found.load().__module__.startswith("ambi_eval.filters.")


def test_a_word_for_two_labels_is_refused():
    with pytest.raises(AmbiError, match="stands for the labels"):
        mean.Mean(labels=LABELS, readout="label", synonyms={"calm": ["tense"]})


def test_a_fallback_counts_for_each_answer_that_could_not_be_read():
    def shares(**options):
        (prediction,) = mean.Mean(labels=list(LABELS), readout="shares", **options).apply([POOL], [{}])
        assert prediction.failed == {"no_answer": 1} or sum(prediction.failed.values()) == 1
        return prediction.distribution

    assert shares() == pytest.approx([0.375, 0.625])
    assert shares(fallback="uniform") == pytest.approx([1.25 / 3, 1.75 / 3])
    assert shares(fallback="calm") == pytest.approx([1.75 / 3, 1.25 / 3])
    with pytest.raises(AmbiError, match="fallback is 'clam'; it must be uniform or one of calm, tense, did you mean"):
        shares(fallback="clam")
