"""The scores of clips: curves over the pool size against all subsets, bounds, and what is said of unread answers."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_hypergeom

from ambi_eval.answers.candidate import Candidate
from ambi_eval.answers.pool import Reader, draws
from ambi_eval.answers.reducers import Mean, Vote, Weighted, predict
from ambi_eval.answers.score import score_clips
from ambi_eval.metrics import METRICS

LABELS = ("angry", "happy", "sad")
VOTES = np.array([3.0, 2.0, 1.0])


def scores(pools, *, reducer=None, readout="label", votes=VOTES, **options):
    read = [Reader(LABELS, readout).read(pool) for pool in pools]
    predictions = predict(reducer or Mean(), LABELS, read)
    options = {"curve": True, **options}
    return score_clips(
        predictions, np.tile(votes, (len(pools), 1)), np.zeros(len(pools)), ["jsd_bits", "bc"], **options
    )


def over_all_subsets(pool, n, reducer, metric, readout="label"):
    """The mean score over all subsets of n answers, each made a pool of its own."""
    chosen = [list(subset) for subset in combinations(pool, n)]
    predictions = predict(reducer, LABELS, [Reader(LABELS, readout).read(subset) for subset in chosen])
    p = np.array([prediction.distribution for prediction in predictions])
    return METRICS[metric].per_clip(p, np.tile(VOTES, (len(p), 1))).mean()


@settings(max_examples=25)
@given(st.lists(st.sampled_from([*LABELS, "no idea"]), min_size=5, max_size=9))
@pytest.mark.parametrize("reducer", [Mean(), Vote()], ids=["mean", "vote"])
def test_the_curve_of_label_answers_is_the_mean_over_all_subsets(reducer, pool):
    (found,) = scores([pool], reducer=reducer)
    for metric in ("jsd_bits", "bc"):
        for n in (1, 3, 5):
            assert found[f"{metric}@{n}"] == pytest.approx(over_all_subsets(pool, n, reducer, metric), abs=1e-12)


@pytest.mark.parametrize(("counts", "n"), [((3, 0, 2), 2), ((5, 5, 5, 5), 10), ((1,), 1), ((20, 0), 5)])
def test_draws_are_hypergeometric(counts, n):
    drawn, probability = draws(counts, n)
    assert probability.sum() == pytest.approx(1)
    assert probability == pytest.approx(multivariate_hypergeom.pmf(drawn.astype(int), counts, n))


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_sampling_error_of_a_curve_over_shares_is_below_half_a_thousandth(n):
    rng = np.random.default_rng(3)
    pools = [[str(dict(zip(LABELS, row, strict=True))) for row in rng.dirichlet([0.7] * 3, 12)] for _ in range(20)]
    found = np.mean([each[f"jsd_bits@{n}"] for each in scores(pools, readout="shares")])
    exact = np.mean([over_all_subsets(pool, n, Mean(), "jsd_bits", "shares") for pool in pools])
    assert found == pytest.approx(exact, abs=5e-4)


def test_weights_make_label_answers_unlike_so_that_subsets_are_drawn():
    pool = [Candidate(label, logprob=-float(k), n_tokens=1) for k, label in enumerate([*LABELS, *LABELS])]
    (found,) = scores([pool], reducer=Weighted("logprob"))
    assert found["jsd_bits@5"] == pytest.approx(over_all_subsets(pool, 5, Weighted("logprob"), "jsd_bits"))


def test_the_oracle_control_is_never_the_clip_itself():
    alone, *two = ["happy", "sad"], ["angry", "angry", "angry"], ["sad", "sad", "sad"]
    found = scores([alone, *two], oracle=True)
    assert np.isnan(found[0]["oracle_control_jsd_bits"]), "no other clip has as many answers"
    assert found[1]["oracle_control_jsd_bits"] == found[2]["oracle_jsd_bits"]
    assert found[2]["oracle_control_jsd_bits"] == found[1]["oracle_jsd_bits"]


def test_refused_and_cut_answers_are_counted_as_shares_of_all_answers():
    pool = ["happy", "I'm happy to help!", "Sorry, I can't.", Candidate("The voice", finish="length")]
    (found,) = scores([pool])
    assert (found["refusal_rate"], found["truncated_rate"], found["invalid_rate"]) == (0.5, 0.25, 0.0)
    assert "rescaled_rate" not in found, "labels state no shares"


def test_rescaled_answers_and_the_stated_sum_are_told_of_those_that_state_shares():
    pool = ['{"angry": 0.5, "happy": 0.3, "sad": 0}', '{"happy": 0.5, "sad": 0.5}', "happy", "no idea"]
    found, unread = scores([pool, ["?"] * 4], readout="shares")
    assert (found["rescaled_rate"], found["stated_sum"]) == (0.5, pytest.approx(0.9))
    assert np.isnan(unread["rescaled_rate"])
    assert np.isnan(unread["stated_sum"])
