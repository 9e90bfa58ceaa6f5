from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from ambi_eval.demo.raters import LABELS, PROTOTYPES, Rater, draw_raters

RATERS = draw_raters(40, seed=0)


@pytest.mark.parametrize(("label", "mood"), zip(LABELS, PROTOTYPES, strict=True))
def test_most_raters_name_a_label_at_its_prototype(label: str, mood: np.ndarray):
    favourites = [LABELS[rater.distribution(mood).argmax()] for rater in RATERS]
    assert favourites.count(label) > 30


@pytest.mark.parametrize("mood", [*PROTOTYPES, PROTOTYPES[:2].mean(0), PROTOTYPES.mean(0)], ids=str)
def test_votes_follow_the_raters_distribution(mood: np.ndarray):
    rng = np.random.default_rng(0)
    votes = Counter(RATERS[0].vote(mood, rng) for _ in range(2000))
    expected = 2000 * RATERS[0].distribution(mood)
    assert chisquare([votes[label] for label in LABELS], expected).pvalue > 0.001


@given(arousal=st.floats(-2, 3), valence=st.floats(-3, 3), rater=st.sampled_from(RATERS))
def test_every_mood_has_a_distribution_that_leaves_each_label_its_share_of_lapses(
    arousal: float, valence: float, rater: Rater
):
    share = rater.distribution(np.array([arousal, valence]))
    assert share.sum() == pytest.approx(1)
    assert (share >= rater.lapse / len(LABELS) - 1e-12).all()


def test_between_two_prototypes_raters_are_less_sure_than_at_one():
    entropy = {
        name: np.mean([-(p * np.log2(p)).sum() for p in (rater.distribution(mood) for rater in RATERS)])
        for name, mood in [("at", PROTOTYPES[0]), ("between", PROTOTYPES[:2].mean(0))]
    }
    assert entropy["between"] > entropy["at"] + 0.3


def test_keenness_sharpens_and_bias_shifts_a_rater():
    mood = PROTOTYPES[2] + 0.1
    plain = Rater("plain", keenness=1.0, bias=np.zeros(4), lapse=0.0).distribution(mood)
    keen = Rater("keen", keenness=2.0, bias=np.zeros(4), lapse=0.0).distribution(mood)
    sad = Rater("sad", keenness=1.0, bias=np.array([0, 0, 0, 1.0]), lapse=0.0).distribution(mood)
    absent = Rater("absent", keenness=1.0, bias=np.zeros(4), lapse=1.0).distribution(mood)
    assert keen.max() > plain.max()
    assert sad[3] / sad[2] == pytest.approx(np.e * plain[3] / plain[2])
    np.testing.assert_allclose(absent, 0.25)


def test_raters_differ_and_are_called_simulated():
    assert len({tuple(rater.bias) for rater in RATERS}) == len(RATERS)
    assert all(rater.id.startswith("simulated_") for rater in RATERS)
