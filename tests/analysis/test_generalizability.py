"""The reliability of a ranking against Cronbach's alpha, known truths, and studies of more clips."""

import math

import numpy as np
import pytest

from ambi_eval.analysis.generalizability import study
from ambi_eval.metrics.clustered import UNKNOWN

TRUE = {"system": 0.02, "speaker": 0.01, "clip": 0.05, "s x k": 0.004, "s x c": 0.02, "w": 0.003, "s x w": 0.004,
        "k x w": 0.001, "c x w": 0.004, "s x k x w": 0.001, "rest": 0.01}  # fmt: skip
SYSTEMS = [f"system {number}" for number in range(8)]


def drawn(seed, speakers=20, each=6, wordings=5):
    """Scores of a crossed design, shape (systems, clips, wordings), and the speaker of each clip."""
    rng, clips, systems = np.random.default_rng(seed), speakers * each, len(SYSTEMS)
    of = np.repeat(np.arange(speakers), each)
    s, k, c, w = systems, speakers, clips, wordings
    shapes = [(s, 1, 1), (1, k, 1), (1, c, 1), (s, k, 1), (s, c, 1), (1, 1, w), (s, 1, w), (1, k, w), (1, c, w),
              (s, k, w), (s, c, w)]  # fmt: skip
    scores = np.zeros((s, c, w))
    for variance, shape in zip(TRUE.values(), shapes, strict=True):
        effect = rng.normal(0, math.sqrt(variance), shape)
        scores += effect[:, of] if shape[1] == k else effect
    return scores, [f"speaker {number}" for number in of]


def truth(speakers=20, each=6, wordings=5):
    clips = speakers * each
    relative = TRUE["s x k"] / speakers + TRUE["s x c"] / clips + TRUE["s x w"] / wordings
    relative += TRUE["s x k x w"] / speakers / wordings + TRUE["rest"] / clips / wordings
    absolute = relative + TRUE["speaker"] / speakers + TRUE["clip"] / clips + TRUE["w"] / wordings
    absolute += TRUE["k x w"] / speakers / wordings + TRUE["c x w"] / clips / wordings
    return [TRUE["system"] / (TRUE["system"] + error) for error in (relative, absolute)]


def test_without_speakers_the_reliability_is_cronbachs_alpha():
    scores = np.random.default_rng(0).normal(size=(6, 30)) + np.arange(6)[:, None] / 3
    found = study(scores, SYSTEMS[:6], [f"clip {number}" for number in range(30)])
    alpha = 30 / 29 * (1 - scores.var(axis=1 - 1, ddof=1).sum() / scores.sum(axis=1).var(ddof=1))
    assert found.generalizability.value == pytest.approx(alpha)
    assert [share.effect for share in found.shares] == [("system",), ("clip",), ("system", "clip")]


@pytest.mark.slow
def test_intervals_cover_the_true_reliability_and_shares():
    hits = []
    for seed in range(120):
        scores, speakers = drawn(seed, speakers=12, each=3, wordings=4)
        found = study(scores, SYSTEMS, speakers, "wording")
        true = truth(speakers=12, each=3, wordings=4)
        pairs = [*zip((found.generalizability, found.dependability), true, strict=True)]
        pairs.append((found.shares[0].share, TRUE["system"] / sum(TRUE.values())))
        hits.append([estimate.low <= each <= estimate.high for estimate, each in pairs])
    assert (np.mean(hits, axis=0) > 0.9).all(), np.mean(hits, axis=0)


@pytest.mark.parametrize("factor", ["clip", "wording"])
def test_so_many_levels_as_are_needed_make_the_ranking_reliable_and_one_less_does_not(factor):
    scores, speakers = drawn(5, speakers=10, each=3, wordings=9)
    found = study(scores, SYSTEMS, speakers, "wording")
    variances = {share.effect: max(share.variance, 0.0) for share in found.shares}

    def reliability(number):
        levels = {**found.levels, factor: number}
        if factor == "clip":
            levels["speaker"] = number / 3
        errors = [v / math.prod(levels[name] for name in effect[1:]) for effect, v in variances.items()
                  if len(effect) > 1 and effect[0] == "system"]  # fmt: skip
        return variances["system",] / (variances["system",] + sum(errors))

    needed = found.needed[factor].value
    assert reliability(found.levels[factor]) == pytest.approx(found.generalizability.value)
    assert reliability(needed) >= 0.9 > reliability(needed - 1)
    assert reliability(1e9) == pytest.approx(found.most_by[factor].value)


def test_where_no_number_of_wordings_suffices_it_is_infinite():
    found = study(
        0.1 * drawn(5)[0][:, :6] + np.random.default_rng(0).normal(size=(8, 6, 1)), SYSTEMS, ["a"] * 6, "wording"
    )
    assert found.needed["wording"].value == math.inf
    assert found.most_by["wording"].value < 0.9


def test_answers_that_are_drawn_anew_for_each_system_are_its_own_chance():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(4, 50, 1)) + rng.normal(0, 2, size=(4, 50, 3))
    found = study(scores, SYSTEMS[:4], [str(clip // 5) for clip in range(50)], "answer", "of answers")
    assert found.shares[-1].effect == ("system", "clip", "answer")
    assert found.shares[-1].variance == pytest.approx(scores.var(axis=2, ddof=1).mean())
    assert found.levels == {"clip": 50, "speaker": 10, "answer": 3}


def test_ballots_of_unknown_raters_are_levels_of_their_clip():
    rng = np.random.default_rng(2)
    scores = np.zeros((3, 20, 1)) + rng.normal(0, 1, (1, 20, 4))
    scores[:, ::2, 3] = np.nan
    found = study(scores + rng.normal(0, 0.1, scores.shape), SYSTEMS[:3], ["a"] * 20, "rater", "of clips")
    by_effect = {share.effect: share.share.value for share in found.shares}
    assert by_effect["clip", "rater"] > 0.9
    assert found.levels["rater"] == 3.5


def test_one_system_has_shares_and_no_ranking():
    scores, speakers = drawn(0)
    found = study(scores[:1], SYSTEMS[:1], speakers, "wording")
    assert math.isnan(found.generalizability.value)
    assert not found.needed
    assert sum(share.share.value for share in found.shares) == pytest.approx(1)


def test_clips_of_unknown_speakers_are_counted_and_left_out():
    scores, speakers = drawn(0)
    found = study(scores[:, :, 0], SYSTEMS, [UNKNOWN, UNKNOWN, *speakers[2:]])
    assert found.left_out == 2
    assert found.levels["clip"] == 118


def test_one_clip_is_no_study():
    with pytest.raises(ValueError, match="one clip"):
        study(np.ones((3, 1)), SYSTEMS[:3], ["anna"])
