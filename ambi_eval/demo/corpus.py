"""The demo corpus: synthetic utterances of speakers that `ambi-tiny` never heard, with SIMULATED votes."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

from ambi_eval.corpora.manifest import ANOTHER_FOLDER, Clip, Rating, write_manifest
from ambi_eval.corpora.preparation import Preparation
from ambi_eval.corpora.registry import Corpus
from ambi_eval.demo.raters import PROTOTYPES, draw_raters
from ambi_eval.demo.speech import SAMPLE_RATE, Delivery, Speaker, draw_speakers, synthesize
from ambi_eval.paths import writing
from ambi_eval.votes import Array

CORPUS = Corpus(
    title="demo",
    language="none: wordless utterances",
    license="that of ambi_eval",
    citation="none: synthetic speech, SIMULATED raters",
    homepage="none: it is made when a task asks for it",
)

TRAINING_SPEAKERS = draw_speakers("train", 48, seed=1)
TEST_SPEAKERS = draw_speakers("test", 12, seed=2)
TEST_CLIPS_PER_SPEAKER = 6
RATERS = draw_raters(40, seed=3)
COUNTING = "one vote a SIMULATED rater"


@dataclass(frozen=True)
class Utterance:
    """A clip of the corpus, with the delivery that it was synthesized from and its samples."""

    clip: Clip
    delivery: Delivery
    samples: NDArray[np.float32]


def deliver(mood: Array, rng: np.random.Generator) -> Delivery:
    """Return the delivery of a mood: arousal raises pitch, pace and loudness, valence brightens the tone.

    The mood is arousal (0 calm to 1 excited) and valence (-1 unpleasant to 1 pleasant). `rng` adds the small
    differences between two deliveries of the same mood.
    """
    arousal, valence = mood
    jitter = rng.normal(0, 1, 5)
    return Delivery(
        pitch=-4 + 9 * arousal + 0.6 * jitter[0],
        pitch_range=max(0.5, 3 + 4 * arousal + 2 * valence + 0.5 * jitter[1]),
        rate=max(3.0, 2.9 + 3.2 * arousal + 0.2 * jitter[2]),
        level=-42 + 20 * arousal + 1.0 * jitter[3],
        tilt=-7.5 + 4 * valence + 0.4 * jitter[4],
    )


def draw_mood(rng: np.random.Generator) -> Array:
    """Return the mood of one clip, shape (2,): near one label's prototype, or anywhere between two prototypes."""
    first, second = PROTOTYPES[rng.integers(0, len(PROTOTYPES), 2)]
    return first + rng.uniform(0, 0.5) * (second - first) + rng.normal(0, [0.05, 0.1])


def utterances(speakers: Sequence[Speaker], clips_per_speaker: int) -> Iterator[Utterance]:
    """Yield the clips of each speaker, each with the votes of five to ten simulated raters.

    A clip depends on its speaker's id and its own number only, so more clips do not change the first ones.
    """
    for speaker in speakers:
        for number in range(1, clips_per_speaker + 1):
            name = f"{speaker.id}_{number:03d}"
            rng = np.random.default_rng(list(name.encode()))
            mood = draw_mood(rng)
            delivery = deliver(mood, rng)
            panel = sorted(rng.choice(len(RATERS), rng.integers(5, 11), replace=False))
            ratings = tuple(Rating(rater=RATERS[i].id, labels=(RATERS[i].vote(mood, rng),)) for i in panel)
            clip = Clip(
                id=name,
                votes=dict(Counter(rating.labels[0] for rating in ratings)),
                audio=f"audio/{name}.wav",
                speaker=speaker.id,
                sex=speaker.sex,
                release="simulated",
                ratings=ratings,
            )
            yield Utterance(clip, delivery, synthesize(speaker, delivery, rng))


def prepare(out: Path) -> Preparation:
    """Make the demo corpus: synthetic speech, simulated raters.

    The files are the same every time. Each file is written completely or not at all, and the manifest is written last.
    So a folder with a manifest is complete, and several processes may prepare it at the same time.

    Raises:
        AmbiError: If the files cannot be written.
    """
    clips = []
    total = len(TEST_SPEAKERS) * TEST_CLIPS_PER_SPEAKER
    for utterance in tqdm(
        utterances(TEST_SPEAKERS, TEST_CLIPS_PER_SPEAKER), "demo corpus", total, unit="clip", disable=None
    ):
        wav = io.BytesIO()
        soundfile.write(wav, utterance.samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
        with writing(out / str(utterance.clip.audio), ANOTHER_FOLDER) as unfinished:
            unfinished.write_bytes(wav.getvalue())
        clips.append(utterance.clip)
    preparation = Preparation(out, CORPUS, counting=COUNTING, clips=clips)
    write_manifest(preparation.manifest, clips, preparation.about)
    return preparation
