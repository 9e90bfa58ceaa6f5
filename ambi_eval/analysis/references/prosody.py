"""Eight prosodic features of a clip, and the distribution of votes that a linear model predicts from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks
from scipy.special import softmax
from tqdm import tqdm

from ambi_eval.audio import AudioSpan, load_ahead, load_audio
from ambi_eval.corpora.manifest import Clip
from ambi_eval.metrics.distribution import NLL_FLOOR
from ambi_eval.votes import Array, shares

SAMPLE_RATE = 16_000
FEATURES = (
    "duration, log seconds",
    "pitch, semitones above 1 Hz",
    "pitch range, semitones",
    "voiced share of the active frames",
    "level, dB",
    "level range, dB",
    "level peaks per second",
    "energy above 1 kHz against below, dB",
)

# Frames of 40 ms (two periods of the lowest pitch) every 20 ms, in samples.
_WINDOW, _HOP, _FFT = 640, 320, 1024
_HANN = np.hanning(_WINDOW)
_PITCH_HZ = (60, 500)
# A frame is active if its level is within 30 dB of the loudest frames, and voiced if its autocorrelation is above .5.
_ACTIVE_DB, _VOICED = 30.0, 0.5
# The autocorrelation after two periods is as high as after one; this cost of an octave favors the shorter period.
_OCTAVE_COST = 0.05
_PEAK_DB = 3.0
_SILENCE = 1e-10

# Strength of the ridge penalty on standardized features.
RIDGE = 10.0


def prosody(samples: ArrayLike) -> Array:
    """Return the features named in `FEATURES` of one clip, shape (8,), all finite.

    The samples are mono at 16 kHz, nominally -1..1, at least 40 ms of them. The pitch of a voiced frame is at the
    highest peak of its autocorrelation, divided by that of the window, between 60 and 500 Hz. Pitch and level are
    medians over frames, and ranges go from the 10th to the 90th percentile. Level peaks approximate syllables and have
    a prominence of at least 3 dB. Without a voiced frame, pitch and its range are 0. The level of digital silence is
    -100 dB.

    Source: Boersma (1993), Accurate short-term analysis of the fundamental frequency.

    >>> tone = 0.1 * np.sin(2 * np.pi * 220 * np.arange(16_000) / 16_000)
    >>> round(float(prosody(tone)[1])), round(12 * np.log2(220))
    (93, 93)
    """
    samples = np.asarray(samples, dtype=float)
    seconds = len(samples) / SAMPLE_RATE
    frames = sliding_window_view(samples, _WINDOW)[::_HOP]
    level = 10 * np.log10(np.square(frames).mean(axis=1) + _SILENCE)
    active = level >= np.percentile(level, 95) - _ACTIVE_DB
    power = np.abs(np.fft.rfft(frames * _HANN, _FFT)) ** 2
    pitch, likeness = _pitch(power)
    height = 12 * np.log2(pitch[active & (likeness > _VOICED)])
    peaks, _ = find_peaks(uniform_filter1d(level, 3)[active], prominence=_PEAK_DB)
    spectrum = power[active].sum(axis=0) + _SILENCE
    split = round(1000 * _FFT / SAMPLE_RATE)
    return np.array(
        [
            np.log(seconds),
            np.median(height) if len(height) else 0.0,
            _range(height) if len(height) else 0.0,
            len(height) / active.sum(),
            np.median(level[active]),
            _range(level[active]),
            len(peaks) / seconds,
            10 * np.log10(spectrum[split:].sum() / spectrum[:split].sum()),
        ]
    )


def listen(clips: Sequence[Clip]) -> Array:
    """Return the prosodic features of each clip, shape (clips, features); NaN for clips without audio."""
    heard = [number for number, clip in enumerate(clips) if clip.audio and Path(clip.audio).is_file()]

    def of_clip(number: int) -> Array:
        clip = clips[number]
        return prosody(load_audio(AudioSpan(str(clip.audio), clip.start, clip.end), SAMPLE_RATE))

    sounds = np.full((len(clips), len(FEATURES)), np.nan)
    loaded = tqdm(load_ahead(of_clip, heard, ahead=64), "listening", len(heard), unit="clip", disable=None)
    for number, sound in zip(heard, loaded, strict=True):
        sounds[number] = sound
    return sounds


def ridge_on_log_shares(features: Array, votes: Array, unheard: Array, prior_votes: float) -> Array:
    """Return the distributions that a linear model, trained on some clips, predicts for other clips.

    A ridge regression of strength `RIDGE` on the standardized features predicts the logarithms of the shares; the
    softmax of its output is the distribution. The votes of each training clip are first shrunk towards the mean
    distribution, by `prior_votes` votes of it (`agreement.prior_worth`). A share is then 0 only for labels that nobody
    chose on any clip; it is raised to `NLL_FLOOR`.

    `features` has shape (clips, features), `votes` (clips, labels), `unheard`, the features of the other clips,
    (others, features), and the result (others, labels).
    """
    # Imported here, because it takes half a second and nothing else needs it.
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    shrunk = shares(votes + prior_votes * shares(votes).mean(axis=0))
    targets = np.log(np.maximum(shrunk, NLL_FLOOR))
    model = make_pipeline(StandardScaler(), Ridge(alpha=RIDGE)).fit(features, targets)
    return softmax(model.predict(unheard), axis=1)


def _pitch(power: Array) -> tuple[Array, Array]:
    """Return each frame's pitch in Hz and its normalized autocorrelation after one period: 1 for a pure tone."""
    shortest, longest = (SAMPLE_RATE // hz for hz in reversed(_PITCH_HZ))
    lags = np.arange(shortest, longest + 1)
    window = np.fft.irfft(np.abs(np.fft.rfft(_HANN, _FFT)) ** 2)
    correlation = np.fft.irfft(power, axis=1)
    likeness = correlation[:, lags] / (correlation[:, :1] + _SILENCE) * (window[0] / window[lags])
    best = (likeness - _OCTAVE_COST * np.log2(lags / shortest)).argmax(axis=1)
    return SAMPLE_RATE / lags[best], likeness[np.arange(len(best)), best]


def _range(values: Array) -> float:
    low, high = np.percentile(values, [10, 90])
    return float(high - low)
