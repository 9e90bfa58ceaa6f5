"""Conflict items: what the words suggest is what other speakers' raters hear in the same sentence."""

import numpy as np
import pytest

from ambi_eval.corpora.conflict import conflicting
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.select import select
from ambi_eval.votes import shares

LABELS = ["angry", "neutral"]


def clip(name, angry, speaker, sentence="1"):
    votes = {"angry": float(angry), "neutral": 5.0 - angry}
    return Clip(id=name, votes=votes, speaker=speaker, sentence=sentence, audio="/x.wav")


def numbers(*clips):
    return conflicting(clips, np.array([[each.votes[label] for label in LABELS] for each in clips]))


def test_a_voice_that_differs_from_what_the_sentence_is_heard_as_is_a_conflict():
    found, left_out = numbers(clip("a", 0, "a"), clip("b", 1, "b"), clip("c", 5, "c"), clip("d", 0, "d"))
    assert found == [2]
    assert left_out == {"voice and words agree": 3}


def test_a_speakers_own_clips_do_not_tell_what_the_words_suggest():
    # Without a's own neutral clips, the sentence is heard as angry.
    found, _ = numbers(clip("a1", 0, "a"), clip("a2", 0, "a"), clip("a3", 0, "a"), clip("b", 5, "b"))
    assert found == [0, 1, 2, 3]


def test_a_tie_that_holds_what_the_words_suggest_is_no_conflict():
    found, left_out = numbers(clip("a", 2.5, "a"), clip("b", 0, "b"), clip("c", 0, "c"))
    assert found == []
    assert left_out["voice and words agree"] == 3


def test_a_sentence_that_nobody_else_says_is_counted():
    found, left_out = numbers(clip("a", 0, "a"), clip("b", 5, "b", "2"), clip("c", 5, "c", None))
    assert found == []
    assert left_out == {"no sentence that others say, too": 3}


def test_on_crema_d_a_predictor_by_the_words_is_wrong_on_every_item(crema_d_selection, crema_d_config):
    chosen = crema_d_config.model_copy(update={"items": "conflict"})
    found = select(chosen, crema_d_selection.clips, hear=False)
    assert chosen.clips_name == "crema_d:items=conflict"
    assert len(found.clips) + found.left_out["voice and words agree"] == 7442
    suggested = {}
    for sentence in {each.sentence for each in crema_d_selection.clips}:
        here = [n for n, each in enumerate(crema_d_selection.clips) if each.sentence == sentence]
        suggested[sentence] = shares(crema_d_selection.votes[here]).sum(axis=0)
    p = np.array([suggested[each.sentence] for each in found.clips])
    right = p.argmax(axis=1) == found.votes.argmax(axis=1)
    assert right.mean() == pytest.approx(0, abs=0.005), "but for the share of one speaker among 91"
