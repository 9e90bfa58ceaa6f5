from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ambi_eval.demo.speech import MARGIN_SECONDS, SAMPLE_RATE, Delivery, Speaker, draw_speakers, synthesize

SPEAKERS = draw_speakers("voice", 6, seed=0)
PLAIN = Delivery(pitch=0.0, pitch_range=1.0, rate=4.0, level=-30.0, tilt=-6.0)
Samples = NDArray[np.float32]


def voiced(samples: Samples) -> Samples:
    margin = round(MARGIN_SECONDS * SAMPLE_RATE)
    return samples[margin:-margin]


def pitch_track(samples: Samples, speaker: Speaker) -> NDArray[np.float64]:
    """Pitch of each loud frame of 50 ms in semitones above the speaker's own: the autocorrelation's peak within +-9."""
    frames = np.lib.stride_tricks.sliding_window_view(voiced(samples), 800)[::320]
    loudness = (frames**2).mean(1)
    frames = frames[loudness > np.median(loudness)]
    power = np.abs(np.fft.rfft(frames * np.hanning(800), 4096)) ** 2
    window = np.abs(np.fft.rfft(np.hanning(800), 4096)) ** 2
    lags = np.arange(int(SAMPLE_RATE / (speaker.pitch_hz * 2**0.75)), int(SAMPLE_RATE / (speaker.pitch_hz * 2**-0.75)))
    autocorrelation = np.fft.irfft(power)[:, lags] / np.fft.irfft(window)[lags]
    return 12 * np.log2(SAMPLE_RATE / lags[autocorrelation.argmax(1)] / speaker.pitch_hz)


def median_pitch(samples: Samples, speaker: Speaker) -> float:
    return float(np.median(pitch_track(samples, speaker)))


def pitch_spread(samples: Samples, speaker: Speaker) -> float:
    low, high = np.percentile(pitch_track(samples, speaker), [10, 90])
    return float(high - low)


def level(samples: Samples, speaker: Speaker) -> float:
    return float(10 * np.log10(np.mean(voiced(samples).astype(float) ** 2)))


def syllables_per_second(samples: Samples, speaker: Speaker) -> float:
    """The strongest rhythm of the loudness in dB between 2 and 9 Hz: it falls to nothing between syllables."""
    energy = np.lib.stride_tricks.sliding_window_view(voiced(samples), 320)[::80] ** 2
    loudness = np.log(energy.mean(1) + 1e-6 * energy.mean())
    spectrum = np.abs(np.fft.rfft(loudness - loudness.mean(), 4096))
    rates = np.fft.rfftfreq(4096, 80 / SAMPLE_RATE)
    within = (rates > 2) & (rates < 9)
    return float(rates[within][spectrum[within].argmax()])


def brightness(samples: Samples, speaker: Speaker) -> float:
    """Energy above 2 kHz against energy below 1 kHz, in dB."""
    power = np.abs(np.fft.rfft(voiced(samples))) ** 2
    hertz = np.fft.rfftfreq(len(voiced(samples)), 1 / SAMPLE_RATE)
    return float(10 * np.log10(power[hertz > 2000].sum() / power[hertz < 1000].sum()))


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker.id)
@pytest.mark.parametrize(
    ("control", "values", "measure"),
    [
        ("pitch", [-4.0, 0.0, 4.0], median_pitch),
        ("pitch_range", [1.0, 4.0, 8.0], pitch_spread),
        ("rate", [3.0, 4.0, 6.0], syllables_per_second),
        ("level", [-40.0, -30.0, -20.0], level),
        ("tilt", [-12.0, -7.0, -3.0], brightness),
    ],
)
def test_each_control_moves_what_it_names(
    speaker: Speaker, control: str, values: list[float], measure: Callable[[Samples, Speaker], float]
):
    clips = [synthesize(speaker, replace(PLAIN, **{control: value}), np.random.default_rng(1)) for value in values]
    measured = [measure(samples, speaker) for samples in clips]
    assert (np.diff(measured) > 0).all()


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker.id)
def test_pitch_level_and_rate_have_the_values_asked_for(speaker: Speaker):
    samples = synthesize(speaker, replace(PLAIN, pitch_range=0.0), np.random.default_rng(2))
    assert median_pitch(samples, speaker) == pytest.approx(PLAIN.pitch, abs=0.3)
    assert level(samples, speaker) == pytest.approx(PLAIN.level, abs=0.1)
    assert syllables_per_second(samples, speaker) == pytest.approx(PLAIN.rate, rel=0.1)


def test_the_same_seed_gives_the_same_clip_on_every_machine():
    samples = synthesize(SPEAKERS[0], PLAIN, np.random.default_rng(3))
    again = synthesize(SPEAKERS[0], PLAIN, np.random.default_rng(3))
    np.testing.assert_array_equal(samples, again)
    # As 12 bits: the last digit of a sine may differ between processors.
    digest = hashlib.sha256(np.round(samples * 2**11).astype("<i2").tobytes()).hexdigest()
    assert digest == "88dceac19d07276b76f78bc0ec082ff3f517260a70f0100fd27c964eaed390ae"


def test_another_seed_gives_another_clip():
    clips = [synthesize(SPEAKERS[0], PLAIN, np.random.default_rng(seed)) for seed in (0, 1)]
    assert clips[0].shape != clips[1].shape or not np.array_equal(*clips)


@pytest.mark.parametrize("rate", [3.0, 6.5])
def test_clips_are_mono_float32_of_one_to_three_seconds_within_full_scale(rate: float):
    for seed in range(10):
        samples = synthesize(SPEAKERS[0], replace(PLAIN, rate=rate, level=-20.0), np.random.default_rng(seed))
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert 0.8 < len(samples) / SAMPLE_RATE < 3
        assert np.abs(samples).max() < 1


def test_speakers_are_half_female_half_male_and_women_speak_higher():
    speakers = draw_speakers("voice", 20, seed=5)
    pitch = {sex: [s.pitch_hz for s in speakers if s.sex == sex] for sex in ("female", "male")}
    assert len(pitch["female"]) == len(pitch["male"]) == 10
    assert min(pitch["female"]) > max(pitch["male"])
    assert len({speaker.id for speaker in speakers}) == 20
