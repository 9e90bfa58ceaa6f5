"""What all tests share: a data directory of their own, the real CREMA-D release where there is one, slow tests last."""

import os
import sys
from pathlib import Path

import pytest
import torch

# Before anything imports huggingface_hub.
os.environ["HF_HUB_OFFLINE"] = "1"

# Packages that some model families need, without their compiled parts: the published builds of torchvision and
# torchaudio want the libraries of a GPU and do not import beside a CPU build of torch. Audio needs their Python alone,
# which `make test` puts into a folder of its own. It is added before anything asks transformers what is installed.
FAMILY_PACKAGES = Path(sys.prefix) / "families"
# torchvision names two operators of its compiled part when it is imported; nothing here calls them.
TORCHVISION = torch.library.Library("torchvision", "FRAGMENT")
if FAMILY_PACKAGES.is_dir():
    sys.path.append(str(FAMILY_PACKAGES))
    for operator in ("nms", "qnms"):
        TORCHVISION.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: starts processes or trains; runs after all others")


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
