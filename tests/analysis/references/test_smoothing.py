import numpy as np
import pytest

from ambi_eval.analysis.references.smoothing import FOLDS, mixed, smooth_towards_prior
from ambi_eval.errors import AmbiError
from ambi_eval.metrics import METRICS
from ambi_eval.votes import shares

JSD = METRICS["jsd_bits"]


def test_acted_labels_of_the_real_clips_look_good_once_smoothed(crema_d_selection, crema_d_config):
    labels = crema_d_config.labels
    acted = np.eye(len(labels))[[labels.index(clip.acted) for clip in crema_d_selection.clips]]
    smoothed, note = smooth_towards_prior(acted, crema_d_selection.votes, crema_d_selection.clusters)
    assert JSD.value(acted, crema_d_selection.votes) == pytest.approx(0.474, abs=0.002)
    assert JSD.value(smoothed, crema_d_selection.votes) == pytest.approx(0.235, abs=0.004)
    assert note == "smoothed: temperature 1.00, 75% prior on average over 10 folds"


@pytest.fixture
def clips():
    rng = np.random.default_rng(0)
    truth = rng.dirichlet([2, 1, 1], 200)
    return truth, rng.multinomial(9, truth).astype(float), [f"s{number % 12}" for number in range(200)]


def test_a_perfect_prediction_stays_nearly_as_it_is(clips):
    truth, votes, speakers = clips
    smoothed, note = smooth_towards_prior(truth, votes, speakers)
    assert np.abs(smoothed - truth).max() < 0.1
    assert "temperature 1.0" in note


def test_noise_becomes_the_prior_of_the_other_speakers(clips):
    truth, votes, speakers = clips
    smoothed, _ = smooth_towards_prior(np.random.default_rng(1).permutation(truth), votes, speakers)
    np.testing.assert_allclose(smoothed, np.broadcast_to(shares(votes).mean(axis=0), votes.shape), atol=0.07)


def test_sharp_predictions_are_softened(clips):
    truth, votes, speakers = clips
    sharp = shares(truth**3)
    smoothed, _ = smooth_towards_prior(sharp, votes, speakers)
    assert JSD.value(smoothed, votes) < JSD.value(sharp, votes) - 0.01


def test_a_speaker_s_votes_have_no_part_in_its_own_smoothing(clips):
    truth, votes, speakers = clips
    mine = np.array(speakers) == "s3"
    other_votes = votes.copy()
    other_votes[mine] = votes[mine][:, ::-1]
    before, after = (smooth_towards_prior(truth, v, speakers)[0] for v in (votes, other_votes))
    np.testing.assert_array_equal(before[mine], after[mine])
    assert (before[~mine] != after[~mine]).any()


def test_invalid_predictions_stay_invalid(clips):
    truth, votes, speakers = clips
    p = truth.copy()
    p[::7] = np.nan
    assert (np.isnan(smooth_towards_prior(p, votes, speakers)[0]) == np.isnan(p)).all()


def test_two_speakers_make_two_folds(clips):
    truth, votes, _ = clips
    _, note = smooth_towards_prior(truth, votes, ["a", "b"] * 100)
    assert note.endswith("over 2 folds")
    assert FOLDS == 10


def test_one_speaker_leaves_nothing_to_fit_on(clips):
    truth, votes, _ = clips
    with pytest.raises(AmbiError, match="all clips depend on one, 'anna': leave it out"):
        smooth_towards_prior(truth, votes, ["anna"] * 200)


def test_the_mixture_at_its_ends():
    p, prior = np.array([[0.8, 0.2, 0.0]]), np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(mixed(p, prior, 1.0, 0.0), p)
    np.testing.assert_allclose(mixed(p, prior, 3.0, 1.0), [prior])
    np.testing.assert_allclose(mixed(p, prior, 0.5, 0.0), [[0.64 / 0.68, 0.04 / 0.68, 0]])
