import numpy as np
import pytest

from ambi_eval.analysis.raters.groups import rater_groups

TRAITS = {f"rater{number}": {"sex": "female" if number % 2 else "male", "age": 20 + 2 * number} for number in range(30)}


def test_groups_are_compared_on_the_clips_that_both_judged(simulated):
    ballots = simulated.ballots
    scores = np.random.default_rng(0).random(len(ballots.clip))
    female, male, *by_age = rater_groups(ballots, TRAITS)
    women = ballots.rater % 2 == 1
    differences = []
    for clip in range(400):
        here = ballots.clip == clip
        if (here & women).any() and (here & ~women).any():
            differences.append(scores[here & women].mean() - scores[here & ~women].mean())
    assert (female.trait, female.name, female.raters, female.clips) == ("sex", "female", 15, len(differences))
    assert female.difference(ballots, scores).value == pytest.approx(np.mean(differences))
    assert male.difference(ballots, scores).value == pytest.approx(-np.mean(differences))
    assert [group.name for group in by_age] == ["under 30", "30-44", "45-59", "60 and over"]


def test_a_prediction_that_fits_one_group_better_is_found_and_equal_groups_are_not_told_apart(simulated):
    ballots = simulated.ballots
    female, *_ = rater_groups(ballots, TRAITS)
    noise = np.random.default_rng(1).normal(size=len(ballots.clip))
    equal = female.difference(ballots, noise)
    assert equal.low < 0 < equal.high
    unequal = female.difference(ballots, noise + 0.5 * (ballots.rater % 2))
    assert unequal.low > 0
    assert unequal.value == pytest.approx(equal.value + 0.5)


def test_a_rater_effect_widens_the_interval_of_a_group(simulated):
    ballots = simulated.ballots
    rng = np.random.default_rng(2)
    female, *_ = rater_groups(ballots, TRAITS)
    single = female.difference(ballots, rng.normal(size=len(ballots.clip)))
    of_raters = female.difference(ballots, rng.normal(size=30)[ballots.rater])
    assert of_raters.high - of_raters.low > 2 * (single.high - single.low)


def test_nothing_is_compared_where_nothing_is_known_of_the_raters(simulated):
    assert rater_groups(simulated.ballots, {}) == []
