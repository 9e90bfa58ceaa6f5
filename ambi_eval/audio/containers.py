"""Opens audio files and checks their headers, so that cut-off files and wrong formats are found before decoding."""

from __future__ import annotations

import os
import re
import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from ambi_eval.errors import AmbiError

# If a header states values outside these limits, it is wrong, or the file is no clip of speech.
RATES = (4_000, 192_000)
MOST_SECONDS = 2 * 60 * 60
MOST_CHANNELS = 8
# The length that `soundfile` returns for a stream whose header does not state one.
_UNKNOWN_FRAMES = 1 << 62
_BLOCK_FRAMES = 1 << 20
# The size that programs write into a WAV header before they know it.
_UNKNOWN_BYTES = 0x7FFF_0000
# Some programs count the bytes of the last chunk wrongly: up to this many missing bytes (0.01 s at 16 kHz) are ignored.
_TAIL_BYTES = 320
# The frame at the beginning of an mp3 that states its length (the flag 1 says that it does).
_MP3_LENGTH = re.compile(rb"(?:Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f]|VBRI")


def check_audio_file(path: Path) -> None:
    """Check the header of an audio file; the samples are not decoded.

    Raises:
        AmbiError: If the file is missing, empty, of no known format or cut off, or if its header states a rate outside
            4 to 192 kHz, more than 8 channels or more than 2 hours.
    """
    with ExitStack() as stack:
        open_audio(path, stack)


def correct(path: str | Path, what: str) -> str:
    """Return what to do about a path that does not exist."""
    return f"correct {what}" + (", with / between folders in place of \\" if "\\" in str(path) else "")


class Stream(soundfile.SoundFile):
    """An audio file that is read from the beginning to the end, whatever length its header states."""

    def seekable(self) -> bool:
        """Return False: else `soundfile` seeks after each read, which fails at the end of a FLAC of unknown length."""
        return False


def stated_frames(files: Sequence[Stream]) -> int | None:
    """Return the number of frames that the headers state, or None if a header does not state it."""
    frames = [file.frames for file in files]
    return None if max(frames) >= _UNKNOWN_FRAMES else sum(frames)


def read_blocks(files: Sequence[Stream], last: int) -> Iterator[NDArray[np.float32]]:
    """Yield the samples of the files one after the other, shape (frames, channels), up to the frame `last`."""
    yield np.empty((0, files[0].channels), np.float32)
    for file in files:
        while len(block := file.read(min(last, _BLOCK_FRAMES), dtype="float32", always_2d=True)):
            yield block
            last -= len(block)


def open_audio(path: Path, stack: ExitStack) -> list[Stream]:
    """Open a file and check its header (`check_audio_file`): one stream, or one for each link of a chained Ogg file."""
    if not path.is_file():
        raise AmbiError(f"{path}: there is no such audio file; {correct(path, 'the path')}")
    if path.stat().st_size == 0:
        raise AmbiError(f"{path}: the audio file is empty; copy it anew from the release")
    with path.open("rb") as file:
        kind = file.read(4)
        if kind in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
            _check_chunks(path, file)
    # As bytes: soundfile cannot encode every path that a file system may hold, or that LC_ALL=C leaves undecoded.
    name = os.fsencode(path)
    sources: list[bytes | BytesIO] = [BytesIO(link) for link in _ogg_links(path)] if kind == b"OggS" else [name]
    try:
        files = [stack.enter_context(Stream(source)) for source in sources]
        if files[0].format == "MP3" and not _mp3_states_length(path):
            files = [stack.enter_context(_piped(path))]
    except soundfile.LibsndfileError as error:
        raise undecodable(path, error) from error
    for file in files:
        _check_header(path, file)
    if len({(file.samplerate, file.channels) for file in files}) > 1:
        raise AmbiError(f"{path}: its parts differ in sample rate or channels; give each part as a file of its own")
    return files


def _check_header(path: Path, file: Stream) -> None:
    rate, seconds = file.samplerate, file.frames / file.samplerate
    if not RATES[0] <= rate <= RATES[1]:
        raise AmbiError(f"{path}: its header states {rate:,} Hz; give audio of {RATES[0]:,} to {RATES[1]:,} Hz")
    if file.channels > MOST_CHANNELS:
        raise AmbiError(f"{path}: its header states {file.channels} channels; give audio of at most {MOST_CHANNELS}")
    if file.frames < _UNKNOWN_FRAMES and seconds > MOST_SECONDS:
        raise AmbiError(f"{path}: its header states {seconds / 3600:,.1f} hours; give audio of at most 2 hours")


@contextmanager
def _piped(path: Path) -> Iterator[Stream]:
    """Open an mp3 through a pipe, so that libsndfile reads it to the end, not to a length guessed from its size."""
    read_end, write_end = os.pipe()

    def feed() -> None:
        with suppress(BrokenPipeError), open(write_end, "wb") as pipe, path.open("rb") as file:  # noqa: PTH123
            shutil.copyfileobj(file, pipe)

    feeder = Thread(target=feed, name="audio pipe", daemon=True)
    feeder.start()
    try:
        with Stream(read_end) as stream:
            yield stream
    finally:
        feeder.join()


def _mp3_states_length(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(10)
        if head.startswith(b"ID3"):
            size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            file.seek(10 + size)
            head = b""
        return _MP3_LENGTH.search(head + file.read(256)) is not None


def _check_chunks(path: Path, file: Any) -> None:
    """Raise an error if a WAV or AIFF file has fewer bytes of samples than its header states."""
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
                raise breaks_off(path, f"after {there:,} bytes of samples, its header states {size:,}")
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
            raise breaks_off(path, "in the middle of a page")
        flags = content[page + 5]
        if flags & 2 and not in_beginning:
            beginnings.append(page)
        in_beginning = bool(flags & 2)
        page = content.find(b"OggS", end)
    if not flags & 4:
        raise breaks_off(path, "before the page that ends the stream")
    return [content[first:last] for first, last in zip(beginnings, [*beginnings[1:], None], strict=True)]


def breaks_off(path: Path, where: str) -> AmbiError:
    """Return the error of a file that is cut off."""
    return AmbiError(f"{path}: the audio breaks off {where}; copy it anew from the release")


def undecodable(path: Path, error: Exception) -> AmbiError:
    """Return the error of a file that cannot be decoded."""
    fix = "give a readable wav, flac, mp3 or ogg file (`ffmpeg -i clip.m4a clip.wav` converts others)"
    return AmbiError(f"{path}: cannot be decoded ({error}); {fix}")
