"""Finds the longest audio that a model behind a server hears, and cuts longer audio."""

from __future__ import annotations

import logging

from transformers import AutoConfig, AutoProcessor

from ambi_eval.audio import Samples, load_audio
from ambi_eval.engines.base import Job
from ambi_eval.engines.hf.families import FAMILIES
from ambi_eval.engines.openai.questions import SAMPLE_RATE

logger = logging.getLogger(__name__)


def heard(job: Job, window: float | None) -> list[Samples]:
    """Return what a model hears of each audio of a job: all of it, or the first `window` seconds."""
    most = None if window is None else int(window * SAMPLE_RATE)
    return [load_audio(span, SAMPLE_RATE)[:most] for span in job.spans]


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
    what = "how much audio %s hears is not known (%s), and vLLM may cut longer audio without a word"
    logger.warning(f"{what}: give max_audio_seconds= if it has a window", checkpoint, why)
    return None
