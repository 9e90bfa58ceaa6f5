"""The references of the real CREMA-D votes, worked out once for all tests, and a small corpus of one's own."""

from pathlib import Path

import pytest

from ambi_eval.analysis.ambiguity import ambiguity_bins
from ambi_eval.analysis.references.baselines import baselines
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.crema_d import prepare
from ambi_eval.corpora.manifest import read_manifest
from ambi_eval.corpora.selection import select

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
