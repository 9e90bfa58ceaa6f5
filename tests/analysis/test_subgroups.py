"""Gaps between groups of speakers: means by hand, the interval against statsmodels, and its coverage."""

import numpy as np
import pytest
import statsmodels.api as sm
from support.selections import selection_of as bare_selection

from ambi_eval.analysis.subgroups import subgroups
from ambi_eval.corpora.manifest import Clip


def selection_of(speakers):
    """Clips of speakers given as (name, sex, age, number of clips)."""
    clips = [
        Clip(id=f"{name}{i}", votes={"x": 1}, speaker=name, sex=sex, age=age)
        for name, sex, age, count in speakers
        for i in range(count)
    ]
    return bare_selection(np.ones((len(clips), 2)), [clip.speaker for clip in clips], clips=clips)


FOUR = selection_of([("a", "female", 25, 2), ("b", "female", 70, 1), ("c", "male", 30, 2), ("d", None, None, 1)])


def test_means_and_gaps_of_sexes():
    groups = {g.name: g for g in subgroups(np.array([1.0, 2, 6, 1, 3, 100]), FOUR) if g.trait == "sex"}
    assert list(groups) == ["female", "male"]
    assert (groups["female"].clips, groups["female"].speakers, groups["female"].mean.value) == (3, 2, 3.0)
    assert groups["female"].gap.value == 3 - 2, "the clip of unknown sex is in no group"
    assert groups["male"].gap.value == -1


@pytest.mark.parametrize(
    ("age", "band"),
    [(0, "under 30"), (29.9, "under 30"), (30, "30-44"), (45, "45-59"), (59, "45-59"), (60, "60 and over")],
)
def test_bands_of_age(age, band):
    groups = subgroups(np.arange(2.0), selection_of([("a", None, age, 1), ("b", None, 20 if age >= 30 else 99, 1)]))
    assert band in [g.name for g in groups]


def test_bands_come_in_the_order_of_age():
    groups = subgroups(np.arange(6.0), FOUR)
    assert [g.name for g in groups if g.trait == "age"] == ["under 30", "30-44", "60 and over"]


def test_a_trait_that_all_or_none_share_makes_no_groups():
    assert subgroups(np.arange(3.0), selection_of([("a", "male", None, 2), ("b", "male", None, 1)])) == []


def test_undefined_scores_are_left_out():
    groups = {g.name: g for g in subgroups(np.array([1.0, 2, np.nan, 1, 3, 100]), FOUR) if g.trait == "sex"}
    assert groups["female"].mean.value == 1.5
    assert groups["female"].gap.value == -0.5


def simulated(rng, speakers=40):
    selection = selection_of(
        [(f"s{i:02d}", "female" if i % 2 else "male", None, int(rng.integers(8, 13))) for i in range(speakers)]
    )
    effect = {name: rng.normal() for name in sorted(set(selection.clusters))}
    scores = np.array([effect[name] for name in selection.clusters]) + rng.normal(size=len(selection.clips))
    return scores, selection


def test_the_interval_is_that_of_a_regression_with_clustered_errors():
    scores, selection = simulated(np.random.default_rng(1))
    female = np.array([clip.sex == "female" for clip in selection.clips], dtype=float)
    _, numbers = np.unique(selection.clusters, return_inverse=True)
    fit = sm.OLS(scores, sm.add_constant(female)).fit(
        cov_type="cluster", cov_kwds={"groups": numbers, "use_correction": False}, use_t=True
    )
    low, high = fit.conf_int()[1]
    gap = next(g.gap for g in subgroups(scores, selection) if g.name == "female")
    correction = np.sqrt(40 / 39)  # G / (G - 1), and statsmodels takes t with G - 1 as well
    assert gap.value == pytest.approx(fit.params[1])
    assert gap.high - gap.low == pytest.approx((high - low) * correction, rel=0.01)


@pytest.mark.slow
def test_without_a_gap_the_interval_holds_0_as_often_as_it_says():
    rng = np.random.default_rng(2)
    gaps = [subgroups(*simulated(rng))[0].gap for _ in range(500)]
    assert 0.92 <= np.mean([gap.low <= 0 <= gap.high for gap in gaps]) <= 0.98
