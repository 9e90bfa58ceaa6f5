"""A prepared corpus as a `datasets.Dataset`, for use with the Hugging Face libraries."""

from __future__ import annotations

from pathlib import Path

import datasets

from ambi_eval.corpora.manifest import COLUMNS, NUMBERS, read_manifest
from ambi_eval.corpora.registry import ensure_manifest

_TEXTS = tuple(name for name in COLUMNS if name not in ("id", "audio", "votes", "ratings", "folds", *NUMBERS))


def load_corpus(name: str, *, decode: bool = False) -> datasets.Dataset:
    """Return the clips of a prepared corpus, in the order of its manifest.

    Args:
        name: A corpus such as `crema_d`, or the path of a manifest (`.parquet` or `.jsonl`). The demo is made when it
            is missing; other corpora must have been prepared.
        decode: Whether `row["audio"]` is the decoded audio, for which `datasets` needs torchcodec. By default it is the
            path of the file: `ambi_eval.audio.load_audio` reads the samples that a model hears.

    Returns:
        A data set with the columns `id`, `audio` (None: the clip has no audio), `votes` (votes of every label of the
        corpus), `ratings` (rater and labels, empty where the corpus does not publish them), `start` and `end` (seconds
        in the audio file, None: its beginning, its end), and `speaker`, `split`, `transcript` and so on as in the
        manifest.

    Raises:
        AmbiError: If there is no such corpus, it is not prepared, or its manifest is broken.
    """
    is_file = name.endswith((".parquet", ".jsonl"))
    clips = read_manifest(Path(name) if is_file else ensure_manifest(name))
    labels = sorted(set().union(*(clip.votes for clip in clips)))
    text, number = datasets.Value("string"), datasets.Value("float64")
    columns = {
        "id": [clip.id for clip in clips],
        "audio": [clip.audio for clip in clips],
        "votes": [{label: clip.votes.get(label, 0.0) for label in labels} for clip in clips],
        "ratings": [[{"rater": each.rater, "labels": each.labels} for each in clip.ratings] for clip in clips],
        **{column: [getattr(clip, column) for clip in clips] for column in (*NUMBERS, *_TEXTS)},
    }
    features = {
        "id": text,
        "audio": text,
        "votes": dict.fromkeys(labels, number),
        "ratings": datasets.List({"rater": text, "labels": datasets.List(text)}),
        **dict.fromkeys(NUMBERS, number),
        **dict.fromkeys(_TEXTS, text),
    }
    corpus = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    return corpus.cast_column("audio", datasets.Audio(decode=decode))  # casting paths encodes no audio
