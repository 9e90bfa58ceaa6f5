"""From an audio file to the samples that a model hears."""

from ambi_eval.audio.containers import check_audio_file
from ambi_eval.audio.spans import (
    SHORTEST_SECONDS,
    AudioSpan,
    Samples,
    audio_digest,
    check_files_exist,
    clipped,
    load_ahead,
    load_audio,
    span_seconds,
)

__all__ = [
    "SHORTEST_SECONDS",
    "AudioSpan",
    "Samples",
    "audio_digest",
    "check_audio_file",
    "check_files_exist",
    "clipped",
    "load_ahead",
    "load_audio",
    "span_seconds",
]
