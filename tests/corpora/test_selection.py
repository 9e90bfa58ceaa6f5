from __future__ import annotations

from typing import Any

import pytest
from support import ROOT

from ambi_eval.config.load import load_corpus
from ambi_eval.config.task_settings import CorpusSettings
from ambi_eval.corpora.manifest import Clip, Manifest
from ambi_eval.corpora.selection import select
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
                "2 votes for 'Angry' are outside the labels, did you mean 'angry'?",
                "0.5 votes for 'sad ' are outside the labels, did you mean 'sad'?",
            ],
        ),
        (
            manifest({"Angry": 2.0, "happy": 1.0, "sad": 1.0}),
            {"outside": "renormalise"},
            [
                "nobody voted for the label 'angry', did you mean 'Angry'?",
                "2 votes for 'Angry' are outside the labels, did you mean 'angry'?",
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
