"""Prior, model and people against the same raters: by hand, by enumeration, and the figures of CREMA-D."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from support.selections import selection_of

from ambi_eval.analysis.ambiguity import Binned, ambiguity_bins
from ambi_eval.analysis.references.held_out import HeldOutRaters
from ambi_eval.metrics import METRICS
from ambi_eval.votes import shares


def enumerated(p, votes, metric):
    """Scores of model and human for one clip, over all ways to choose half of the raters."""
    raters = [label for label, count in enumerate(votes) for _ in range(int(count))]
    model, human = [], []
    for guessers in combinations(range(len(raters)), len(raters) // 2):
        tally = Counter(raters[i] for i in guessers)
        given = np.array([tally[label] for label in range(len(votes))], dtype=float)
        judges = np.array(votes, dtype=float) - given
        model.append(metric.per_clip(p, judges))
        human.append(metric.per_clip(shares(given), judges))
    return np.mean(model), np.mean(human)


@pytest.mark.parametrize("name", ["jsd_bits", "bc", "acc", "sq_debiased"])
def test_expectations_are_those_of_all_halves_written_out(name):
    votes = [[3, 2, 0], [2, 3, 0], [3, 2, 0], [4, 0, 2], [2, 2, 2]]  # the first and the third are one panel
    p = np.random.default_rng(0).dirichlet([1.0] * 3, 5)
    result = HeldOutRaters(selection_of(votes)).judge(p, name)[0]
    pairs = [enumerated(row, clip, METRICS[name]) for row, clip in zip(p, votes, strict=True)]
    assert result.model.value == pytest.approx(np.mean([model for model, _ in pairs]))
    assert result.human.value == pytest.approx(np.mean([human for _, human in pairs]))
    assert result.model_minus_human.value == pytest.approx(result.model.value - result.human.value)
    assert result.human_minus_prior.value == pytest.approx(result.human.value - result.prior.value)


@pytest.mark.parametrize(("name", "mix", "closed"), [("jsd_bits", 0.0, 0), ("bc", 0.0, 0), ("jsd_bits", 1.0, 2)])
def test_the_prior_closes_none_of_the_gap_and_an_oracle_more_than_all(name, mix, closed):
    votes = np.array([[8, 1, 0], [0, 9, 1], [1, 1, 8], [9, 0, 1]] * 3)
    human = shares(votes)
    p = mix * human + (1 - mix) * human.mean(axis=0)
    result = HeldOutRaters(selection_of(votes)).judge(p, name)[0]
    assert result.gap_closed.value == pytest.approx(closed, abs=1e-12) if closed == 0 else result.gap_closed.value > 1


def test_where_people_are_no_better_than_the_prior_there_is_no_gap_to_close():
    votes = np.array([[2, 2, 2], [2, 3, 1], [3, 2, 1], [1, 2, 3]])
    result = HeldOutRaters(selection_of(votes)).judge(shares(votes), "jsd_bits")[0]
    assert result.human_minus_prior.value > 0
    assert result.gap_closed is None


def test_clips_with_one_rater_are_left_out_and_one_speaker_has_no_interval():
    votes = [[3, 2, 0], [1, 0, 0], [0, 5, 1]]
    raters = HeldOutRaters(selection_of(votes, ["anna"] * 3))
    result = raters.judge(shares(votes), "jsd_bits")[0]
    assert result.clips == 2
    assert np.isnan(result.model.low)
    assert result.gap_closed is None
    assert HeldOutRaters(selection_of([[1, 0, 0]])).judge(shares([[1, 0, 0]]), "jsd_bits") is None


def test_an_invalid_prediction_scores_the_worst():
    result = HeldOutRaters(selection_of([[3, 2, 0], [0, 4, 1]])).judge(np.full((2, 3), np.nan), "jsd_bits")
    assert result[0].model.value == pytest.approx(1, rel=1e-12)


def test_on_crema_d_bins_of_the_votes_that_judge_make_two_constants_look_better_than_half_a_panel(crema_d_selection):
    selection = crema_d_selection
    own_bins = Binned(ambiguity_bins(selection.votes), selection, np.arange(len(selection.votes)), "")
    prior = np.broadcast_to(shares(selection.votes).mean(axis=0), selection.votes.shape)
    overall, *bins = HeldOutRaters(selection, own_bins).judge(prior, "jsd_bits")
    assert overall.human.value == pytest.approx(0.231, abs=0.003)
    assert [b.human.value for b in bins] == pytest.approx([0.109, 0.231, 0.355], abs=0.005)
    assert [b.prior.value for b in bins] == pytest.approx([0.417, 0.343, 0.286], abs=0.005)
    assert [b.gap_closed is None for b in bins] == [False, False, True]
    assert overall.model_minus_prior.value == pytest.approx(0, abs=1e-12)
