"""What the tests of the corpora share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def crema_d_release(crema_d: Path) -> Path:
    """The folder of the real CREMA-D release, where `crema_d` is the module under test."""
    return crema_d


@pytest.fixture
def real_labels() -> Callable[[str], Path]:
    """Give the folder of a corpus' real label files (no audio), or skip the test where they are not."""

    def folder(name: str) -> Path:
        path = Path(os.environ.get("AMBI_TEST_DATA", "")) / name
        if not os.environ.get("AMBI_TEST_DATA") or not path.is_dir():
            pytest.skip(f"AMBI_TEST_DATA does not point at a folder that holds {name}/")
        return path

    return folder


@pytest.fixture(autouse=True)
def data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory in which nothing is prepared yet."""
    monkeypatch.setenv("AMBI_DATA", str(tmp_path / "data"))
    return tmp_path / "data"
