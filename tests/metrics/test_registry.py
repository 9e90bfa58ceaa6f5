from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import cityblock, cosine
from scipy.stats import entropy
from sklearn.metrics import f1_score, mean_squared_error, r2_score

from ambi_eval.metrics import METRICS, ClipMetric
from ambi_eval.metrics.clustered import clustered_standard_error
from ambi_eval.votes import majority, shares

# The worst value over five labels.
WORST = {
    "jsd_bits": 1,
    "jsd_sqrt_nats": 0.832555,
    "bc": 0,
    "r_pearson": -1,
    "r2_pearson": 0,
    "nll_bits": 13.287712,
    "sq_debiased": 2,
    "acc": 0,
    "macro_f1": 0,
    "weighted_f1": 0,
    "uar": 0,
    "ece_votes": 1,
    "ece_majority": 1,
    "brier_sum": 2,
    "brier_mean": 0.4,
    "rps": 1,
    "entropy_rho": -1,
    "kl_bits": 13.287712,
    "manhattan": 2,
    "tvd": 1,
    "cosine": 0,
    "r2_classes": -np.inf,
    "macro_f1_multilabel": 0,
    "ece_majority_5": 1,
}
CLIP_METRICS = [m for m in METRICS.values() if isinstance(m, ClipMetric)]
WITH_INFLUENCE = [m for m in METRICS.values() if m.influence([[0.9, 0.1]], [[2, 1]]) is not None]
# A missing prediction costs these less than a wrong one, by definition: it is nobody's false positive.
FAILING_MAY_PAY = {"macro_f1", "weighted_f1", "macro_f1_multilabel"}


def by_name(metrics):
    return pytest.mark.parametrize("metric", list(metrics), ids=lambda metric: metric.name)


def clips(seed: int = 0, n: int = 30, labels: int = 4):
    """Predictions and votes; one clip has a single vote, so that `sq_debiased` is undefined there."""
    rng = np.random.default_rng(seed)
    votes = rng.multinomial(5, [0.4, 0.3, 0.2, 0.1], n).astype(float)
    votes[n // 2] = np.eye(labels)[1]
    return rng.dirichlet([0.8] * labels, n), votes


def test_the_table_has_the_agreed_names_each_under_its_own():
    assert {name: metric.name for name, metric in METRICS.items()} == {name: name for name in WORST}, (
        "write the worst value of a new metric over five labels into WORST above"
    )


def test_the_room_needs_numpy_and_nothing_heavier():
    code = "import sys, ambi_eval.metrics; print({m.partition('.')[0] for m in sys.modules} & set(sys.argv[1:]))"
    heavy = ["scipy", "sklearn", "pandas", "torch", "datasets", "lm_eval", "transformers"]
    run = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


@by_name(METRICS.values())
def test_a_perfect_prediction_is_better_than_a_random_one_and_that_than_none(metric):
    p, votes = clips()
    perfect, random, none = (metric.value(q, votes) for q in (shares(votes), p, np.full_like(p, np.nan)))
    if metric.name.startswith("ece_majority"):
        perfect = metric.value(majority(votes), majority(votes))  # against the majority the votes are not calibrated
    assert perfect > random > none if metric.higher_is_better else perfect < random < none


@by_name(METRICS.values())
def test_a_run_of_invalid_clips_alone_scores_the_worst_there_is(metric):
    p, votes = np.full((4, 5), np.nan), np.array([[4, 0, 0, 0, 0], [4, 1, 0, 0, 0], [4, 1, 1, 0, 0], [4, 1, 1, 1, 1]])
    if metric.name != "r2_classes":  # has no bound; its invalid clips are off by as much as they can be
        assert metric.value(p, votes) == pytest.approx(WORST[metric.name])
    assert metric.worst(5) == pytest.approx(WORST[metric.name])


@by_name(m for m in METRICS.values() if m.name not in FAILING_MAY_PAY)
def test_failing_never_pays(metric):
    for seed in range(40):
        p, votes = clips(seed, n=12)
        before = metric.value(p, votes)
        p[np.random.default_rng(seed).choice(12, size=1 + seed % 4, replace=False)] = np.nan
        gain = metric.value(p, votes) - before
        assert (gain if metric.higher_is_better else -gain) <= 1e-12


@by_name(CLIP_METRICS)
def test_the_value_is_the_mean_of_the_clips_and_the_worst_stands_for_the_invalid(metric):
    p, votes = clips()
    p[3] = np.nan
    scores = metric.per_clip(p, votes)
    assert scores[3] == metric.worst(4)
    assert_allclose(np.delete(scores, 3), np.delete(metric.of_clip(p, votes), 3))
    assert metric.value(p, votes) == pytest.approx(np.nanmean(scores))
    assert_allclose(metric.per_clip(p[0], votes[0]), scores[0])


def test_votes_that_define_no_score_leave_the_same_clips_out_whatever_the_prediction():
    p, votes = clips()
    for prediction in (p, np.full_like(p, np.nan)):
        scores = METRICS["sq_debiased"].per_clip(prediction, votes)
        assert np.flatnonzero(np.isnan(scores)).tolist() == [15]


@by_name(m for m in METRICS.values() if not isinstance(m, ClipMetric))
def test_a_single_clip_has_no_score_of_a_set(metric):
    assert metric.per_clip(*clips()) is None


@by_name(METRICS.values())
def test_no_clips_have_no_score(metric):
    assert np.isnan(metric.value(np.empty((0, 4)), np.empty((0, 4))))


def test_a_score_that_no_clip_has_has_no_error_bar_either():
    metric, p, votes = METRICS["sq_debiased"], np.full((3, 2), 0.5), np.eye(2)[[0, 1, 0]]
    assert np.isnan(metric.value(p, votes))
    assert np.isnan(clustered_standard_error(metric.influence(p, votes), "abc")[0])


def test_which_metrics_have_no_closed_form_for_their_error():
    without = {"ece_votes", "ece_majority", "ece_majority_5", "entropy_rho"}
    assert set(METRICS) - {m.name for m in WITH_INFLUENCE} == without


@by_name(WITH_INFLUENCE)
def test_the_influence_is_the_derivative_by_the_weight_of_a_clip(metric):
    p, votes = clips()
    p[[0, 7]] = np.nan
    many_p, many_votes = np.tile(p, (400, 1)), np.tile(votes, (400, 1))
    base = metric.value(many_p, many_votes)
    influences = np.asarray(metric.influence(p, votes))
    # A clip that leaves the score undefined does not count, and the others weigh more.
    influences = np.nan_to_num(influences) / (~np.isnan(influences)).mean()
    for clip, influence in enumerate(influences):
        more = metric.value(np.vstack([many_p, p[clip]]), np.vstack([many_votes, votes[clip]]))
        assert influence == pytest.approx((more - base) * (len(many_p) + 1), abs=1e-2)


@pytest.fixture(scope="module")
def crema_d_votes(crema_d):
    """The voice-only votes of all 7,442 clips, shape (7442, 6), in the order A D F H N S."""
    with (crema_d / "processedResults" / "tabulatedVotes.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if len(row[""]) == 6 and row[""].startswith("1")]
    assert len(rows) == 7442
    return np.array([[float(row[label]) for label in "ADFHNS"] for row in rows])


NEUTRAL = np.eye(6)[4]


@pytest.mark.parametrize(
    ("predict", "expected"),
    [
        pytest.param(
            lambda votes: np.full(6, 1 / 6),
            {"jsd_bits": 0.378, "jsd_sqrt_nats": 0.504, "bc": 0.657, "r2_pearson": 0, "sq_debiased": 0.2987},
            id="uniform",
        ),
        pytest.param(
            lambda votes: shares(votes).mean(axis=0),
            {
                **{"jsd_bits": 0.290, "jsd_sqrt_nats": 0.436, "bc": 0.738, "r2_pearson": 0.470, "sq_debiased": 0.2065},
                **{"brier_sum": 0.2655, "brier_mean": 0.0443, "ece_majority": 0.115, "acc": 0.5533},
            },
            id="prior",
        ),
        pytest.param(
            lambda votes: NEUTRAL,
            {"jsd_bits": 0.433, "jsd_sqrt_nats": 0.505, "bc": 0.589, "r2_pearson": 0.487, "acc": 0.5533},
            id="always neutral",
        ),
        pytest.param(lambda votes: majority(votes), {"jsd_bits": 0.197, "bc": 0.813, "acc": 0.9550}, id="majority"),
        pytest.param(lambda votes: shares(votes), {"ece_majority": 0.318, "ece_votes": 0, "jsd_bits": 0}, id="perfect"),
    ],
)
def test_trivial_predictors_on_the_voice_votes_of_crema_d(predict, expected, crema_d_votes):
    p = np.broadcast_to(predict(crema_d_votes), crema_d_votes.shape)
    assert {name: METRICS[name].value(p, crema_d_votes) for name in expected} == pytest.approx(expected, abs=1e-3)


def test_one_rater_against_the_others_on_the_voice_votes_of_crema_d(crema_d_votes):
    # Each label that at least one rater of the clip chose, against the votes without that one, as often as chosen.
    clip, label = np.nonzero(crema_d_votes)
    rater = np.eye(6)[label]
    others = crema_d_votes[clip] - rater
    weight = shares(crema_d_votes)[clip, label] / len(crema_d_votes)
    scores = {name: float(weight @ METRICS[name].per_clip(rater, others)) for name in ("jsd_bits", "bc", "sq_debiased")}
    assert scores == pytest.approx({"jsd_bits": 0.405, "bc": 0.616, "sq_debiased": 0.5347}, abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_the_metrics_of_papers_are_those_of_independent_implementations(seed):
    p, votes = clips(seed, n=80)
    p = np.where(p < 0.15, 0, p)
    p = p / p.sum(axis=1, keepdims=True)
    q = votes / votes.sum(axis=1, keepdims=True)
    expected = {
        "kl_bits": np.mean([entropy(b, np.maximum(a, 1e-4), base=2) - log_sum(a) for a, b in zip(p, q, strict=True)]),
        "manhattan": np.mean([cityblock(a, b) for a, b in zip(p, q, strict=True)]),
        "tvd": np.mean([cityblock(a, b) / 2 for a, b in zip(p, q, strict=True)]),
        "cosine": np.mean([1 - cosine(a, b) for a, b in zip(p, q, strict=True)]),
        "r2_classes": r2_score(q, p),
        "macro_f1_multilabel": f1_score(q > 0.25 + 1e-9, p > 0.25 + 1e-9, average="macro", zero_division=0),
        "brier_mean": mean_squared_error(q, p),
    }
    assert {name: METRICS[name].value(p, votes) for name in expected} == pytest.approx(expected)


def log_sum(p):
    """What scipy's `entropy` takes off by bringing the floored shares to the sum 1."""
    return np.log2(np.maximum(p, 1e-4).sum())


def test_a_label_whose_share_never_varies_counts_as_in_scikit_learn():
    votes = np.array([[1, 1, 2], [2, 0, 2], [0, 2, 2]])
    for p in (votes / 4, np.full((3, 3), 1 / 3)):
        assert METRICS["r2_classes"].value(p, votes) == pytest.approx(r2_score(votes / 4, p))


def test_the_calibration_error_in_five_bins_is_that_of_merged_bins():
    p, votes = clips(3, n=200)
    confidence, hit = p.max(axis=1), (majority(p) * majority(votes)).sum(axis=1)
    number = np.ceil(confidence * 5 - 1e-9)
    gaps = [abs((confidence - hit)[number == each].sum()) for each in range(1, 6)]
    assert METRICS["ece_majority_5"].value(p, votes) == pytest.approx(sum(gaps) / 200)


@pytest.mark.parametrize("clips", [3, 10, 15, 199])
def test_r2_of_shares_that_never_vary_is_0_or_1(clips):
    votes = np.column_stack([np.arange(clips), clips - np.arange(clips), np.full(clips, clips / 2)])
    p = np.full((clips, 3), 1 / 3)
    varying = r2_score(shares(votes)[:, :2], p[:, :2], multioutput="raw_values")
    assert METRICS["r2_classes"].value(p, votes) == pytest.approx((varying.sum() + 1) / 3)
    assert METRICS["r2_classes"].value(p, np.ones((clips, 3))) == 1
    assert METRICS["r2_classes"].value(np.eye(3)[[0] * clips], np.ones((clips, 3))) == 0
    assert not METRICS["r2_classes"].influence(np.eye(3)[[0] * clips], np.ones((clips, 3))).any()


def test_rounding_leads_no_clip_out_of_the_range():
    rng = np.random.default_rng(0)
    votes = rng.integers(0, 9, size=(2000, 20)) + np.eye(20)[0]
    unvoted = np.where(votes > 0, 0.0, 1.0) + np.where((votes > 0).all(axis=1, keepdims=True), np.eye(20)[0], 0.0)
    for metric in METRICS.values():
        low, high = metric.bounds(20)
        for p in (shares(votes), shares(unvoted)):
            scores = metric.per_clip(p, votes)
            assert scores is None or ((low <= scores).all() and (scores <= high).all()), metric.name
