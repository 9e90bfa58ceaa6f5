import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from ambi_eval.analysis.information.calibration import calibrate
from ambi_eval.analysis.information.folds import Folds, bits_gained
from ambi_eval.votes import shares

CLIPS, SPEAKERS = 900, 10


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    truth = rng.dirichlet([0.8, 0.8, 0.8], CLIPS)
    votes = np.array([rng.multinomial(9, q) for q in truth], dtype=float)
    return truth, Folds(votes, [number % SPEAKERS for number in range(CLIPS)])


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_temperature_is_found_and_what_it_costs_is_called_sharpness(world, temperature):
    truth, folds = world
    spoiled = softmax(np.log(truth) * temperature, axis=1)  # its own inverse undoes it
    found = calibrate(spoiled, folds)
    most = float(folds.bits(truth).mean())
    assert found.numbers.temperature == pytest.approx(temperature, rel=0.06)
    assert found.numbers.information.value == pytest.approx(most, abs=0.01)
    assert found.numbers.raw.value + found.numbers.sharpness.value == pytest.approx(most, abs=0.01)
    assert found.numbers.offsets.value == pytest.approx(0, abs=0.01)


def test_a_bias_of_labels_is_no_lack_of_sharpness(world):
    truth, folds = world
    biased = truth * [8, 1, 1] / (truth * [8, 1, 1]).sum(axis=1, keepdims=True)
    found = calibrate(biased, folds)
    assert found.numbers.offsets.low > 0.15  # a temperature alone flattens the bias, and the information with it
    assert found.numbers.information.value == pytest.approx(float(folds.bits(truth).mean()), abs=0.02)


def test_the_numbers_add_up(world):
    truth, folds = world
    found = calibrate(truth**3 / (truth**3).sum(axis=1, keepdims=True), folds)
    assert found.numbers.raw.value + found.numbers.sharpness.value + found.numbers.offsets.value == pytest.approx(
        found.numbers.information.value
    )


def test_predictions_that_do_not_depend_on_the_clip_have_no_information(world):
    _, folds = world
    for p in ([0.6, 0.3, 0.1], [1.0, 0.0, 0.0]):
        assert calibrate(np.tile(p, (CLIPS, 1)), folds).numbers.information.value == pytest.approx(0, abs=0.005)


def test_one_hot_answers_keep_what_they_tell(world):
    """Vector scaling of one-hot answers says of each answer what the votes of other speakers are on average."""
    truth, folds = world
    found = calibrate(np.eye(3)[truth.argmax(axis=1)], folds)
    assert found.numbers.raw.value < 0 < found.numbers.information.value
    assert found.numbers.temperature > 2


def test_an_invalid_answer_tells_nothing_and_spoils_nothing(world):
    truth, folds = world
    holed = truth.copy()
    holed[::3] = np.nan
    found = calibrate(holed, folds)
    assert (found.bits[::3] == 0).all()
    assert np.allclose(found.p[::3], folds.prior[::3])
    rest = np.delete(np.arange(CLIPS), np.arange(0, CLIPS, 3))
    assert found.bits[rest].mean() == pytest.approx(float(folds.bits(truth)[rest].mean()), abs=0.02)
    assert calibrate(np.full_like(truth, np.nan), folds).numbers.information.value == 0


def test_no_test_speaker_enters_the_fit(world):
    truth, folds = world
    _, unseen = folds.splits[0]
    votes = folds.votes.copy()
    votes[unseen] = votes[unseen][:, ::-1]
    other = Folds(votes, folds.clusters)
    assert np.allclose(calibrate(truth, other).p[unseen], calibrate(truth, folds).p[unseen], atol=1e-10)


def test_the_scaling_is_the_regression_of_scikit_learn_where_weights_are_equal():
    """Two labels: vector scaling is a logistic regression on the log odds, but for the small penalty."""
    rng = np.random.default_rng(1)
    p = rng.dirichlet([1, 1], 3000)
    odds = np.log(p[:, 0] / p[:, 1])
    truth = 1 / (1 + np.exp(-(0.5 * odds + 0.7)))
    votes = np.array([rng.multinomial(9, [q, 1 - q]) for q in truth], dtype=float)
    folds = Folds(votes, [number % 6 for number in range(3000)])
    seen, unseen = folds.splits[0]
    q = shares(votes[seen])
    theirs = LogisticRegression(C=1e6).fit(
        np.tile(odds[seen], 2)[:, None], np.repeat([1, 0], len(seen)), sample_weight=q.T.ravel()
    )
    expected = theirs.predict_proba(odds[unseen, None])[:, ::-1]
    assert np.allclose(calibrate(p, folds).p[unseen], expected, atol=0.01)
    assert np.isfinite(bits_gained(p, folds.prior, votes)).all()


def test_one_temperature_is_that_of_a_scalar_search_on_other_speakers():
    rng = np.random.default_rng(1)
    votes = np.array([rng.multinomial(6, q) for q in rng.dirichlet([0.6] * 3, 40)], dtype=float)
    p = rng.dirichlet([0.4] * 3, 40) * 0.5 + shares(votes) * 0.45 + 0.05 / 3
    speakers = [number % 8 for number in range(40)]
    folds = Folds(votes, speakers)
    bits = np.zeros(40)
    for seen, unseen in folds.splits:
        assert not {speakers[clip] for clip in seen} & {speakers[clip] for clip in unseen}

        def loss(sharpness, seen=seen):
            return -(shares(votes[seen]) * np.log(softmax(sharpness * np.log(p[seen]), axis=1))).sum()

        best = minimize_scalar(loss, bounds=(0, 10), method="bounded", options={"xatol": 1e-8}).x
        prior = shares(votes[seen]).mean(axis=0)
        tempered = softmax(best * np.log(p[unseen]), axis=1)
        bits[unseen] = (shares(votes[unseen]) * np.log2(tempered / prior)).sum(axis=1)
    found = calibrate(p, folds).numbers
    assert found.raw.value + found.sharpness.value == pytest.approx(bits.mean(), abs=1e-4)


def test_predictions_that_are_dealt_to_other_clips_tell_nothing(world):
    truth, folds = world
    dealt = truth[np.random.default_rng(2).permutation(CLIPS)]
    found = calibrate(dealt, folds).numbers
    assert found.raw.value < -0.5
    assert found.information.low < 0.003
    assert found.information.value == pytest.approx(0, abs=0.02)
