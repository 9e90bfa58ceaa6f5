from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import datasets
import pytest

import ambi_eval
from ambi_eval.corpora.manifest import Clip, Rating, read_manifest, write_manifest
from ambi_eval.corpora.registry import ensure_manifest
from ambi_eval.errors import AmbiError

CLIPS = [
    Clip(id="a", votes={"sad": 1.0}, speaker="anna", split="test1", start=0.5),
    Clip(id="b", votes={"calm": 0.5, "sad": 1.5}, audio="/b.wav", ratings=(Rating("r", ("calm", "sad")),)),
]


def test_the_demo_is_a_dataset_with_audio_votes_and_speakers() -> None:
    corpus = ambi_eval.load_corpus("demo")
    clips = read_manifest(ensure_manifest("demo"))
    assert isinstance(corpus, datasets.Dataset)
    assert corpus.features["audio"] == datasets.Audio(decode=False)
    assert corpus["id"][:] == [clip.id for clip in clips]
    assert corpus["speaker"][:] == [clip.speaker for clip in clips]
    assert [row["path"] for row in corpus["audio"]] == [clip.audio for clip in clips]
    for row, clip in zip(corpus["votes"], clips, strict=True):
        assert {label: count for label, count in row.items() if count} == clip.votes


def test_a_manifest_by_its_path_has_zero_votes_for_labels_that_a_clip_does_not_mention(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", CLIPS)
    first, second = ambi_eval.load_corpus(str(tmp_path / "m.parquet"))
    assert first["votes"] == {"calm": 0.0, "sad": 1.0}
    assert (first["audio"], first["speaker"], first["split"], first["start"]) == (None, "anna", "test1", 0.5)
    assert second["audio"]["path"] == "/b.wav"
    assert (second["speaker"], second["ratings"]) == (None, [{"rater": "r", "labels": ["calm", "sad"]}])


def test_decoded_audio_is_the_stock_feature(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", CLIPS)
    assert ambi_eval.load_corpus(str(tmp_path / "m.parquet"), decode=True).features["audio"] == datasets.Audio()


def test_a_corpus_that_is_not_prepared_ends_in_the_command_to_run() -> None:
    with pytest.raises(AmbiError, match="make it with ambi-eval prepare crema_d --source DIR"):
        ambi_eval.load_corpus("crema_d")


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import ambi_eval; print(sorted(set(sys.modules) - before))"
    result = subprocess.run(
        [sys.executable, "-c", code], env={"AMBI_EVAL_PLUGIN": "0"}, capture_output=True, text=True, check=True
    )
    assert result.stdout in ("['ambi_eval']\n", "[]\n")  # the plug-in has imported it already


def test_what_the_package_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load_korpus'"):
        ambi_eval.load_korpus  # noqa: B018
