from __future__ import annotations

import logging
from pathlib import Path

import pytest
from support import ROOT

from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.command import command_of
from ambi_eval.corpora.manifest import Clip, read_manifest, write_manifest
from ambi_eval.corpora.registry import corpus, corpus_names, ensure_manifest, prepare_command, recipe
from ambi_eval.errors import AmbiError
from ambi_eval.paths import manifest_path


@pytest.mark.parametrize("name", corpus_names())
def test_each_corpus_has_a_command_a_task_yaml_and_a_row_in_the_docs(name: str) -> None:
    assert callable(command_of(name))
    assert load_corpus(name).manifest == name
    assert corpus(name).license
    assert corpus(name).citation
    docs = (ROOT / "docs" / "corpora.md").read_text(encoding="utf-8")
    assert f"| {corpus(name).title} |" in docs, (
        f"docs/corpora.md lacks the row of '{corpus(name).title}', and its section"
    )
    tests = Path(__file__).parent / "recipes" / f"test_{name}.py"
    assert name == "demo" or tests.is_file(), f"{tests} is missing: a small made-up release, and each mistake in it"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("crema_d", "ambi-eval prepare crema_d --source DIR (the folder that holds AudioWAV/ and processedResults/)"),
        ("demo", "ambi-eval prepare demo"),
    ],
)
def test_the_command_names_what_it_needs(name: str, command: str) -> None:
    assert prepare_command(name) == command


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("msp_podcast", r"no manifest of msp_podcast at .*: make it with ambi-eval prepare msp_podcast --source DIR"),
        ("creme_d", r"no corpus is named 'creme_d', did you mean 'crema_d'\? \(known: crema_d, demo, dusha"),
    ],
)
def test_a_corpus_that_is_not_prepared_ends_in_the_command_to_run(name: str, message: str) -> None:
    with pytest.raises(AmbiError, match=message):
        ensure_manifest(name)


@pytest.mark.parametrize("name", ["crema_d", "my_own"])
def test_a_manifest_in_the_data_directory_is_taken_as_it_is(name: str) -> None:
    write_manifest(manifest_path(name), [Clip(id="a", votes={"calm": 1.0})])
    assert ensure_manifest(name) == manifest_path(name)


def test_the_demo_is_made_on_the_spot_and_only_once(data_directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ambi_eval")
    path = ensure_manifest("demo")
    assert path == data_directory / "demo" / "manifest.parquet"
    assert all(Path(str(clip.audio)).is_file() for clip in read_manifest(path))
    written = path.stat().st_mtime_ns
    assert ensure_manifest("demo").stat().st_mtime_ns == written
    assert [record.message for record in caplog.records] == [f"preparing the corpus demo in {path.parent}"]


@pytest.mark.parametrize("name", ["crema_d", "emozionalmente", "whiser"])
def test_the_published_size_is_that_of_the_real_label_files(name, real_labels, tmp_path):
    recipe(name).prepare(real_labels(name), tmp_path, allow_missing_audio=True)
    clips = read_manifest(tmp_path / "manifest.parquet")
    assert len(clips) + sum(clips.about.get("skipped", {}).values()) == corpus(name).clips
