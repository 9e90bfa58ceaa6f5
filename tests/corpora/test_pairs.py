"""Matched pairs: both orders, so that constants score .5; the right answer is that of the votes."""

import numpy as np
import pytest

from ambi_eval.config.load import resolve
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.select import select
from ambi_eval.errors import AmbiError
from ambi_eval.metrics import METRICS

LABELS = ["angry", "calm"]


def settings(**keys):
    config = {"task": "t", "manifest": "m.jsonl", "labels": LABELS, "strategy": "pairs", **keys}
    return resolve({**config, "metadata": {"config_source": "inline"}})


def clip(name, angry, speaker="anna", sentence=None):
    votes = {"angry": float(angry), "calm": 5.0 - angry}
    return Clip(id=name, votes=votes, audio=f"/{name}.wav", speaker=speaker, sentence=sentence)


CLIPS = [clip(f"{speaker}{n}", angry, speaker) for speaker in "ab" for n, angry in enumerate([0, 2, 4, 5])]


def test_each_clip_is_in_one_pair_of_its_speaker_that_is_asked_in_both_orders():
    found = select(settings(), CLIPS)
    names = [each.id.split(" | ") for each in found.clips]
    assert len(names) == 8
    assert {tuple(reversed(pair)) for pair in names} == {tuple(pair) for pair in names}
    assert all(first[0] == second[0] for first, second in names)
    assert sorted(name for pair in names for name in pair) == sorted([c.id for c in CLIPS] * 2)


def test_what_is_heard_are_the_two_clips_in_the_order_of_the_name():
    found = select(settings(), CLIPS)
    for each, before, heard in zip(found.clips, found.before, found.heard, strict=True):
        assert [f"/{name}.wav" for name in each.id.split(" | ")] == [before[0]["path"], heard["path"]]


def test_the_right_answer_is_the_clip_that_more_raters_call_angry():
    found = select(settings(), CLIPS)
    angry = {each.id: each.votes["angry"] for each in CLIPS}
    for each, votes in zip(found.clips, found.votes, strict=True):
        first, second = (angry[name] for name in each.id.split(" | "))
        assert votes.tolist() == [float(first > second), float(second > first)]


@pytest.mark.parametrize("constant", [[1, 0], [0, 1], [0.7, 0.3], [0.5, 0.5]])
def test_every_constant_answer_scores_a_half(constant):
    votes = select(settings(), CLIPS).votes
    p = np.tile(np.array(constant, float), (len(votes), 1))
    assert METRICS["acc"].value(p, votes) == 0.5


def test_pairs_of_equal_shares_and_clips_that_are_left_are_counted():
    clips = [clip("x", 3), clip("y", 3), *CLIPS, clip("z", 1, "carl"), clip("w", 1, None)]
    found = select(settings(), [each for each in clips if each.id not in ("a0", "a1", "a2", "a3")])
    assert found.left_out == {
        "in a pair with equal shares of angry": 2,
        "no other clip to make a pair with": 1,
        "unknown speaker, so in no pair": 1,
    }


def test_clips_of_other_sentences_make_no_pair():
    clips = [clip("x", 1, sentence="1"), clip("y", 2, sentence="1"), clip("z", 5, sentence="2")]
    assert {each.id for each in select(settings(), clips).clips} == {"x | y", "y | x"}


@pytest.mark.parametrize(
    ("clips", "keys", "message"),
    [
        ([clip("x", 3), clip("y", 3)], {}, "no two clips of one speaker differ in their share of 'angry'"),
        (
            CLIPS,
            {"pairs": {"label": "angre"}},
            "pairs asks about 'angre', which is no label of the corpus, did you mean",
        ),
        (CLIPS, {"transcript": "given"}, "pairs go without transcript and shots"),
        (CLIPS, {"verifier": {"prompt": "x", "ratings": 5}}, "a verifier rates answers about one clip"),
    ],
)
def test_what_cannot_be_is_one_sentence(clips, keys, message):
    with pytest.raises(AmbiError, match=message):
        select(settings(**keys), clips)
