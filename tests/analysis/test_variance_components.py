"""Variance components against REML of statsmodels, and against known truths."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.regression.mixed_linear_model import MixedLM

from ambi_eval.analysis.variance_components import variance_components


def drawn(rng, variances, factors):
    """Scores with one random value for each combination of levels of each effect."""
    total = 0.0
    for effect, variance in variances.items():
        _, group = np.unique(np.array([factors[name] for name in effect]), axis=1, return_inverse=True)
        total = total + rng.normal(0, np.sqrt(variance), group.max() + 1)[group.ravel()]
    return total


def crossed(**sizes):
    grid = np.meshgrid(*map(range, sizes.values()), indexing="ij")
    return {name: axis.ravel() for name, axis in zip(sizes, grid, strict=True)}


def of_reml(scores, factors, effects):
    """The estimates of restricted maximum likelihood, of the effects and of the residual."""
    columns = {"_".join(effect): ["-".join(map(str, row)) for row in zip(*(factors[f] for f in effect), strict=True)]
               for effect in effects}  # fmt: skip
    frame = pd.DataFrame({**columns, "score": scores, "all": 1})
    formulas = {name: f"0 + C({name})" for name in columns}
    fitted = MixedLM.from_formula("score ~ 1", groups="all", vc_formula=formulas, data=frame).fit(reml=True)
    found = dict(zip(fitted.model.exog_vc.names, fitted.vcomp, strict=True))
    return [*(found[name] for name in columns), fitted.scale]


CLIP_IN_SPEAKER = {("speaker",): 1.0, ("clip",): 2.0, ("system",): 1.0, ("system", "speaker"): 0.5}


@pytest.mark.parametrize(
    ("variances", "sizes", "nested"),
    [
        ({("system",): 1.0, ("clip",): 2.0, ("wording",): 1.0, ("clip", "wording"): 0.7, ("system", "clip"): 0.8},
         {"system": 5, "clip": 8, "wording": 4}, False),
        (CLIP_IN_SPEAKER, {"system": 5, "speaker": 7, "clip": 4}, True),
    ],
)  # fmt: skip
def test_balanced_designs_give_the_estimates_of_reml(variances, sizes, nested):
    rng = np.random.default_rng(5)
    factors = crossed(**sizes)
    if nested:
        factors["clip"] = factors["speaker"] * sizes["clip"] + factors["clip"]
    scores = drawn(rng, {**variances, tuple(factors): 0.5}, factors)
    found = variance_components(scores, factors, variances)
    assert (found.variances > 0).all(), "where an estimate is below 0, REML gives 0 and moves the others"
    np.testing.assert_allclose(found.variances, of_reml(scores, factors, list(variances)), rtol=2e-3)


def test_raters_who_heard_some_of_the_clips_are_estimated_without_bias():
    variances = {("clip",): 1.0, ("rater",): 0.6, ("system",): 0.8, ("system", "rater"): 0.2, ("clip", "rater"): 2.0}
    rng, estimates = np.random.default_rng(1), []
    for _ in range(120):
        heard = np.array([(clip, rater) for clip in range(30) for rater in rng.permutation(12)[: rng.integers(3, 6)]])
        factors = {name: np.tile(column, 5) for name, column in zip(("clip", "rater"), heard.T, strict=True)}
        factors["system"] = np.repeat(range(5), len(heard))
        scores = drawn(rng, {**variances, ("system", "clip", "rater"): 0.5}, factors)
        estimates.append(variance_components(scores, factors, variances).variances)
    error = np.std(estimates, axis=0) / np.sqrt(len(estimates))
    assert (np.abs(np.mean(estimates, axis=0) - [*variances.values(), 0.5]) < 3.5 * error).all()


def test_intervals_of_unbalanced_speakers_cover_the_true_variances():
    rng, covered = np.random.default_rng(2), []
    clips_of = [2, 3, 4, 9, 12, 5, 3, 6, 7, 4, 5, 8]
    speaker = np.repeat(range(len(clips_of)), clips_of)
    factors = {"system": np.repeat(range(6), len(speaker)), "speaker": np.tile(speaker, 6)}
    factors["clip"] = np.tile(np.arange(len(speaker)), 6)
    for _ in range(150):
        scores = drawn(rng, {**CLIP_IN_SPEAKER, tuple(factors): 0.4}, factors)
        low, high = np.quantile(variance_components(scores, factors, CLIP_IN_SPEAKER).draws, [0.025, 0.975], axis=0)
        truth = np.array([*CLIP_IN_SPEAKER.values(), 0.4])
        covered.append((low <= truth) & (truth <= high))
    assert (np.mean(covered, axis=0) > 0.9).all(), np.mean(covered, axis=0)


def test_effects_that_group_the_scores_alike_are_refused():
    factors = {"speaker": [0, 0, 1, 1], "session": [5, 5, 7, 7]}
    with pytest.raises(ValueError, match="nothing is left to estimate the variance of: se"):
        variance_components([1.0, 2.0, 4.0, 8.0], factors, [("speaker",), ("session",)])
