import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from ambi_eval.analysis.raters.ballots import Ballots
from ambi_eval.analysis.raters.reliability import rater_reliability


@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.ConvergenceWarning")
def test_shrunken_agreement_is_that_of_a_mixed_model(simulated):
    ballots = simulated.ballots
    found = rater_reliability(ballots)
    agrees = (ballots.votes * ballots.others).sum(axis=1)
    of_clip = np.bincount(ballots.clip, weights=agrees)[ballots.clip] / 5
    data = pd.DataFrame({"value": agrees - of_clip + agrees.mean(), "rater": ballots.rater})
    model = smf.mixedlm("value ~ 1", data, groups="rater").fit()
    assert found.mean == pytest.approx(agrees.mean())
    assert found.spread**2 == pytest.approx(model.cov_re.iloc[0, 0], rel=0.1)
    assert found.reliability == pytest.approx(
        model.cov_re.iloc[0, 0] / (model.cov_re.iloc[0, 0] + model.scale), rel=0.1
    )
    shrunk = [model.fe_params["Intercept"] + model.random_effects[rater].iloc[0] for rater in range(30)]
    assert found.shrunk == pytest.approx(shrunk, abs=0.005)


def test_the_order_of_raters_is_that_of_their_true_skill(simulated):
    found = rater_reliability(simulated.ballots)
    assert np.corrcoef(found.shrunk, simulated.skill)[0, 1] > 0.9


def test_shrinkage_brings_estimates_from_few_ballots_nearer_to_the_truth():
    rng = np.random.default_rng(3)
    clip, rater = np.repeat(np.arange(150), 4), rng.integers(100, size=600)
    knows = rng.random(600) < 0.7  # all raters are equally good
    said = np.where(knows, (clip % 3), rng.integers(3, size=600))
    names = [str(number) for number in range(100)]
    kept = np.unique(rater, return_inverse=True)[1]
    ballots = Ballots(clip, kept, np.eye(3)[said], names[: kept.max() + 1], [str(c) for c in clip])
    found = rater_reliability(ballots)
    assert np.ptp(found.shrunk) < 0.2 * np.ptp(found.agreement)
    assert found.reliability < 0.05


def test_raters_who_are_known_within_a_clip_only_have_no_reliability(simulated):
    ballots = simulated.ballots
    rows = np.arange(len(ballots.clip))
    alone = Ballots(ballots.clip, rows, ballots.votes, [str(row) for row in rows], ballots.clusters)
    assert rater_reliability(alone) is None
