"""From a file to the samples that a model hears: decoded, mixed down, cut, resampled, always in the same way."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import shutil
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ambi_eval.errors import AmbiError, did_you_mean

logger = logging.getLogger(__name__)

Control = Literal["silence", "noise", "silence_fixed"]
Samples = NDArray[np.float32]
Item = TypeVar("Item")
Loaded = TypeVar("Loaded")

# Several encoders crash on an audio of less than two of their frames.
SHORTEST_SECONDS = 0.1
# Time stamps of corpora are rounded: a span may end this long after its file does.
END_TOLERANCE_SECONDS = 0.01
# The length of `silence_fixed`, whatever the clip.
FIXED_SECONDS = 5.0
LOADER_THREADS = 4

# A header beyond these limits is wrong, or the file is no clip of speech.
RATES = (4_000, 192_000)
MOST_SECONDS = 2 * 60 * 60
MOST_CHANNELS = 8
# Samples lie in -1..1. A lossy format goes a little beyond; floats as large as this are integers of another scale.
FULL_SCALE_LIMIT = 16.0

# What `soundfile` gives as the length of a stream whose header does not state one.
_UNKNOWN_FRAMES = 1 << 62
_BLOCK_FRAMES = 1 << 20
# The size that programs write into a WAV header before they know it.
_UNKNOWN_BYTES = 0x7FFF_0000
# Some programs miscount the bytes of the last chunk: as few missing bytes as this (0.01 s of 16 kHz) are no loss.
_TAIL_BYTES = 320
# The frame at the beginning of an mp3 that states its length (the flag 1 says that it does).
_MP3_LENGTH = re.compile(rb"(?:Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f]|VBRI")

# Number of clipped samples of each file of which some were beyond -1..1, of all files that this process has heard.
clipped: dict[str, int] = {}


@dataclass(frozen=True)
class AudioSpan:
    """Which part of which file is heard, or what is heard instead of it.

    Attributes:
        path: The audio file.
        start: First second that is heard; None is the beginning of the file.
        end: Second at which it ends; None is the end of the file.
        control: What is heard instead: `silence` (zeros, as long as the clip), `noise` (white noise, as long and as
            loud as the clip) or `silence_fixed` (five seconds of zeros for every clip). None: the clip itself.

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
            known = get_args(Control)
            hint = did_you_mean(str(self.control), known)
            raise AmbiError(f"{self.path}: '{self.control}' is no control{hint}; give {', '.join(known)} or nothing")
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
    A clip shorter than 0.1 s is padded with zeros to 0.1 s. Samples beyond -1..1 are clipped, and counted in `clipped`.

    Args:
        span: What to hear.
        sample_rate: Rate of the returned samples in Hz.

    Returns:
        Mono samples, float32, shape (samples,), in -1..1.

    Raises:
        AmbiError: If the file is missing, empty, not decodable or shorter than its header says, if its header states
            what no clip of speech has (see `check_audio_file`), if it holds no samples, values that are not finite or
            integers in the form of floats, or if the span lies outside the file.
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
    """Return the length of a span in seconds, as the header of its file states it; 0 where it states none.

    Raises:
        AmbiError: If the file is missing.
    """
    if span.control == "silence_fixed":
        return FIXED_SECONDS
    check_files_exist([span])
    try:
        whole = float(soundfile.info(span.path).duration)
    except soundfile.SoundFileError:
        return 0.0
    return max(0.0, min(whole, math.inf if span.end is None else span.end) - (span.start or 0.0))


def _clip(path: str, samples: Samples) -> Samples:
    """Return the samples clipped to -1..1; the first time that a file needs it, say so."""
    beyond = int((np.abs(samples) > 1).sum())
    if not beyond:
        return samples
    if path not in clipped:
        logger.warning("%s: %d of %d samples lie beyond -1..1 and are clipped", path, beyond, len(samples))
    clipped[path] = beyond
    return samples.clip(-1, 1)


def check_audio_file(path: Path) -> None:
    """Check that a model can hear a file, as far as its header tells; the samples are not decoded.

    Raises:
        AmbiError: If the file is missing, empty, of no known format or cut off, or if its header states a rate outside
            4 to 192 kHz, more than 8 channels or more than 2 hours.
    """
    with ExitStack() as stack:
        _open(path, stack)


def _decode(span: AudioSpan) -> tuple[Samples, int]:
    """Return the mono samples of the span at the file's own rate, and that rate in Hz."""
    path = Path(span.path)
    try:
        with ExitStack() as stack:
            files = _open(path, stack)
            rate = files[0].samplerate
            stated = _stated_frames(files)
            first, last = (0, MOST_SECONDS * rate) if stated is None else _frames(span, stated, rate)
            # From the beginning, since seeking in an mp3 is not exact.
            channels = np.concatenate(list(_blocks(files, last)))
    except soundfile.LibsndfileError as error:
        raise _undecodable(path, error) from error
    if stated is None:
        first, last = _frames(span, len(channels), rate)
    elif len(channels) < last:
        raise _breaks_off(path, f"after {len(channels) / rate:.2f} s, its header states {stated / rate:.2f} s")
    channels = channels[first:last]
    if not np.isfinite(channels).all():
        raise AmbiError(f"{path}: the audio holds values that are not finite; copy it anew from the release")
    if (peak := np.abs(channels).max()) > FULL_SCALE_LIMIT:
        raise AmbiError(
            f"{path}: its samples are floats up to {peak:,.0f}, as of integers; divide them so that they lie in -1..1"
        )
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


class _Stream(soundfile.SoundFile):
    """A file that is read from its beginning on, however many frames its header states."""

    def seekable(self) -> bool:
        """Return False: `soundfile` else seeks after each read, which fails at the end of a FLAC of unknown length."""
        return False


def _stated_frames(files: Sequence[_Stream]) -> int | None:
    """Return the number of frames that the headers state, or None if one does not."""
    frames = [file.frames for file in files]
    return None if max(frames) >= _UNKNOWN_FRAMES else sum(frames)


def _blocks(files: Sequence[_Stream], last: int) -> Iterator[NDArray[np.float32]]:
    """Yield what the files hold one after the other, shape (frames, channels), up to the frame `last`."""
    yield np.empty((0, files[0].channels), np.float32)
    for file in files:
        while len(block := file.read(min(last, _BLOCK_FRAMES), dtype="float32", always_2d=True)):
            yield block
            last -= len(block)


def _open(path: Path, stack: ExitStack) -> list[_Stream]:
    """Open a file and check its header: one stream, or in an Ogg file one for each of the links that it is chained of.

    Raises:
        AmbiError: See `check_audio_file`.
    """
    if not path.is_file():
        raise AmbiError(f"{path}: there is no such audio file; correct the path")
    if path.stat().st_size == 0:
        raise AmbiError(f"{path}: the audio file is empty; copy it anew from the release")
    with path.open("rb") as file:
        kind = file.read(4)
        if kind in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
            _check_chunks(path, file)
    sources: list[Path | BytesIO] = [BytesIO(link) for link in _ogg_links(path)] if kind == b"OggS" else [path]
    try:
        files = [stack.enter_context(_Stream(source)) for source in sources]
        if files[0].format == "MP3" and not _mp3_states_length(path):
            files = [stack.enter_context(_piped(path))]
    except soundfile.LibsndfileError as error:
        raise _undecodable(path, error) from error
    for file in files:
        _check_header(path, file)
    if len({(file.samplerate, file.channels) for file in files}) > 1:
        raise AmbiError(f"{path}: its parts differ in sample rate or channels; give each part as a file of its own")
    return files


def _check_header(path: Path, file: _Stream) -> None:
    rate, seconds = file.samplerate, file.frames / file.samplerate
    if not RATES[0] <= rate <= RATES[1]:
        raise AmbiError(f"{path}: its header states {rate:,} Hz; give audio of {RATES[0]:,} to {RATES[1]:,} Hz")
    if file.channels > MOST_CHANNELS:
        raise AmbiError(f"{path}: its header states {file.channels} channels; give audio of at most {MOST_CHANNELS}")
    if file.frames < _UNKNOWN_FRAMES and seconds > MOST_SECONDS:
        raise AmbiError(f"{path}: its header states {seconds / 3600:,.1f} hours; give audio of at most 2 hours")


@contextmanager
def _piped(path: Path) -> Iterator[_Stream]:
    """Open an mp3 through a pipe: libsndfile then reads it to its end, not to a length guessed from its size."""
    read_end, write_end = os.pipe()

    def feed() -> None:
        with suppress(BrokenPipeError), open(write_end, "wb") as pipe, path.open("rb") as file:  # noqa: PTH123
            shutil.copyfileobj(file, pipe)

    feeder = Thread(target=feed, name="audio pipe", daemon=True)
    feeder.start()
    try:
        with _Stream(read_end) as stream:
            yield stream
    finally:
        feeder.join()


def _mp3_states_length(path: Path) -> bool:
    """Return whether the first frame of an mp3 states its length."""
    with path.open("rb") as file:
        head = file.read(10)
        if head.startswith(b"ID3"):
            size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            file.seek(10 + size)
            head = b""
        return _MP3_LENGTH.search(head + file.read(256)) is not None


def _check_chunks(path: Path, file: Any) -> None:
    """Raise if the samples of a WAV or AIFF file are fewer bytes than its header states."""
    file.seek(0)
    order = ">" if file.read(12)[:4] in (b"RIFX", b"FORM") else "<"
    stated = None  # by the chunk `ds64` of a file of more than 4 GB
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack(f"{order}4sI", head)
        if name == b"ds64":
            stated = struct.unpack("<QQ", file.read(16))[1]
            size -= 16
        elif name in (b"data", b"SSND"):
            size = stated if stated is not None and size == 0xFFFF_FFFF else size
            there = path.stat().st_size - file.tell()
            if there + _TAIL_BYTES < size and (stated is not None or size < _UNKNOWN_BYTES):
                raise _breaks_off(path, f"after {there:,} bytes of samples, its header states {size:,}")
            return
        file.seek(size + size % 2, os.SEEK_CUR)


def _ogg_links(path: Path) -> list[bytes]:
    """Return the links of an Ogg file: most have one, a recording that was interrupted may have several (RFC 3533)."""
    content = path.read_bytes()
    beginnings: list[int] = []
    page, flags, in_beginning = 0, 0, False
    while page >= 0:
        lengths = content[page + 27 : page + 27 + content[page + 26]] if page + 27 <= len(content) else b""
        end = page + 27 + len(lengths) + sum(lengths)
        if not lengths or end > len(content):
            raise _breaks_off(path, "in the middle of a page")
        flags = content[page + 5]
        if flags & 2 and not in_beginning:
            beginnings.append(page)
        in_beginning = bool(flags & 2)
        page = content.find(b"OggS", end)
    if not flags & 4:
        raise _breaks_off(path, "before the page that ends the stream")
    return [content[first:last] for first, last in zip(beginnings, [*beginnings[1:], None], strict=True)]


def _breaks_off(path: Path, where: str) -> AmbiError:
    return AmbiError(f"{path}: the audio breaks off {where}; copy it anew from the release")


def _undecodable(path: Path, error: Exception) -> AmbiError:
    return AmbiError(f"{path}: cannot be decoded ({error}); give a readable wav, flac, mp3 or ogg file")


def audio_digest(span: AudioSpan) -> str:
    """Return the sha256 (hex) of what is heard: the file's bytes, the span and the control, whatever the path.

    What is the same for every clip (`silence_fixed`) has one digest for all of them.

    Raises:
        AmbiError: If the file is missing.
    """
    if span.control == "silence_fixed":
        return hashlib.sha256(f"{span.control}|{FIXED_SECONDS}".encode()).hexdigest()
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
