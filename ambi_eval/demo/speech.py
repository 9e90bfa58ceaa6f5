"""A small speech synthesizer: wordless utterances whose pitch, loudness, pace and tone are set by numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from ambi_eval.votes import Array

SAMPLE_RATE = 16_000
MARGIN_SECONDS = 0.1  # silence before and after the voice
NOISE_DBFS = -75.0  # the recording's noise floor

# First three formants in Hz of five vowels, men's averages (Peterson & Barney 1952), and the bandwidth of each.
VOWELS = np.array([[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410], [300, 870, 2240]])
BANDWIDTHS = np.array([80, 110, 160])


@dataclass(frozen=True)
class Speaker:
    """A voice.

    Attributes:
        pitch_hz: The speaker's pitch in a delivery of 0 semitones.
        formant_scale: Factor on all formant frequencies: a shorter vocal tract has a larger one.
    """

    id: str
    sex: str
    pitch_hz: float
    formant_scale: float


@dataclass(frozen=True)
class Delivery:
    """How an utterance is spoken.

    Attributes:
        pitch: Mean pitch in semitones above the speaker's own.
        pitch_range: Distance between the accents' highest and lowest pitch, in semitones.
        rate: Syllables per second.
        level: Loudness of the voice: root mean square in dB of full scale.
        tilt: Slope of the voice's spectrum before the formants, in dB per octave: about -12 is dark, -3 bright.
    """

    pitch: float
    pitch_range: float
    rate: float
    level: float
    tilt: float


def draw_speakers(prefix: str, count: int, seed: int) -> list[Speaker]:
    """Return voices named `<prefix>_01` and so on, female and male in turn; the same arguments give the same voices."""
    rng = np.random.default_rng(seed)
    voices = []
    for number in range(1, count + 1):
        male = number % 2 == 0
        pitch_hz = rng.uniform(90, 135) if male else rng.uniform(170, 230)
        formant_scale = rng.uniform(0.95, 1.05) if male else rng.uniform(1.10, 1.20)
        voices.append(Speaker(f"{prefix}_{number:02d}", "male" if male else "female", pitch_hz, formant_scale))
    return voices


def synthesize(speaker: Speaker, delivery: Delivery, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return an utterance of five to eight syllables: mono, 16 kHz, within -1..1, between two margins of silence.

    A source-filter model: glottal pulses follow the pitch contour, get the spectral tilt, and pass through the formants
    of one vowel per syllable. `rng` chooses the number of syllables, their vowels and the size of the accents.

    Source: Fant (1960), Acoustic theory of speech production.
    """
    syllables = int(rng.integers(5, 9))
    length = round(SAMPLE_RATE / delivery.rate)  # samples per syllable
    time = np.arange(syllables * length)

    # Accents go up and down in turn, so that every utterance uses its range.
    accents = delivery.pitch_range / 2 * (-1.0) ** np.arange(syllables) * rng.uniform(0.7, 1.0, syllables)
    contour = delivery.pitch + np.interp(time, (np.arange(syllables) + 0.5) * length, accents)
    cycles = np.cumsum(speaker.pitch_hz * 2 ** (contour / 12)) / SAMPLE_RATE
    pulses = np.diff(np.floor(cycles), prepend=0.0) + 0.01 * rng.standard_normal(len(time))  # and a little breath

    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(time), 1 / SAMPLE_RATE), 50.0) / 50.0)
    source = np.fft.irfft(np.fft.rfft(pulses) * 10 ** (delivery.tilt * octaves / 20), len(time))

    vowels = VOWELS[rng.integers(0, len(VOWELS), syllables)] * speaker.formant_scale
    voice = np.concatenate([_resonate(s, f) for s, f in zip(source.reshape(syllables, length), vowels, strict=True)])
    voice *= np.sin(np.pi * (time % length) / length)  # each syllable swells and fades
    voice *= 10 ** (delivery.level / 20) / np.sqrt(np.mean(voice**2))

    margin = np.zeros(round(MARGIN_SECONDS * SAMPLE_RATE))
    clip = np.concatenate([margin, voice, margin])
    clip += 10 ** (NOISE_DBFS / 20) * rng.standard_normal(len(clip))
    return clip.clip(-1, 1).astype(np.float32)


def _resonate(source: Array, formants: Array) -> Array:
    """Return the sum of the source through one two-pole resonance per formant."""
    radius = np.exp(-np.pi * BANDWIDTHS / SAMPLE_RATE)
    angle = 2 * np.pi * formants / SAMPLE_RATE
    filters = zip(radius, angle, strict=True)
    return sum(lfilter([1 - r], [1, -2 * r * np.cos(w), r * r], source) for r, w in filters)
