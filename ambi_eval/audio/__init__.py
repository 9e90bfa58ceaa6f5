"""From an audio file to the samples that a model hears."""

from ambi_eval.audio.containers import check_audio_file
from ambi_eval.audio.spans import (
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
