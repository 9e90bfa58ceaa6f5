"""Reads mirrors of corpora on the Hugging Face hub, which have the audio and the shares of the votes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from numpy.typing import NDArray
from tqdm import tqdm

from ambi_eval.corpora.manifest import ANOTHER_FOLDER, Clip
from ambi_eval.corpora.preparation import NO_AUDIO, Preparation, require_columns
from ambi_eval.errors import AmbiError
from ambi_eval.paths import writing

# EMO-SUPERB (Wu et al., arXiv 2402.13018), from which the mirrors have their shares, smoothed them with this.
EPSILON = 0.05
# The largest panel that is tried, and the tolerance of a whole vote. It covers rounding, and is less than 1 / 24.
MOST_RATERS = 24
TOLERANCE = 0.02
# Files to take from a mirror with its own label files.
WAV_AND_LABELS = ("*.parquet", "*.wav", "*labels_*", "*_ref.txt")
NAME_COLUMNS = ("FileName", "file_name", "filename", "file", "path")


def read_mirror(
    preparation: Preparation,
    mirror: str,
    labels: Sequence[str],
    describe: Callable[[str], dict[str, Any]],
    unheard: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Read the clips of a mirror into a preparation, and write their audio into `audio/` in its folder.

    Args:
        preparation: A preparation without clips.
        mirror: Hugging Face id such as `AbstractTTS/CREMA-D`, `id@revision` for a fixed revision, or a folder that
            holds its parquet files or what `datasets` wrote with `save_to_disk`.
        labels: The labels, each a column of the mirror.
        describe: Function from a clip's name to the attributes of `Clip` that follow from it.
        unheard: By name, the clips without usable audio, and the reason.

    Raises:
        AmbiError: If the hub cannot be reached, the mirror lacks a column, or the folder cannot be written to.
    """
    folder, release = _local(mirror, "*.parquet")
    files = sorted(folder.rglob("*.parquet")) or sorted(folder.rglob("data-*.arrow"))
    if not files:
        raise AmbiError(f"{mirror} holds neither *.parquet nor data-*.arrow: give a copy of a data set.")
    table = pa.Table.from_batches(_batches(files, *labels))
    votes = votes_from_shares(np.stack([table[label].to_numpy() for label in labels], axis=1))
    rows = (row for batch in _batches(files, "file", "audio", "gender", "transcription") for row in batch.to_pylist())
    for row, counts in zip(tqdm(rows, "audio", len(votes), unit="clip", disable=None), votes, strict=True):
        file = PurePosixPath(row["file"]).name
        name = PurePosixPath(file).stem
        traits = {"sex": row["gender"] and row["gender"].lower(), "transcript": row["transcription"], **describe(name)}
        clip = Clip(id=name, votes=dict(zip(labels, counts.tolist(), strict=True)), release=release, **traits)
        content = row["audio"] and row["audio"]["bytes"]
        if content and name not in unheard:
            clip = replace(clip, audio=_write_audio(preparation.out, file, content))
        if (counts % 1).any():
            preparation.remarks["shares that fit no number of raters, kept as they are"] += 1
        preparation.add(clip, unheard.get(name, NO_AUDIO))


def mirrored_audio(mirror: str, out: Path) -> tuple[dict[str, str], Path, str | None]:
    """Find the audio of a mirror (see `read_mirror`) whose labels are in files of their own: WAV or parquet files.

    The audio of parquet files is written into `audio/` in the folder `out` of the manifest.

    Returns:
        The path of each WAV file by its name, the mirror's folder on this machine, and its revision (None for a
        folder).

    Raises:
        AmbiError: If the hub cannot be reached, or the mirror has no audio, or none with a file name.
    """
    folder, release = _local(mirror, *WAV_AND_LABELS)
    found = {path.name: str(path.absolute()) for path in folder.rglob("*.wav")}
    for file in sorted(folder.rglob("*.parquet")):
        known = pq.ParquetFile(file).schema_arrow.names
        named = next((column for column in NAME_COLUMNS if column in known), None)
        for batch in _batches([file], "audio", *([named] if named else [])):
            for row in batch.to_pylist():
                audio = row["audio"] or {}
                name = PurePosixPath(str((row[named] if named else None) or audio.get("path") or "")).name
                if not name:
                    raise AmbiError(f"{file} does not say which file its audio is: it lacks {', '.join(NAME_COLUMNS)}.")
                name = name if name.endswith(".wav") else f"{name}.wav"
                if content := audio.get("bytes"):
                    found[name] = _write_audio(out, name, content)
    if not found:
        raise AmbiError(f"{mirror} holds neither *.parquet nor *.wav: give a copy of a data set with its audio.")
    return found, folder, release


def votes_from_shares(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the votes behind shares that may have been smoothed.

    EMO-SUPERB writes a share p over K labels as `a + (1 - K a) p` with `a = EPSILON / (K - 1)`. If the smallest of all
    shares is `a`, the smoothing is inverted; otherwise the shares are only normalized to sum 1.

    Args:
        shares: Shares, shape (clips, K); a row of NaN or zeros has no votes.

    Returns:
        Counts of the same shape: p times the smallest number of raters that makes every count whole. The true panel may
        have been a multiple of it, because 2 of 4 and 1 of 2 are the same share. A row that fits no panel of up to
        `MOST_RATERS` raters stays as shares.
    """
    n_labels = shares.shape[1]
    floor = EPSILON / (n_labels - 1)
    p = np.nan_to_num(shares)
    if np.isclose(np.nanmin(shares), floor, atol=1e-4):
        p = (p - floor) / (1 - n_labels * floor)
    p = np.clip(p, 0, None)  # a share of zero becomes a tiny number of either sign
    total = p.sum(axis=1, keepdims=True)
    p = np.divide(p, total, out=np.zeros_like(p), where=total > 0)
    votes = p.copy()
    for raters in range(MOST_RATERS, 0, -1):  # downwards, so that the smallest number that fits is kept
        counts = np.round(p * raters)
        fits = (np.abs(p * raters - counts) <= TOLERANCE).all(axis=1)
        votes[fits] = counts[fits]
    return votes


def _write_audio(out: Path, name: str, content: bytes) -> str:
    """Write an audio file into `audio/` in a folder, and return its path from there."""
    with writing(out / "audio" / name, ANOTHER_FOLDER) as unfinished:
        unfinished.write_bytes(content)
    return f"audio/{name}"


def _local(mirror: str, *patterns: str) -> tuple[Path, str | None]:
    """Return the local folder of a mirror, which is downloaded from the hub if it is no folder, and its revision."""
    if Path(mirror).is_dir():
        return Path(mirror), None
    name, _, revision = mirror.partition("@")
    try:
        folder = snapshot_download(name, repo_type="dataset", revision=revision or None, allow_patterns=list(patterns))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        fix = "check the id and the network, or give the folder of a copy to --from-hub."
        raise AmbiError(f"cannot get '{mirror}' from the Hugging Face hub ({reason}): {fix}") from error
    return Path(folder), f"{name}@{Path(folder).name}"  # a snapshot's folder is named after its commit


def _batches(files: Iterable[Path], *columns: str) -> Iterator[pa.RecordBatch]:
    """Yield batches of rows of parquet or Arrow files; audio stays encoded."""
    for file in files:
        parquet = file.suffix == ".parquet"
        reader = pq.ParquetFile(file) if parquet else pa.ipc.open_stream(pa.memory_map(str(file)))
        known = (reader.schema_arrow if parquet else reader.schema).names
        require_columns(file, columns, known)
        for batch in reader.iter_batches(batch_size=64, columns=columns) if parquet else reader:
            yield batch.select(columns)
