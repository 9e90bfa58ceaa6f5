"""MSP-Podcast: short turns from public podcasts; five or more crowd workers voted on each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from ambi_eval.corpora import command as options
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.msp_labels import ChoiceOption, read_consensus, read_ratings, refuse_count_each
from ambi_eval.corpora.preparation import Preparation, find_files, find_folder, how_counted
from ambi_eval.corpora.registry import Corpus

CORPUS = Corpus(
    title="MSP-Podcast",
    language="en",
    license="signed agreement; neither audio, transcripts, votes nor a manifest may be passed on",
    citation="R. Lotfian, C. Busso. Building naturalistic emotionally balanced speech corpus by retrieving emotional "
    "speech from existing podcast recordings. IEEE Transactions on Affective Computing 10(4):471-483, 2019.",
    homepage="https://www.lab-msp.com/MSP/MSP-Podcast.html",
    source="Audios/ and Labels/",
    clips=151_654,
)

_PODCAST = re.compile(r"(MSP-PODCAST_\d+)_")
# Names that differ in releases up to 1.9.
_SPLITS = {"validation": "development"}


def prepare(
    source: Path,
    out: Path,
    *,
    labels: ChoiceOption = "primary",
    count_each: options.CountEach = False,
    release: Annotated[str | None, typer.Option(help="Number of the release, such as 1.11, for the manifest.")] = None,
    allow_missing_audio: options.AllowMissingAudio = False,
) -> Preparation:
    """Prepare MSP-Podcast, any release from 1.6 to 2.0."""
    refuse_count_each(count_each, labels)
    preparation = Preparation(out, CORPUS, allow_missing_audio, how_counted(count_each), count_each)
    folder = find_folder(source, "Labels", "labels", "label")
    ratings = read_ratings(folder, labels, preparation.remarks)
    consensus = read_consensus(folder)
    partitions = _partitions(source)
    audio = find_files(source, ".wav", "Audios", "Audio", optional=allow_missing_audio)
    transcripts = find_files(source, ".txt", "Transcripts", optional=True)
    names = sorted(ratings.keys() | consensus.keys() | partitions.keys() | audio.keys())
    for name in tqdm(names, "clips", unit="clip", disable=None):
        facts = consensus.get(name, {})
        split = facts.get("split") or partitions.get(name, "").lower()
        split = _SPLITS.get(split, split)
        if name not in ratings:
            preparation.skipped[f"no published votes ({split or 'no split'})"] += 1
            continue
        stem = name.removesuffix(".wav")
        podcast = _PODCAST.match(name)
        words = transcripts.get(f"{stem}.txt")
        told = {
            "audio": audio.get(name),
            "dialogue": podcast[1] if podcast else None,
            "transcript": Path(words).read_text(encoding="utf-8", errors="replace").strip() if words else None,
            "split": split or None,
        }
        preparation.add(Clip(id=stem, release=release, **preparation.panel(ratings[name]), **(facts | told)))
    return preparation.save()


def _partitions(source: Path) -> dict[str, str]:
    """Return the split of each audio file from lines such as `Test3; MSP-PODCAST_test3_0001.wav`."""
    splits = {}
    for path in (source / "Partitions.txt", source / "Partition.txt"):
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            split, _, name = line.partition(";")
            if name.strip():
                splits[name.strip()] = split.strip()
    return splits
