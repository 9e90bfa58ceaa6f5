"""Turns a part of an audio file into the samples that a model hears: decoded, mixed down, cut and resampled."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ambi_eval.audio.containers import (
    MOST_SECONDS,
    breaks_off,
    correct,
    open_audio,
    read_blocks,
    stated_frames,
    undecodable,
)
from ambi_eval.errors import AmbiError, did_you_mean

logger = logging.getLogger(__name__)

Control = Literal["silence", "noise", "silence_fixed"]
Samples = NDArray[np.float32]
Item = TypeVar("Item")
Loaded = TypeVar("Loaded")

# Several encoders crash on an audio of less than two of their frames.
SHORTEST_SECONDS = 0.1
# Time stamps of corpora are rounded: a span may end this much after the end of its file.
END_TOLERANCE_SECONDS = 0.01
# The length of `silence_fixed`, whatever the clip.
FIXED_SECONDS = 5.0
LOADER_THREADS = 4

# Samples lie in -1..1, in lossy formats a little beyond. Floats beyond this limit are integers that were not scaled.
FULL_SCALE_LIMIT = 16.0

# By file, the number of samples beyond -1..1, for each file with any that this process has read.
clipped: dict[str, int] = {}


@dataclass(frozen=True)
class AudioSpan:
    """A part of an audio file, or a control that replaces it.

    Raises:
        AmbiError: If the span is empty or negative, or the control unknown.
    """

    path: str
    """The audio file."""
    start: float | None = None
    """Start in seconds; None is the beginning of the file."""
    end: float | None = None
    """End in seconds; None is the end of the file."""
    control: Control | None = None
    """What the model hears instead: `silence` (zeros, as long as the clip), `noise` (white noise, as long and as loud
    as the clip) or `silence_fixed` (five seconds of zeros for every clip). None: the clip itself."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.control not in (None, *get_args(Control)):
            known = get_args(Control)
            hint = did_you_mean(str(self.control), known)
            raise AmbiError(f"{self.path}: '{self.control}' is no control{hint}; give {', '.join(known)} or nothing")
        end = math.inf if self.end is None else self.end
        if not 0 <= (self.start or 0.0) < end:
            raise AmbiError(f"{self.path}: {self.start} to {self.end} s is no span; give 0 <= start < end in seconds")

    @classmethod
    def from_dict(cls, doc: Mapping[str, Any]) -> AudioSpan:
        """Build a span from a document's `{"path": ..., "start": ..., "end": ..., "control": ...}`.

        An unknown key and a missing path are an AmbiError.
        """
        known = [field.name for field in fields(cls)]
        for key in doc:
            if key not in known:
                raise AmbiError(f"an audio has no '{key}'{did_you_mean(key, known)}; its keys are {', '.join(known)}")
        if not doc.get("path"):
            raise AmbiError(f"an audio without a path: {dict(doc)}; give the file as 'path'")
        return cls(**doc)


def check_files_exist(spans: Iterable[AudioSpan]) -> None:
    """Check that every file exists; an AmbiError names the first one that is missing, and counts the others."""
    missing = [path for path in dict.fromkeys(span.path for span in spans) if not Path(path).is_file()]
    if missing:
        others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        fix = correct(missing[0], "the paths in the manifest")
        raise AmbiError(f"{missing[0]}: there is no such audio file{others}; {fix}")


def load_audio(span: AudioSpan, sample_rate: int) -> Samples:
    """Return the samples of a span.

    Channels are mixed down by their mean, the span is cut out of the file, and what is left is resampled by soxr (HQ).
    A clip shorter than 0.1 s is padded with zeros to 0.1 s. Samples beyond -1..1 are clipped, and counted in `clipped`.

    Args:
        span: The part of a file.
        sample_rate: Rate of the returned samples in Hz.

    Returns:
        Mono samples, float32, shape (samples,), in -1..1.

    Raises:
        AmbiError: If the file is missing, empty, not decodable or shorter than its header states; if its header states
            impossible values (see `check_audio_file`); if it has no samples, samples that are not finite, or integers
            stored as floats; or if the span lies outside the file.
    """
    if span.control == "silence_fixed":
        return np.zeros(round(FIXED_SECONDS * sample_rate), np.float32)
    samples, rate = _decode(span)
    if rate != sample_rate:
        samples = soxr.resample(samples, rate, sample_rate, quality="HQ")
    shortest = math.ceil(SHORTEST_SECONDS * sample_rate)
    if len(samples) < shortest:
        samples = np.pad(samples, (0, shortest - len(samples)))
    if span.control == "silence":
        return np.zeros_like(samples)
    if span.control == "noise":
        loudness = np.sqrt(np.mean(np.square(samples)))
        noise = np.random.default_rng(int(audio_digest(span), 16)).standard_normal(len(samples), dtype=np.float32)
        return loudness * noise / np.sqrt(np.mean(np.square(noise)))
    return _clip(span.path, samples)


def span_seconds(span: AudioSpan) -> float:
    """Return the length of a span in seconds, from the header of its file; 0 if it cannot be read.

    A file whose header does not state its length is decoded; a missing file is an AmbiError.
    """
    if span.control == "silence_fixed":
        return FIXED_SECONDS
    check_files_exist([span])
    try:
        with ExitStack() as stack:
            files = open_audio(Path(span.path), stack)
            rate, frames = files[0].samplerate, stated_frames(files)
            if frames is None:
                frames = sum(map(len, read_blocks(files, MOST_SECONDS * rate)))
    except (AmbiError, soundfile.SoundFileError):
        return 0.0
    seconds = min(frames / rate, math.inf if span.end is None else span.end) - (span.start or 0.0)
    return max(0.0, round(seconds, 9))  # 32.02 - 2.02 is more than 30


def _clip(path: str, samples: Samples) -> Samples:
    """Return the samples clipped to -1..1; log the first file that needs it."""
    beyond = int((np.abs(samples) > 1).sum())
    if not beyond:
        return samples
    if not clipped:
        logger.warning(
            "%s: %d of %d samples lie beyond -1..1 and are clipped, as in all other such files",
            path,
            beyond,
            len(samples),
        )
    clipped[path] = beyond
    return samples.clip(-1, 1)


def _decode(span: AudioSpan) -> tuple[Samples, int]:
    """Return the mono samples of the span at the file's own rate, and that rate in Hz."""
    path = Path(span.path)
    try:
        with ExitStack() as stack:
            files = open_audio(path, stack)
            rate = files[0].samplerate
            stated = stated_frames(files)
            first, last = (0, MOST_SECONDS * rate) if stated is None else _frames(span, stated, rate)
            # Read from the beginning, because seeking in an mp3 is not exact.
            channels = np.concatenate(list(read_blocks(files, last)))
    except soundfile.LibsndfileError as error:
        raise undecodable(path, error) from error
    if stated is None:
        first, last = _frames(span, len(channels), rate)
    elif len(channels) < last:
        raise breaks_off(path, f"after {len(channels) / rate:.2f} s, its header states {stated / rate:.2f} s")
    channels = channels[first:last]
    if not np.isfinite(channels).all():
        raise AmbiError(f"{path}: the audio holds values that are not finite; copy it anew from the release")
    if (peak := np.abs(channels).max()) > FULL_SCALE_LIMIT:
        fix = "divide them so that they lie in -1..1"
        raise AmbiError(f"{path}: its samples are floats up to {peak:,.0f}, as of integers; {fix}")
    # The mean of the channels; for equal channels, FFmpeg's down-mix is louder by sqrt(2).
    return channels.mean(axis=1), rate


def _frames(span: AudioSpan, frames: int, rate: int) -> tuple[int, int]:
    """Return the first frame of the span, and the frame after its last one."""
    if frames == 0:
        raise AmbiError(f"{span.path}: the audio holds no samples; copy it anew from the release")
    first = round((span.start or 0.0) * rate)
    last = frames if span.end is None else round(span.end * rate)
    if first >= frames or last > frames + END_TOLERANCE_SECONDS * rate:
        asked = f"{span.start or 0.0} to {'its end' if span.end is None else span.end} s"
        raise AmbiError(f"{span.path}: {asked} lies outside the audio of {frames / rate:.3f} s; correct start and end")
    return first, min(last, frames)


def audio_digest(span: AudioSpan) -> str:
    """Return the sha256 (hex) of what the model hears: the file's bytes, the span and the control, but not the path.

    `silence_fixed`, which sounds the same for every clip, has one digest for all clips. A missing file is an AmbiError.
    """
    if span.control == "silence_fixed":
        return hashlib.sha256(f"{span.control}|{FIXED_SECONDS}".encode()).hexdigest()
    check_files_exist([span])
    stat = Path(span.path).stat()
    content = _file_digest(span.path, stat.st_mtime_ns, stat.st_size)
    start, end = (None if second is None else float(second) for second in (span.start, span.end))
    return hashlib.sha256(f"{content}|{start}|{end}|{span.control}".encode()).hexdigest()


@lru_cache(maxsize=100_000)
def _file_digest(path: str, modified_ns: int, size: int) -> str:
    """Return the sha256 (hex) of a file's bytes; time and size tell whether the file was replaced."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load_ahead(load: Callable[[Item], Loaded], items: Iterable[Item], ahead: int) -> Generator[Loaded, None, None]:
    """Yield `load(item)` for each item in order, while threads load up to `ahead` further items.

    An error of `load` is raised when its item is due.
    """
    with ThreadPoolExecutor(LOADER_THREADS, thread_name_prefix="audio") as pool:
        loading: deque[Future[Loaded]] = deque()
        for item in items:
            loading.append(pool.submit(load, item))
            if len(loading) > ahead:
                yield loading.popleft().result()
        while loading:
            yield loading.popleft().result()
