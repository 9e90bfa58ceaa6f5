"""WHiSER: turns of the White House tapes of 1971 to 1973; five or more workers voted on each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ambi_eval.corpora import command as options
from ambi_eval.corpora.hub import mirrored_audio
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.msp_labels import ChoiceOption, read_consensus, read_ratings, refuse_count_each
from ambi_eval.corpora.preparation import Preparation, find_files, find_folder, how_counted
from ambi_eval.corpora.registry import Corpus
from ambi_eval.errors import AmbiError

CORPUS = Corpus(
    title="WHiSER",
    language="en",
    license="labels published; audio under the terms that the MSP laboratory's page asks to accept",
    citation="A. Reddy Naini, L. Goncalves, M. A. Kohler, D. Robinson, E. Richerson, C. Busso. WHiSER: White House "
    "Tapes Speech Emotion Recognition Corpus. Interspeech 2024.",
    homepage="https://github.com/msplabresearch/WHiSER",
    source="Labels/ and Annotation_wav_files/",
    clips=5_427,
)


def prepare(
    source: Path | None,
    out: Path,
    *,
    from_hub: Annotated[
        str | None,
        typer.Option(help="A mirror of the audio, `Lab-MSP/whiser_parquet` or a copy; if it lacks labels: --source."),
    ] = None,
    labels: ChoiceOption = "primary",
    count_each: options.CountEach = False,
    allow_missing_audio: options.AllowMissingAudio = False,
) -> Preparation:
    """Prepare WHiSER from its labels and the audio of the laboratory's page, or of a mirror on the hub.

    Speakers are not published. Clips of one tape depend on each other: `dialogue` holds the tape. A mirror without
    label files needs the labels beside it, in `source`.
    """
    refuse_count_each(count_each, labels)
    preparation = Preparation(out, CORPUS, allow_missing_audio, how_counted(count_each), count_each)
    audio, folder, tapes, release = _release(source, out, from_hub, optional=allow_missing_audio)
    ratings = read_ratings(folder, labels, preparation.remarks)
    consensus = read_consensus(folder)
    for name in sorted(ratings.keys() | consensus.keys() | audio.keys()):
        if name not in ratings:
            preparation.skipped["no published votes"] += 1
            continue
        stem = name.removesuffix(".wav")
        # Without the table of sources: a clip is named after its tape, 006-040.1-2_13 after 006-040.1-2.
        told = {"audio": audio.get(name), "dialogue": tapes.get(name) or stem.rpartition("_")[0] or None}
        facts = preparation.panel(ratings[name]) | consensus.get(name, {}) | told
        preparation.add(Clip(id=stem, release=release, **facts))
    return preparation.save()


def _release(
    source: Path | None, out: Path, mirror: str | None, *, optional: bool
) -> tuple[dict[str, str], Path, dict[str, str], str | None]:
    """Return the path of each audio file, the folder of labels, the tape of each clip, the revision of the mirror."""
    release = None
    if mirror is None:
        assert source is not None  # the command requires it
        audio, where = find_files(source, ".wav", "Annotation_wav_files", "Audios", optional=optional), source
    else:
        audio, where, release = mirrored_audio(mirror, out)
        where = source or where
    labels = next((path.parent for path in sorted(where.rglob("labels_detailed.*"))), None)
    if labels is None and mirror is not None:
        fix = f"give the folder of {CORPUS.homepage}, which holds Labels/, to --source"
        raise AmbiError(f"{mirror} has no labels_detailed.csv: {fix}")
    tapes = next(iter(sorted(where.rglob("Annotation_wav_files_ref.txt"))), where / "Annotation_wav_files_ref.txt")
    return audio, labels or find_folder(where, "Labels"), _tapes(tapes), release


def _tapes(path: Path) -> dict[str, str]:
    """Return the tape of each clip, from lines of clip, tape, start and duration; empty if there is no such table."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else ()
    columns = (line.replace(";", " ").split() for line in lines)
    return {clip: tape.removesuffix(".wav") for clip, tape, *_ in (row for row in columns if len(row) > 1)}
