"""What the tests of the corpora share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def crema_d_release(crema_d: Path) -> Path:
    """The folder of the real CREMA-D release, where `crema_d` is the module under test."""
    return crema_d


@pytest.fixture(autouse=True)
def data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory in which nothing is prepared yet."""
    monkeypatch.setenv("AMBI_DATA", str(tmp_path / "data"))
    return tmp_path / "data"
