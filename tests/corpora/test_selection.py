from __future__ import annotations

from typing import Any

import pytest
from support import ROOT

from ambi_eval.config.corpus_settings import CorpusSettings
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.manifest import Clip, Manifest, Rating
from ambi_eval.corpora.select import select
from ambi_eval.errors import AmbiError

LABELS = ["angry", "happy", "sad"]


def settings(**given: Any) -> CorpusSettings:
    return CorpusSettings(**{"task": "mine", "manifest": "mine.jsonl", "labels": LABELS, **given})


def manifest(*votes: dict[str, float], skipped: int = 0) -> Manifest:
    clips = [Clip(id=f"c{number}", votes=each, audio="a.wav", speaker="s") for number, each in enumerate(votes)]
    return Manifest(clips, {"skipped": {"no audio file": skipped}} if skipped else {})


ALL = {"angry": 1.0, "happy": 2.0, "sad": 1.0}
BARE = [Clip(id=name, votes=ALL, audio="a.wav") for name in ("c0", "c1")]


@pytest.mark.parametrize(
    ("clips", "given", "warnings"),
    [
        (manifest(ALL), {}, []),
        (manifest(ALL | {"other": 3.0}), {"outside": "renormalise"}, []),
        (manifest(ALL | {"excited": 1.0}), {"merge": {"excited": "happy"}}, []),
        (
            manifest(ALL | {"Angry": 2.0, "sad ": 0.5}, ALL),
            {"outside": "renormalise"},
            [
                "outside the labels: 2 of the votes, for 'Angry', did you mean 'angry'?",
                "outside the labels: 0.5 of the votes, for 'sad ', did you mean 'sad'?",
            ],
        ),
        (
            manifest({"Angry": 2.0, "happy": 1.0, "sad": 1.0}),
            {"outside": "renormalise"},
            [
                "nobody voted for the label 'angry', did you mean 'Angry'?",
                "outside the labels: 2 of the votes, for 'Angry', did you mean 'angry'?",
            ],
        ),
        (manifest({"angry": 2.0, "happy": 1.0, "sad": 0.0}), {}, ["nobody voted for the label 'sad'"]),
        (
            manifest(ALL | {"excited": 1.0}),
            {"outside": "renormalise", "merge": {"excitd": "happy"}},
            ["merge names 'excitd', which nobody voted for, did you mean 'excited'?"],
        ),
        (
            manifest(ALL, ALL | {"other": 1.0}, ALL | {"other": 1.0}),
            {},
            ["PARTIAL: 1 of the 3 clips of the corpus"],
        ),
        (manifest(*[ALL] * 250, skipped=7192), {}, ["PARTIAL: 250 of the 7,442 clips of the corpus"]),
        (manifest(*[ALL] * 7, skipped=3), {}, []),
    ],
)
def test_votes_and_clips_that_may_be_lost_unawares_are_told(
    clips: Manifest, given: dict[str, Any], warnings: list[str]
) -> None:
    assert select(settings(**given), clips).warnings == warnings


PARTS = Manifest(
    [
        Clip(id="a", votes=ALL, speaker="s", split="test1", session="Ses05", folds={"studio0": "test"}),
        Clip(id="b", votes=ALL, speaker="s", split="test1", session="Ses04", folds={"studio0": "train"}),
        Clip(id="c", votes=ALL, speaker="s", split="train", session="Ses15"),
    ],
    {"skipped": {"no audio file": 97}},
)


@pytest.mark.parametrize(
    ("part", "clips", "name"),
    [
        ({"split": "test1"}, "ab", "mine:split=test1"),
        ({"session": 5}, "a", "mine:session=5"),
        ({"session": "Ses04"}, "b", "mine:session=Ses04"),
        ({"fold": "studio0.test"}, "a", "mine:fold=studio0.test"),
        ({"split": "test1", "session": 4}, "b", "mine:split=test1:session=4"),
    ],
)
def test_a_part_of_a_corpus_is_asked_about_alone(part: dict[str, Any], clips: str, name: str) -> None:
    chosen = settings(**part)
    selection = select(chosen, PARTS, hear=False)
    assert [clip.id for clip in selection.clips] == list(clips)
    assert chosen.clips_name == name
    assert selection.left_out == {f"outside {name}": 3 - len(clips)}
    assert selection.warnings == [], "a part that was asked for is no partial result"


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"split": "test"}, r"has the split 'test', did you mean 'test1'\? \(there are: test1, train\)"),
        ({"session": 6}, r"has the session '6'.* \(there are: 15, 4, 5\)"),
        ({"fold": "studio1.test"}, r"has the fold 'studio1.test', did you mean 'studio0.test'"),
        ({"fold": "studio0.dev"}, r"has the fold 'studio0.dev'.*there are: studio0.test, studio0.train"),
    ],
)
def test_a_part_that_no_clip_is_in_is_refused_with_those_that_there_are(part: dict[str, Any], message: str) -> None:
    with pytest.raises(AmbiError, match=message):
        select(settings(**part), PARTS)


def test_a_corpus_without_splits_says_so() -> None:
    with pytest.raises(AmbiError, match=r"has the split 'test' \(no clip says its split\)"):
        select(settings(split="test"), BARE)


def test_a_fold_names_partition_and_part() -> None:
    with pytest.raises(AmbiError, match=r"fold is 'studio0'; it must be a partition and one part of it"):
        CorpusSettings.read({"task": "t", "manifest": "m", "labels": LABELS, "fold": "studio0"}, "here")


def test_a_part_of_a_selection_knows_of_how_many_clips_it_is_a_part() -> None:
    whole = select(settings(), manifest(*[ALL] * 10))
    assert whole.warnings == []
    assert whole.at(range(4)).warnings == ["PARTIAL: 4 of the 10 clips of the corpus"]


@pytest.mark.parametrize(("key", "value"), [("sentence", "IEO"), ("speaker", "1001")])
def test_a_shuffle_within_groups_leaves_out_clips_whose_group_is_unknown(key: str, value: str) -> None:
    clips = [Clip(id=name, votes=ALL, audio=f"{name}.wav", **{key: value}) for name in "ab"]
    selection = select(settings(control=f"shuffle_same_{key}"), [*clips, *BARE])
    assert [clip.id for clip in selection.clips] == ["a", "b"]
    assert selection.left_out == {f"unknown {key}": 2}
    assert [heard and heard["path"] for heard in selection.heard] == ["b.wav", "a.wav"]


@pytest.mark.parametrize("key", ["sentence", "speaker"])
def test_a_shuffle_within_groups_that_no_clip_has_is_refused(key: str) -> None:
    with pytest.raises(AmbiError, match=rf"mine: control=shuffle_same_{key} needs the {key} .*; use control=shuffle"):
        select(settings(control=f"shuffle_same_{key}"), BARE)


def test_the_labels_in_the_docs_are_those_of_the_corpus_that_they_name() -> None:
    lines = (ROOT / "docs" / "api_models.md").read_text().splitlines()
    labels = [lines[n + 1] for n, line in enumerate(lines) if line.strip() == "manifest: crema_d"]
    assert [line.strip() for line in labels] == [f"labels: [{', '.join(load_corpus('crema_d').labels)}]"]


RATED = [
    Clip(id=name, votes=ALL, speaker="s", ratings=tuple(Rating(str(n), ("sad",), arousal) for n, arousal in panel))
    for name, panel in (("a", [(1, 2.0), (2, 2.4)]), ("b", [(1, 3.0), (2, None)]), ("c", [(1, None)]))
]


@pytest.mark.parametrize(
    ("labels", "bins", "votes"),
    [
        (["1", "2", "3"], None, [[0, 2, 0], [0, 0, 1]]),
        (["calm", "active"], [2.2], [[1, 1], [0, 1]]),
        (["calm", "medium", "active"], [2.0, 3.0], [[0, 2, 0], [0, 0, 1]]),  # an edge belongs to the label above it
    ],
)
def test_a_rated_number_is_a_target_of_ordered_labels(
    labels: list[str], bins: list[float] | None, votes: list[list[float]]
) -> None:
    selection = select(settings(target="arousal", labels=labels, bins=bins), RATED, hear=False)
    assert selection.votes.tolist() == votes
    assert [panel and panel.size for panel in selection.panels] == [2, 1]
    assert selection.left_out == {"no rating of arousal": 1}


def test_a_number_that_nobody_rated_is_refused() -> None:
    with pytest.raises(AmbiError, match=r"no single rating in the manifest 'mine\.jsonl' states the valence"):
        select(settings(target="valence", labels=["1", "2"]), RATED)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bins": [1]}, "bins goes with a target of numbers"),
        ({"target": "arousal"}, "target arousal needs bins, or labels that are numbers"),
        ({"target": "arousal", "bins": [1]}, "bins must be 2 numbers, the lowest first"),
        ({"target": "arousal", "bins": [2, 1]}, "bins must be 2 numbers, the lowest first"),
    ],
)
def test_labels_of_numbers_need_their_edges(given: dict[str, Any], message: str) -> None:
    with pytest.raises(AmbiError, match=message):
        CorpusSettings.read({"task": "t", "manifest": "m", "labels": LABELS, **given}, "here")
