"""The subject of the checks: an engine, and synthetic voices to ask it about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from ambi_eval.answers.candidate import Candidate
from ambi_eval.audio import AudioSpan
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.config.prompts import AUDIO_MARK
from ambi_eval.demo.speech import SAMPLE_RATE, Delivery, Speaker, synthesize
from ambi_eval.engines.base import Engine, Job
from ambi_eval.errors import AmbiError

LABELS = ("angry", "happy", "neutral", "sad")
QUESTION = f"{AUDIO_MARK}Which emotion does the speaker express: angry, happy, neutral or sad? Answer with one word."
# Two very different voices: a slow, deep and dark one, and a fast, high and bright one.
VOICES = (
    (Speaker("deep", "male", 95.0, 0.95), Delivery(pitch=-2, pitch_range=1, rate=2.5, level=-30, tilt=-12)),
    (Speaker("high", "female", 225.0, 1.2), Delivery(pitch=6, pitch_range=10, rate=6, level=-14, tilt=-3)),
)
LONG_SECONDS = 40.0


@dataclass
class Subject:
    """An engine, and synthetic voices to ask it about, which are files in a folder."""

    engine: Engine
    folder: Path

    @property
    def family(self) -> Any:
        """The family of a model that runs in this process; raises AmbiError if the model runs elsewhere."""
        family = getattr(self.engine, "family", None)
        if family is None:
            raise AmbiError("only a model that runs in this process can be checked for that")
        return family

    def voice(self, seconds: float, *numbers: int) -> str:
        """Return the path of a recording of this length, in which these voices (0 or 1) follow in equal parts."""
        path = self.folder / f"{seconds}_{'_'.join(map(str, numbers))}.wav"
        if not path.exists():
            share = round(seconds * SAMPLE_RATE / len(numbers))
            soundfile.write(path, np.concatenate([_speech(number, share) for number in numbers]), SAMPLE_RATE)
        return str(path)

    def answers(
        self, asked: Sequence[tuple[str, str]], settings: dict[str, Any], count: int = 1
    ) -> list[list[Candidate]]:
        """Return `count` answers to each pair of prompt and audio file, which are all asked about together."""
        generation = GenerationSettings.read(settings, "generation_kwargs")
        wanted = range(count)
        jobs = [Job(prompt, (AudioSpan(path),), generation, numbers=wanted, task="doctor") for prompt, path in asked]
        self.engine.check(jobs)
        found: dict[Job, dict[int, Candidate]] = {job: {} for job in jobs}
        for job, made in self.engine.generate(jobs):
            found[job] |= made
        if any(len(made) < count for made in found.values()):
            raise AmbiError(f"{self.engine.name} failed on a request ({self.engine.last_failure})")
        return [[found[job][number] for number in job.numbers] for job in jobs]

    def likelihoods(self, path: str, ends: bool = True) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the log-likelihood of each label (with the end of the turn) as an answer, shape (labels,)."""
        job = Job(QUESTION, (AudioSpan(path),), continuations=[(label, ends) for label in LABELS], task="doctor")
        for _, likelihoods in self.engine.loglikelihoods([job]):
            return np.array([logprob for logprob, _ in likelihoods])
        raise AmbiError(f"{self.engine.name} failed on a request ({self.engine.last_failure})")

    @property
    def runs_here(self) -> bool:
        """Whether the model runs in this process, so that its answers depend on this package alone."""
        return hasattr(self.engine, "family")

    @property
    def exact(self) -> bool:
        """Whether repeated answers must be equal: in half precision, rounding may change them."""
        return self.family.model.dtype == torch.float32

    @property
    def window_seconds(self) -> float | None:
        """The longest audio that the model hears as a whole; None without a limit; AmbiError if it is unknown."""
        window = self.engine.window_seconds
        if window is None and not self.runs_here:
            raise AmbiError("how much audio the model hears is unknown; give max_audio_seconds= if it has a limit")
        return window

    @property
    def long_seconds(self) -> float:
        """The length of a long clip that the model hears as a whole."""
        return min(LONG_SECONDS, self.family.window_seconds or LONG_SECONDS)


@cache
def _speech(number: int, samples: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    rng, spoken = np.random.default_rng(number), [np.zeros(0, np.float32)]
    while sum(map(len, spoken)) < samples:
        spoken.append(synthesize(*VOICES[number], rng))
    return np.concatenate(spoken)[:samples]
