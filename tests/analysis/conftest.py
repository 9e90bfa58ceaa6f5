"""The references of the real CREMA-D votes, worked out once for all tests, and a small corpus of one's own."""

import pytest

from ambi_eval.analysis.ambiguity import bin_clips
from ambi_eval.analysis.references.baselines import baselines

LABELS = ["angry", "happy", "sad"]


@pytest.fixture(scope="session")
def crema_d_baselines(crema_d_selection, crema_d_config):
    return baselines(crema_d_selection, crema_d_config, bin_clips(crema_d_selection))
