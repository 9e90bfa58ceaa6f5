import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from ambi_eval.answers import reducers
from ambi_eval.answers.candidate import Candidate
from ambi_eval.answers.pool import Pool, Reader, subsets
from ambi_eval.answers.reducers import Exact, Mean, Reducer, Vote, predict

LABELS = ("angry", "happy", "sad")
# All reducers but those that need a merit, which test_weighting.py tests. The laws below hold for each.
REDUCERS = [
    each
    for each in Reducer.__subclasses__()
    if each.__module__ == reducers.__name__ and not issubclass(each, reducers.Weighting)
]


def one(cls, answers, readout="label"):
    return predict(cls(), LABELS, [Reader(LABELS, readout).read(answers)])[0]


@pytest.mark.parametrize(
    ("cls", "readout", "answers", "expected"),
    [
        (Mean, "label", ["happy", "happy", "sad", "angry"], [0.25, 0.5, 0.25]),
        (Mean, "label", ["happy", "", "no idea", "sad"], [0, 0.5, 0.5]),
        (Mean, "shares", ['{"angry": 1}', '{"happy": 0.5, "sad": 0.5}'], [0.5, 0.25, 0.25]),
        (Vote, "label", ["happy", "happy", "sad"], [0, 1, 0]),
        (Vote, "label", ["happy", "sad"], [0, 0.5, 0.5]),
        (Vote, "shares", ['{"angry": 0.6, "sad": 0.4}', '{"angry": 0.5, "sad": 0.5}', '{"sad": 1}'], [0.5, 0, 0.5]),
        (Vote, "shares", ['{"angry": 0.9, "sad": 0.1}', '{"sad": 0.6, "happy": 0.4}', '{"sad": 1}'], [0, 0, 1]),
    ],
)
def test_a_pool_becomes_one_distribution(cls, readout, answers, expected):
    np.testing.assert_allclose(one(cls, answers, readout).distribution, expected)


@pytest.mark.parametrize("cls", REDUCERS)
def test_a_pool_in_which_everything_fails_is_invalid_and_counted(cls):
    prediction = one(cls, ["", "", "who knows"])
    assert prediction.invalid
    assert np.isnan(prediction.distribution).all()
    assert sum(prediction.failed.values()) == 3
    assert json.loads(str(prediction))["shares"] is None


def test_failed_answers_are_left_out_of_the_mean_and_counted():
    prediction = one(Mean, ["happy", "???"])
    assert prediction.distribution.tolist() == [0, 1, 0]
    assert sum(prediction.failed.values()) == 1


@given(st.lists(st.sampled_from([*LABELS, "nothing"]), min_size=1, max_size=12), st.randoms())
def test_the_order_of_the_answers_does_not_matter(answers, random):
    shuffled = random.sample(answers, len(answers))
    for cls in REDUCERS:
        np.testing.assert_allclose(one(cls, answers).distribution, one(cls, shuffled).distribution, atol=1e-12)


@given(st.lists(st.sampled_from([*LABELS, "nothing"]), min_size=2, max_size=9), st.data())
def test_a_subset_predicts_what_a_pool_of_these_answers_would(answers, data):
    n = data.draw(st.integers(1, len(answers)))
    for cls in REDUCERS:
        members_of = subsets(len(answers), n)
        whole = one(cls, answers)
        at = whole.reducer.reduce(whole.pool, members_of)
        for members, row in zip(members_of, at, strict=True):
            alone = one(cls, [a for a, member in zip(answers, members, strict=True) if member])
            np.testing.assert_allclose(row, alone.distribution, atol=1e-12)


@pytest.mark.parametrize(("size", "n", "count"), [(1, 1, 1), (5, 5, 1), (20, 1, 20), (20, 3, 66), (6, 3, 20)])
def test_subsets_are_all_there_are_or_about_64_and_the_same_every_time(size, n, count):
    members = subsets(size, n)
    assert members.shape == (count, size)
    assert (members.sum(axis=1) == n).all()
    subsets.cache_clear()
    assert (members == subsets(size, n)).all()


def test_exact_normalises_the_likelihoods_and_says_how_much_mass_they_hold():
    logprobs = np.log([0.4, 0.2, 0.2])
    prediction = Exact(LABELS).predict(logprobs)
    np.testing.assert_allclose(prediction.distribution, [0.5, 0.25, 0.25])
    assert prediction.diagnostics["label_mass"] == pytest.approx(0.8)


def test_exact_takes_the_mean_over_rotations():
    logprobs = np.log([[0.6, 0.2, 0.2], [0.1, 0.1, 0.2]]).ravel()
    prediction = Exact(LABELS).predict(logprobs)
    np.testing.assert_allclose(prediction.distribution, [(0.6 + 0.25) / 2, (0.2 + 0.25) / 2, (0.2 + 0.5) / 2])
    assert prediction.diagnostics["label_mass"] == pytest.approx(0.7)


def test_exact_is_calibrated_by_what_the_model_says_about_silence():
    logprobs = np.log([[0.6, 0.2, 0.2], [0.3, 0.1, 0.05]]).ravel()
    exact = Exact(LABELS, calibrated=True)
    prediction = exact.predict(logprobs)
    np.testing.assert_allclose(prediction.distribution, [0.25, 0.25, 0.5])
    assert prediction.diagnostics["label_mass"] == pytest.approx(1.0)


def test_exact_divides_log_likelihoods_by_the_bytes_of_the_labels_where_told_to():
    labels, logprobs = ("né", "abcdef"), [-3.0, -3.0]  # three bytes, six bytes
    exact = Exact(labels, per_byte=True)
    prediction = exact.predict(logprobs)
    np.testing.assert_allclose(prediction.distribution, softmax([-1.0, -0.5]))
    assert prediction.diagnostics["label_mass"] == pytest.approx(2 * np.exp(-3.0)), "that of the label as it is"


def test_length_normalisation_comes_after_calibration():
    clip, silence = np.log([0.6, 0.2, 0.2]), np.log([0.3, 0.1, 0.05])
    exact = Exact(LABELS, calibrated=True, per_byte=True)
    prediction = exact.predict([*clip, *silence])
    np.testing.assert_allclose(prediction.distribution, softmax((clip - silence) / [5, 5, 3]))


def test_exact_bears_likelihoods_far_below_the_smallest_float():
    prediction = Exact(LABELS).predict([-2000.0, -2001.0, -5000.0])
    np.testing.assert_allclose(prediction.distribution, [np.e / (1 + np.e), 1 / (1 + np.e), 0])
    assert prediction.diagnostics["label_mass"] == 0


def test_the_log_holds_the_shares_to_the_last_digit():
    prediction = one(Mean, ["happy", "sad", "sad", "", Candidate("angry", n_tokens=2)])
    logged = json.loads(str(prediction))
    assert list(logged["shares"].values()) == prediction.distribution.tolist()
    assert sum(logged["failed"].values()) == 1
    assert np.isnan(prediction.tokens)


@pytest.mark.parametrize("cls", REDUCERS)
def test_many_clips_at_once_give_what_each_gives_alone(cls):
    predictions = [one(cls, answers) for answers in (["happy", "sad", "?"], ["", "", ""], ["angry", "sad", "sad"])]
    together = cls().reduce(Pool.stack([p.pool for p in predictions]), subsets(3, 2))
    for prediction, rows in zip(predictions, together, strict=True):
        np.testing.assert_array_equal(rows, prediction.reducer.reduce(prediction.pool, subsets(3, 2)))
