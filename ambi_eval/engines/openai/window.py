"""Finds the longest audio that a model behind a server hears, and cuts or refuses longer audio."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock

from transformers import AutoConfig, AutoProcessor

from ambi_eval.audio import Samples, load_audio
from ambi_eval.engines.base import Job
from ambi_eval.engines.hf.families import FAMILIES
from ambi_eval.engines.openai.questions import SAMPLE_RATE
from ambi_eval.errors import AmbiError

logger = logging.getLogger(__name__)


@dataclass
class Hearing:
    """Loads the audio of jobs, and cuts or refuses audio that is longer than the model's window, before it is sent."""

    name: str
    """What messages call the model."""
    find_window: Callable[[], float | None]
    """Returns the window in seconds; None if there is none, or if it is unknown. It is called when the first audio is
    needed."""
    refuse: bool
    """Whether longer audio is refused; otherwise it is cut, and counted."""
    cut: set[Job] = field(default_factory=set)
    """The jobs with audio that was cut."""
    _lock: Lock = field(default_factory=Lock)

    @cached_property
    def _window(self) -> float | None:
        return self.find_window()

    @property
    def window_seconds(self) -> float | None:
        """The longest audio that the model hears as a whole; None if there is no limit, or if it is unknown."""
        with self._lock:
            return self._window

    def audios(self, job: Job) -> list[Samples]:
        """Return what the model hears of each audio of a job.

        Raises:
            AmbiError: If one of them is longer than the window, and `refuse` is set.
        """
        audios, window = [], self.window_seconds if job.spans else None
        for span in job.spans:
            samples = load_audio(span, SAMPLE_RATE)
            if window is not None and len(samples) > window * SAMPLE_RATE:
                seconds = len(samples) / SAMPLE_RATE
                self._note(job, f"{span.path}: {seconds:.1f} s of audio, of which {self.name} hears {window:g} s")
                samples = samples[: int(window * SAMPLE_RATE)]
            audios.append(samples)
        return audios

    def _note(self, job: Job, what: str) -> None:
        if self.refuse:
            raise AmbiError(f"{what}; give long_audio=cut to go on with these")
        with self._lock:
            if not self.cut:
                logger.warning("%s; the rest is cut off, for this and all other long audios", what)
            self.cut.add(job)


def window_of(checkpoint: str, revision: str | None = None) -> float | None:
    """Return the window of a checkpoint in seconds, as its processor and its family say.

    None means that the model hears audio of any length, or, with a warning, that its window is unknown.
    """
    try:
        kind = AutoConfig.from_pretrained(checkpoint, revision=revision).model_type
        if kind in FAMILIES:
            return FAMILIES[kind].window_of(AutoProcessor.from_pretrained(checkpoint, revision=revision))
        why = f"we do not know the family {kind}"
    except (OSError, ValueError, ImportError, KeyError, AttributeError) as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    logger.warning(
        "how much audio %s hears is not known (%s), and vLLM may cut longer audio without a word: give "
        "max_audio_seconds= if it has a window",
        checkpoint,
        why,
    )
    return None
