"""The matched-pair forced choice: pairs counted by hand, what constants and oracles get, and people on CREMA-D."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from support.selections import selection_of

from ambi_eval.analysis.discrimination import human_two_alternatives, two_alternatives
from ambi_eval.corpora.manifest import Clip
from ambi_eval.votes import shares

VOTES = np.array([[4.0, 0, 0], [0, 3, 1], [2, 2, 0], [1, 1, 2], [0, 0, 5]])
CLIPS = [
    Clip(id="a", votes={"x": 1}, speaker="anna", sentence="s1"),
    Clip(id="b", votes={"x": 1}, speaker="anna", sentence="s1"),
    Clip(id="c", votes={"x": 1}, speaker="anna", sentence="s1"),
    Clip(id="d", votes={"x": 1}, speaker="anna", sentence="s2"),
    Clip(id="e", votes={"x": 1}, speaker="ben", sentence="s1"),
]
CLUSTERS = [clip.speaker for clip in CLIPS]


def score(p, votes=VOTES, clips=CLIPS):
    return two_alternatives(np.asarray(p), votes, clips, [clip.speaker for clip in clips]).score.value


def test_only_clips_of_one_speaker_and_sentence_are_paired():
    result = two_alternatives(shares(VOTES), VOTES, CLIPS, CLUSTERS)
    assert (result.pairs, result.matched_by) == (3, "speaker and sentence")


def test_without_sentences_the_speaker_alone_matches_and_an_unknown_one_never():
    clips = [Clip(id=str(i), votes={"x": 1}, speaker=s) for i, s in enumerate(["anna", "anna", "anna", None, None])]
    result = two_alternatives(shares(VOTES), VOTES, clips, ["c"] * 5)
    assert (result.pairs, result.matched_by) == (3, "speaker")


def test_no_pair_no_score():
    assert two_alternatives(shares(VOTES[3:]), VOTES[3:], CLIPS[3:], CLUSTERS[3:]) is None


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (shares(VOTES), 1.0),
        (shares(VOTES)[[1, 0, 2, 3, 4]], 0.0),  # a and b swapped: c's own prediction makes up for neither
        (np.full((5, 3), 1 / 3), 0.5),
        (np.broadcast_to([0.7, 0.2, 0.1], (5, 3)), 0.5),
        (np.full((5, 3), np.nan), 0.0),
        (np.vstack([[[np.nan] * 3], shares(VOTES)[1:]]), 1 / 3),
    ],
)
def test_share_of_pairs_assigned_rightly(p, expected):
    assert score(p) == pytest.approx(expected)


@given(st.integers(0, 10_000))
def test_it_is_the_pairs_compared_one_by_one(seed):
    rng = np.random.default_rng(seed)
    p, votes = rng.dirichlet([0.5] * 4, 6), rng.multinomial(4, [0.4, 0.3, 0.2, 0.1], 6)
    clips = [Clip(id=str(i), votes={"x": 1}, speaker="anna", sentence="s") for i in range(6)]
    credits = []
    for i, j in combinations(range(6), 2):
        right = jensenshannon(p[i], votes[i]) ** 2 + jensenshannon(p[j], votes[j]) ** 2
        wrong = jensenshannon(p[i], votes[j]) ** 2 + jensenshannon(p[j], votes[i]) ** 2
        credits.append(0.5 if abs(right - wrong) < 1e-9 else float(right < wrong))
    assert score(p, votes, clips) == pytest.approx(np.mean(credits))


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.integers(0, 10_000))
def test_any_constant_scores_exactly_one_half(weights, seed):
    votes = np.random.default_rng(seed).multinomial(7, [0.5, 0.3, 0.2], 5)
    assert score(np.broadcast_to(shares(weights), (5, 3)), votes) == 0.5


def test_predictions_for_several_deals_are_averaged():
    both = np.stack([shares(VOTES), np.full((5, 3), 1 / 3)])
    result = two_alternatives(both, np.stack([VOTES, VOTES]), CLIPS, CLUSTERS)
    assert result.score.value == pytest.approx((1 + 0.5) / 2)


def test_raters_of_panels_of_one_cannot_be_dealt():
    votes = np.eye(3)[[0, 1, 2, 0, 1]]
    selection = selection_of(votes, CLUSTERS, clips=CLIPS)
    assert human_two_alternatives(selection, lambda raters: raters // 2) is None


@pytest.mark.parametrize(("guessers", "expected"), [(lambda raters: 1, 0.745), (lambda raters: raters // 2, 0.840)])
def test_people_on_crema_d(crema_d_selection, guessers, expected):
    result = human_two_alternatives(crema_d_selection, guessers)
    assert result.pairs == 25_880
    assert result.score.value == pytest.approx(expected, abs=0.005)


def test_the_prior_on_crema_d_scores_one_half_without_any_error(crema_d_selection):
    selection = crema_d_selection
    prior = np.broadcast_to(shares(selection.votes).mean(axis=0), selection.votes.shape)
    result = two_alternatives(prior, selection.votes, selection.clips, selection.clusters)
    assert (result.score.value, result.score.low, result.score.high) == (0.5, 0.5, 0.5)
