"""Supervised references: predictions of probes of audio encoders, in one file for each encoder and corpus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ambi_eval.config.corpus_settings import CorpusSettings
from ambi_eval.corpora.selection import Selection
from ambi_eval.errors import AmbiError
from ambi_eval.paths import data_dir, writing
from ambi_eval.votes import Array

FOLDER = "references"


def save_supervised(name: str, p: Array, selection: Selection, settings: CorpusSettings) -> Path:
    """Store predictions as a reference of a corpus, and return the path of the file.

    `p` has shape (clips, labels), each row by a fit without clips of the same speaker; a row of NaN is no prediction.

    Raises:
        AmbiError: If the file cannot be written.
    """
    known = np.flatnonzero(~np.isnan(p).any(axis=1))
    content = {
        "name": name,
        "manifest": settings.manifest,
        "labels": list(settings.labels),
        "clips": {
            selection.clips[row].id: {"shares": p[row].tolist(), "votes": selection.votes[row].tolist()}
            for row in known.tolist()
        },
    }
    file = data_dir() / FOLDER / f"{re.sub('[^A-Za-z0-9.-]+', '_', f'{Path(settings.manifest).stem}__{name}')}.json"
    with writing(file, "set AMBI_DATA to another folder") as unfinished:
        unfinished.write_text(json.dumps(content), encoding="utf-8")
    return file


def supervised(selection: Selection, settings: CorpusSettings, notes: list[str]) -> Iterator[tuple[str, Array]]:
    """Yield name and predictions, shape (clips, labels), of each stored reference with the same labels and votes.

    Clips without a prediction are NaN. A sentence is added to `notes` for each reference that was fitted to other
    votes.

    Raises:
        AmbiError: If a file cannot be read or holds something else.
    """
    for file in sorted((data_dir() / FOLDER).glob("*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            same = content["manifest"] == settings.manifest and content["labels"] == list(settings.labels)
            name, clips = str(content["name"]), content["clips"]
            found = [clips.get(clip.id) for clip in selection.clips] if same else []
            p = np.array([each["shares"] if each else [np.nan] * len(settings.labels) for each in found], dtype=float)
            fits = all(each["votes"] == votes for each, votes in zip(found, selection.votes.tolist()) if each)  # noqa: B905
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AmbiError(f"{file} holds no reference ({error!r:.80}): remove it") from error
        if not same or not any(found):
            continue
        if not fits:
            notes.append(f"{name} was fitted to other votes than these: run `ambi-eval probe` again")
            continue
        yield name, p
