import sys

import numpy as np
import pytest

from ambi_eval.analysis.raters import latent
from ambi_eval.analysis.raters.ballots import Ballots
from ambi_eval.analysis.raters.latent import latent_truth
from ambi_eval.errors import AmbiError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def predicted(simulated):
    return latent_truth(simulated.ballots)


def test_models_of_a_true_label_find_it_more_often_than_the_other_raters_do(simulated, predicted):
    majority = simulated.ballots.others == simulated.ballots.others.max(axis=1, keepdims=True)
    share = majority / majority.sum(axis=1, keepdims=True)
    by_vote = share[np.arange(len(share)), simulated.truth].mean()
    for name in ("dawid_skene", "mace"):
        assert (predicted[name].argmax(axis=1) == simulated.truth).mean() > by_vote + 0.01


def test_a_true_label_is_no_distribution_of_votes_but_what_a_rater_would_say_is(simulated, predicted):
    """One rater in three does not know the truth, so certainty about the truth foresees ballots badly."""
    nll = {name: simulated.ballots.scores(p, "nll_bits").mean() for name, p in predicted.items()}
    assert nll["dawid_skene_rater"] < nll["dawid_skene"]
    for p in predicted.values():
        assert p.sum(axis=1) == pytest.approx(1)
        assert (p >= 0).all()


def test_a_ballot_is_predicted_without_itself(simulated, monkeypatch):
    """A ballot that says something else changes what is predicted for others, and not what is predicted for it."""
    monkeypatch.setattr(latent, "MACE_ITERATIONS", 3)
    ballots = simulated.ballots
    predicted = latent_truth(ballots)
    votes = ballots.votes.copy()
    votes[7] = np.roll(votes[7], 1)
    changed = latent_truth(Ballots(ballots.clip, ballots.rater, votes, ballots.names, ballots.clusters))
    for name in ("dawid_skene", "mace"):
        assert changed[name][7] == pytest.approx(predicted[name][7], abs=1e-9)
        assert np.abs(changed[name] - predicted[name]).max() > 1e-3


def test_a_missing_library_is_one_sentence(simulated, monkeypatch):
    monkeypatch.setitem(sys.modules, "crowdkit.aggregation", None)
    with pytest.raises(AmbiError, match=r"pip install 'ambi_eval\[raters\]'"):
        latent_truth(simulated.ballots)
