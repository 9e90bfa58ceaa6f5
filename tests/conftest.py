"""What all tests share: a data directory of their own, the real CREMA-D release where there is one, slow tests last."""

import os
from pathlib import Path

import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: starts processes or trains; runs after all others")
    os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(autouse=True, scope="session")
def data_dir(tmp_path_factory):
    """Nothing that a test prepares lands in the user's own data directory."""
    folder = tmp_path_factory.mktemp("data")
    before = os.environ.get("AMBI_DATA")
    os.environ["AMBI_DATA"] = str(folder)
    yield folder
    os.environ.pop("AMBI_DATA")
    if before is not None:
        os.environ["AMBI_DATA"] = before


@pytest.fixture(scope="session")
def crema_d():
    """The folder of the real CREMA-D release."""
    folder = Path(os.environ.get("AMBI_TEST_DATA", "")) / "crema_d"
    if not os.environ.get("AMBI_TEST_DATA") or not folder.is_dir():
        pytest.skip("AMBI_TEST_DATA does not point at a folder that holds crema_d/")
    return folder
