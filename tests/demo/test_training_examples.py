from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from ambi_eval.demo.corpus import TRAINING_SPEAKERS, Utterance, deliver, utterances
from ambi_eval.demo.raters import LABELS, PROTOTYPES
from ambi_eval.demo.training_examples import (
    Prompt,
    as_json,
    demo_prompts,
    describe,
    in_tenths,
    rate,
    training_example,
    votes_of,
)
from ambi_eval.votes import shares

panels = st.lists(st.integers(0, 10), min_size=4, max_size=4).filter(any)


@pytest.fixture(scope="module")
def spoken() -> list[Utterance]:
    return list(utterances(TRAINING_SPEAKERS[:5], 4))


@pytest.fixture(scope="module")
def contested(spoken: list[Utterance]) -> Utterance:
    return max(spoken, key=lambda one: len(one.clip.votes))


def stated(answer: str) -> list[float]:
    distribution = json.loads(answer[answer.index("{") :])
    assert tuple(distribution) == LABELS
    return list(distribution.values())


def test_every_kind_of_question_is_asked_and_no_template_is_left_open():
    prompts = demo_prompts()
    assert {prompt.kind for prompt in prompts} == {"label", "shares", "reasons", "rating"}
    assert len({prompt.sha256 for prompt in prompts}) == len(prompts)
    for prompt in prompts:
        assert "<audio>" not in prompt.text
        assert prompt.text.count("{{ candidate }}") == prompt.text.count("{{") == (prompt.kind == "rating")
        assert all(label in prompt.text for label in LABELS)


@given(votes=panels)
def test_stated_shares_sum_to_exactly_one_and_are_a_tenth_off_at_most(votes: list[int]):
    values = stated(as_json(in_tenths(shares(votes))))
    assert sum(values) == pytest.approx(1)
    np.testing.assert_allclose(values, shares(votes), atol=0.1)


def test_label_answers_are_the_votes_of_raters_drawn_at_random(contested: Utterance):
    rng = np.random.default_rng(0)
    answers = Counter(training_example(Prompt("label", "?"), contested, [contested], rng)[1] for _ in range(2000))
    named = votes_of(contested) > 0
    assert set(answers) == set(np.array(LABELS)[named])
    expected = 2000 * shares(votes_of(contested))[named]
    assert chisquare([answers[label] for label in np.array(LABELS)[named]], expected).pvalue > 0.001


@pytest.mark.parametrize("kind", ["shares", "reasons"])
def test_answers_with_shares_state_the_votes(kind: str, spoken: list[Utterance]):
    for one in spoken:
        _, answer = training_example(Prompt(kind, "?"), one, spoken, np.random.default_rng(0))
        np.testing.assert_allclose(stated(answer), shares(votes_of(one)), atol=0.1)


def test_a_question_for_a_rating_holds_the_estimate_that_the_answer_rates(spoken: list[Utterance]):
    rng = np.random.default_rng(0)
    votes = votes_of(spoken[0])
    ratings = set()
    for _ in range(200):
        question, answer = training_example(Prompt("rating", "{{ candidate }}"), spoken[0], spoken, rng)
        assert answer == rate(np.array(stated(question)), votes)
        ratings.add(answer)
    assert {"1", "5"} < ratings <= set("12345")


@given(votes=panels, other=panels)
def test_an_estimate_nearer_to_the_votes_is_never_rated_lower(votes: list[int], other: list[int]):
    steps = np.linspace(0, 1, 11)[:, None]
    ratings = [int(rate(p, np.array(votes))) for p in (1 - steps) * shares(votes) + steps * shares(other)]
    assert ratings[0] == 5
    assert (np.diff(ratings) <= 0).all()


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("angry", "The pitch is high, the voice is loud, the pace is fast and the tone is dark."),
        ("happy", "The pitch is high, the voice is loud, the pace is fast and the tone is bright."),
        ("neutral", "The pitch is medium, the voice is medium, the pace is medium and the tone is plain."),
        ("sad", "The pitch is low, the voice is quiet, the pace is slow and the tone is dark."),
    ],
)
def test_a_voice_at_a_prototype_is_described_as_it_sounds(label: str, sentence: str):
    mood, share = PROTOTYPES[LABELS.index(label)], np.eye(4)[LABELS.index(label)]
    rng = np.random.default_rng(0)
    described = Counter(describe(deliver(mood, rng), share) for _ in range(50))
    assert described.most_common(1)[0][0] == f"{sentence} It could be {label}."


def test_the_emotions_named_most_come_first_and_rare_ones_not_at_all(spoken: list[Utterance]):
    assert describe(spoken[0].delivery, np.array([0.3, 0.6, 0.1, 0.0])).endswith("It could be happy or angry.")
