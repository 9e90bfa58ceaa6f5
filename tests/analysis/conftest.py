"""The references of the real CREMA-D votes, worked out once for all tests, and a small corpus of one's own."""

import json
from pathlib import Path

import numpy as np
import pytest

from ambi_eval.analysis.ambiguity import ambiguity_bins
from ambi_eval.analysis.baselines import baselines
from ambi_eval.corpora.crema_d import prepare
from ambi_eval.corpora.manifest import read_manifest
from ambi_eval.selection import select
from ambi_eval.task_config import load_corpus

LABELS = ["angry", "happy", "sad"]


@pytest.fixture(scope="session")
def crema_d_data(crema_d, tmp_path_factory) -> Path:
    """A data directory with the manifests of the voice and the face votes."""
    folder = tmp_path_factory.mktemp("crema_d_data")
    prepare(crema_d, folder / "crema_d", allow_missing_audio=True)
    prepare(crema_d, folder / "crema_d_face", modality="face", allow_missing_audio=True)
    return folder


@pytest.fixture(scope="session")
def crema_d_config():
    return load_corpus("crema_d")


@pytest.fixture(scope="session")
def crema_d_selection(crema_d_data, crema_d_config):
    return select(crema_d_config, read_manifest(crema_d_data / "crema_d" / "manifest.parquet"), hear=False)


@pytest.fixture(scope="session")
def crema_d_baselines(crema_d_selection, crema_d_config):
    return baselines(crema_d_selection, crema_d_config, ambiguity_bins(crema_d_selection.votes))


@pytest.fixture(scope="session")
def own_corpus(tmp_path_factory) -> Path:
    """The YAML of a corpus of eight speakers, five clips each, with votes of four or five raters and no audio."""
    folder = tmp_path_factory.mktemp("mine")
    rng = np.random.default_rng(1)
    clips = []
    for speaker in "abcdefgh":
        for sentence in "12345":
            counts = rng.multinomial(rng.integers(4, 6), rng.dirichlet([1, 1, 1])).tolist()
            clips.append(
                {
                    "id": f"{speaker}_{sentence}",
                    "votes": dict(zip(LABELS, counts, strict=True)),
                    "speaker": speaker,
                    "sentence": sentence,
                    "acted": LABELS[rng.integers(3)],
                }
            )
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, clips)))
    yaml = folder / "mine.yaml"
    yaml.write_text(f"task: mine\nmanifest: mine.jsonl\nlabels: [{', '.join(LABELS)}]\n")
    return yaml
