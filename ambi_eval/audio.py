"""From a file to the samples that a model hears: decoded, mixed down, cut, resampled, always in the same way."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ambi_eval.errors import AmbiError, did_you_mean

Control = Literal["silence", "noise"]
Samples = NDArray[np.float32]
Item = TypeVar("Item")
Loaded = TypeVar("Loaded")

# Several encoders crash on an audio of less than two of their frames.
SHORTEST_SECONDS = 0.1
# Time stamps of corpora are rounded: an end this far behind the file's own is the file's own.
END_TOLERANCE_SECONDS = 0.01
LOADER_THREADS = 4


@dataclass(frozen=True)
class AudioSpan:
    """Which part of which file is heard, or what is heard instead of it.

    Attributes:
        path: The audio file.
        start: First second that is heard; None is the beginning of the file.
        end: Second at which it ends; None is the end of the file.
        control: `silence` (zeros) or `noise` (white noise of the same loudness), as long as the clip; None is the clip.

    Raises:
        AmbiError: If the span is empty or negative, or the control unknown.
    """

    path: str
    start: float | None = None
    end: float | None = None
    control: Control | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.control not in (None, *get_args(Control)):
            hint = did_you_mean(str(self.control), get_args(Control))
            raise AmbiError(f"{self.path}: '{self.control}' is no control{hint}; give silence, noise or nothing")
        end = math.inf if self.end is None else self.end
        if not 0 <= (self.start or 0.0) < end:
            raise AmbiError(f"{self.path}: {self.start} to {self.end} s is no span; give 0 <= start < end in seconds")

    @classmethod
    def from_dict(cls, doc: Mapping[str, Any]) -> AudioSpan:
        """Build a span from a document's `{"path": ..., "start": ..., "end": ..., "control": ...}`.

        Raises:
            AmbiError: If a key is unknown or the path is missing.
        """
        known = [field.name for field in fields(cls)]
        for key in doc:
            if key not in known:
                raise AmbiError(f"an audio has no '{key}'{did_you_mean(key, known)}; its keys are {', '.join(known)}")
        if not doc.get("path"):
            raise AmbiError(f"an audio without a path: {dict(doc)}; give the file as 'path'")
        return cls(**doc)


def check_files_exist(spans: Iterable[AudioSpan]) -> None:
    """Check that every file is there, before hours are spent on the first half of them.

    Raises:
        AmbiError: If a file is missing; names the first one and counts the others.
    """
    missing = [path for path in dict.fromkeys(span.path for span in spans) if not Path(path).is_file()]
    if missing:
        others = f" (and {len(missing) - 1} others)" if len(missing) > 1 else ""
        raise AmbiError(f"{missing[0]}: there is no such audio file{others}; correct the paths in the manifest")


def load_audio(span: AudioSpan, sample_rate: int) -> Samples:
    """Return the samples of a span.

    Channels are mixed down by their mean, the span is cut out of the file, and what is left is resampled by soxr (HQ).
    A clip shorter than 0.1 s is padded with zeros to 0.1 s.

    Args:
        span: What to hear.
        sample_rate: Rate of the returned samples in Hz.

    Returns:
        Mono samples, float32, shape (samples,), nominally -1..1.

    Raises:
        AmbiError: If the file is missing, empty, not decodable or shorter than it says, holds no samples or values
            that are not finite, or if the span lies outside the file.
    """
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
    return samples


def _decode(span: AudioSpan) -> tuple[Samples, int]:
    """Return the mono samples of the span at the file's own rate, and that rate in Hz."""
    path = Path(span.path)
    if not path.is_file():
        raise AmbiError(f"{path}: there is no such audio file; correct the path")
    if path.stat().st_size == 0:
        raise AmbiError(f"{path}: the audio file is empty; copy it anew from the release")
    try:
        with soundfile.SoundFile(path) as file:
            first, last = _frames(span, file.frames, file.samplerate)
            # From the beginning, since seeking in an mp3 is not exact.
            channels = file.read(last, dtype="float32", always_2d=True)
            rate = file.samplerate
    except soundfile.LibsndfileError as error:
        raise AmbiError(f"{path}: cannot be decoded ({error}); give a readable wav, flac, mp3 or ogg file") from error
    if len(channels) < last:
        raise AmbiError(
            f"{path}: the audio breaks off after {len(channels) / rate:.2f} s; copy it anew from the release"
        )
    channels = channels[first:]
    if not np.isfinite(channels).all():
        raise AmbiError(f"{path}: the audio holds values that are not finite; copy it anew from the release")
    # The mean, not FFmpeg's down-mix: that one is sqrt(2) louder for what both channels share.
    return channels.mean(axis=1), rate


def _frames(span: AudioSpan, frames: int, rate: int) -> tuple[int, int]:
    """Return the first frame of the span and the one behind its last."""
    if frames == 0:
        raise AmbiError(f"{span.path}: the audio holds no samples; copy it anew from the release")
    first = round((span.start or 0.0) * rate)
    last = frames if span.end is None else round(span.end * rate)
    if first >= frames or last > frames + END_TOLERANCE_SECONDS * rate:
        asked = f"{span.start or 0.0} to {'its end' if span.end is None else span.end} s"
        raise AmbiError(f"{span.path}: {asked} lies outside the audio of {frames / rate:.3f} s; correct start and end")
    return first, min(last, frames)


def audio_digest(span: AudioSpan) -> str:
    """Return the sha256 (hex) of what is heard: the file's bytes, the span and the control, whatever the path.

    Raises:
        AmbiError: If the file is missing.
    """
    try:
        stat = Path(span.path).stat()
    except FileNotFoundError as error:
        raise AmbiError(f"{span.path}: there is no such audio file; correct the path") from error
    content = _file_digest(span.path, stat.st_mtime_ns, stat.st_size)
    start, end = (None if second is None else float(second) for second in (span.start, span.end))
    return hashlib.sha256(f"{content}|{start}|{end}|{span.control}".encode()).hexdigest()


@lru_cache(maxsize=100_000)
def _file_digest(path: str, modified_ns: int, size: int) -> str:
    """Return the sha256 (hex) of a file's bytes; time and size are there to notice that the file was replaced."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load_ahead(load: Callable[[Item], Loaded], items: Iterable[Item], ahead: int) -> Iterator[Loaded]:
    """Yield `load(item)` for each item in order, while threads already load at most `ahead` items more.

    An error is raised where its item's turn comes.
    """
    with ThreadPoolExecutor(LOADER_THREADS, thread_name_prefix="audio") as pool:
        loading: deque[Future[Loaded]] = deque()
        for item in items:
            loading.append(pool.submit(load, item))
            if len(loading) > ahead:
                yield loading.popleft().result()
        while loading:
            yield loading.popleft().result()
