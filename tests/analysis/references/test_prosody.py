import numpy as np
import pytest

from ambi_eval.analysis.references.prosody import FEATURES, RIDGE, SAMPLE_RATE, prosody, ridge_on_log_shares
from ambi_eval.votes import shares

TIME = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
SECONDS, PITCH, PITCH_RANGE, VOICED, LEVEL, LEVEL_RANGE, PEAKS, TILT = range(len(FEATURES))


@pytest.mark.parametrize("hz", [70, 110, 200, 330, 480])
@pytest.mark.parametrize("harmonics", [1, 6])
def test_the_pitch_of_a_periodic_sound_is_its_frequency(harmonics, hz):
    numbers = prosody(0.1 * sum(np.sin(2 * np.pi * h * hz * TIME) / h for h in range(1, harmonics + 1)))
    assert numbers[PITCH] == pytest.approx(12 * np.log2(hz), abs=0.3)
    assert numbers[VOICED] == 1
    assert numbers[PITCH_RANGE] < 0.5


def test_a_glide_of_an_octave_has_the_range_of_its_middle_four_fifths():
    phase = 2 * np.pi * np.cumsum(110 * 2 ** (TIME / 2)) / SAMPLE_RATE
    assert prosody(0.1 * np.sin(phase))[PITCH_RANGE] == pytest.approx(0.8 * 12, abs=0.6)


def test_a_sound_ten_times_as_strong_is_20_db_louder_and_else_the_same():
    sound = np.random.default_rng(0).normal(0, 0.01, len(TIME)) * (1.1 + np.sin(2 * np.pi * 4 * TIME))
    difference = prosody(10 * sound) - prosody(sound)
    assert difference[LEVEL] == pytest.approx(20, abs=0.01)
    np.testing.assert_allclose(np.delete(difference, LEVEL), 0, atol=0.02)


def test_level_peaks_count_syllables():
    beats = 0.05 + np.clip(np.sin(2 * np.pi * 4 * TIME), 0, None)
    assert prosody(beats * np.sin(2 * np.pi * 150 * TIME))[PEAKS] == pytest.approx(4, abs=0.6)


def test_noise_is_unvoiced_and_brighter_than_a_low_tone():
    noise = prosody(np.random.default_rng(0).normal(0, 0.1, len(TIME)))
    assert noise[VOICED] < 0.05
    assert noise[TILT] > 0 > prosody(np.sin(2 * np.pi * 150 * TIME))[TILT]


@pytest.mark.parametrize("samples", [np.zeros(640), np.zeros(16_000), np.ones(800), np.eye(1, 1600)[0]])
def test_degenerate_sounds_have_finite_numbers(samples):
    assert np.isfinite(prosody(samples)).all()


def test_the_regression_is_that_of_the_normal_equations_on_the_log_shares():
    rng = np.random.default_rng(0)
    features, unheard = rng.normal(3, 2, (80, 4)), rng.normal(3, 2, (5, 4))
    votes = rng.multinomial(9, shares(np.exp(features[:, :3] / 2))).astype(float)
    targets = np.log(shares(votes + 2.5 * shares(votes).mean(axis=0)))
    mean, scale = features.mean(axis=0), features.std(axis=0)
    x, y = (features - mean) / scale, targets - targets.mean(axis=0)
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(4), x.T @ y)
    expected = shares(np.exp(targets.mean(axis=0) + (unheard - mean) / scale @ weights))
    np.testing.assert_allclose(ridge_on_log_shares(features, votes, unheard, prior_votes=2.5), expected, rtol=1e-6)
