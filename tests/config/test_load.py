import inspect
from dataclasses import fields
from pathlib import Path

import pytest
from lm_eval.config.task import TaskConfig
from lm_eval.models.huggingface import HFLM

from ambi_eval.config.load import (
    HARNESS_KEYS,
    lay_over,
    load_task,
    read_yaml,
    refuse_broken_yaml,
    resolve,
    strategy_names,
)
from ambi_eval.errors import AmbiError
from ambi_eval.models.hf_audio import HFAudio
from ambi_eval.paths import tasks_dir

BASE = """\
class: !function ambi_eval.harness.task.AmbiguousEmotionTask
task: mine
strategy: sc
labels: [calm, tense]
manifest: mine.parquet
"""


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def task(folder: Path, *lines: str, metadata=None):
    keys = {line.partition(":")[0] for line in lines}
    base = [line for line in BASE.splitlines() if line.partition(":")[0] not in keys]
    config = read_yaml(write(folder, "\n".join([*base, *lines])))
    config["metadata"] = {**config.get("metadata", {}), **(metadata or {}), "config_source": str(folder / "mine.yaml")}
    return resolve(config)


def test_the_task_lies_on_top_of_its_strategy(tmp_path):
    config = task(tmp_path, "generation_kwargs: {temperature: 0.5}", "repeats: 7")
    assert config.generation_kwargs["temperature"] == 0.5
    assert config.generation_kwargs["do_sample"] is True, "merged one level deep"
    assert (config.repeats, config.pool, config.readout) == (7, "samples", "label")


def test_lay_over_merges_only_the_keys_that_are_mappings_by_nature():
    lower = {"generation_kwargs": {"a": 1, "b": 2}, "labels": ["x"], "synonyms": {"x": ["y"]}}
    upper = {"generation_kwargs": {"b": 3}, "labels": ["z"], "synonyms": {"z": ["w"]}}
    assert lay_over(lower, upper) == {
        "generation_kwargs": {"a": 1, "b": 3},
        "labels": ["z"],
        "synonyms": {"z": ["w"]},
    }


def test_a_strategy_may_lie_beside_the_task(tmp_path):
    write(tmp_path, "include: base.yaml\nrepeats: 3\n", "own.yaml")
    write(tmp_path, (tasks_dir() / "_strategies" / "sc.yaml").read_text(), "base.yaml")
    assert task(tmp_path, "strategy: own.yaml").repeats == 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["stratgy: sc"], "unknown key 'stratgy', did you mean 'strategy'"),
        (["strategy: scc"], "no strategy 'scc', did you mean 'sc'"),
        (["strategy: ./gone.yaml"], "gone.yaml is not there"),
        (["labels: [calm]"], "at least two words"),
        (
            ["labels: [yes, no]"],
            "labels is .True, False.; it must be words: YAML reads yes, no, on and off as true",
        ),
        (["labels: [calm, calm]"], "labels is .*; it must be different words; 'calm' stands twice in it"),
        (["outside: dropclip"], "outside is 'dropclip', did you mean 'drop_clip'"),
        (["merge: {relaxed: calmm}"], "merge sends 'relaxed' to 'calmm', which is no label, did you mean 'calm'"),
        (["repeats: 0"], "repeats is 0; it must be at least 1"),
        (["repeats: many"], "repeats is 'many'; it must be a whole number"),
        (["pool: sample"], "pool is 'sample', did you mean 'samples'"),
        (["control: quiet"], "control is 'quiet'"),
        (["labels: "], "the key 'labels' is missing"),
        (["generation_kwargs: {temprature: 2}"], "generation_kwargs: unknown key 'temprature', did you mean"),
        (["generation_kwargs: {temperature: -2}"], "generation_kwargs: temperature is -2; it must be at least 0"),
        (["stop_rule: {confidence: 0.95}"], "the key 'stop_rule.round' is missing"),
        (["verifier: {prompt: a, ratings: 12}"], "verifier.ratings is 12; it must be at most 9"),
        (["filter_list: [{name: a, filter: [{by: b}]}]"], "it must be a step `{function: <name of a filter>, ...}`"),
        (["filter_list: [{filter: [{function: ambi_mean}]}]"], "the key 'filter_list.0.name' is missing"),
        (["rotations: 5"], "rotations is 5; it must be at most the 2 labels"),
        (
            ["process_docs: !function own.process"],
            "take out process_docs; choose the clips",
        ),
        (["harness: {}"], "unknown key 'harness'"),
    ],
)
def test_a_mistake_in_the_yaml_is_one_sentence_that_names_the_file(tmp_path, lines, message):
    with pytest.raises(AmbiError, match=message) as error:
        task(tmp_path, *lines)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_every_key_of_a_harness_task_is_known():
    assert set(HARNESS_KEYS) == {each.name for each in fields(TaskConfig)}


def test_a_task_without_strategy_hears_of_it(tmp_path):
    config = {"task": "mine", "labels": ["a", "b"], "manifest": "m", "metadata": {"config_source": "inline"}}
    with pytest.raises(AmbiError, match=r"'pool' is missing \(and so is 'strategy'\)"):
        resolve(config)


@pytest.mark.parametrize(
    ("strategy", "metadata", "key", "value"),
    [
        ("sc", {"repeats": 5}, "repeats", 5),
        ("sc_shares", {"repeats": 5}, "repeats", 5),
        ("direct", {"repeats": 5}, "repeats", 1),
        ("exact", {"repeats": 5}, "repeats", 1),
        ("almv", {"repeats": 5}, "repeats", 3),
        ("almv", {"beams": 4}, "repeats", 4),
        ("sc", {"beams": 4}, "repeats", 20),
        ("sc", {"control": "silence"}, "control", "silence"),
        ("direct", {"transcript": "given"}, "transcript", "given"),
        ("wbon", {"weighting_temperature": 0.1}, "weighting_temperature", 0.1),
        ("sc", {"weighting_temperature": 0.1}, "weighting_temperature", 1.0),
        ("walmv", {"weighting": "linear"}, "weighting", "linear"),
        ("wbon", {"weighting": "linear"}, "weighting", "softmax"),
        ("exact", {"length_normalisation": "bytes"}, "length_normalisation", "bytes"),
        ("sc", {"length_normalisation": "bytes"}, "length_normalisation", "none"),
    ],
)
def test_metadata_overrides_only_where_it_makes_sense(tmp_path, strategy, metadata, key, value):
    assert getattr(task(tmp_path, f"strategy: {strategy}", metadata=metadata), key) == value


def test_ratings_override_the_verifiers_scale(tmp_path):
    assert task(tmp_path, "strategy: almv", metadata={"ratings": 7}).verifier.ratings == 7
    assert task(tmp_path, metadata={"ratings": 7}).verifier is None


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"repeats": 0}, "repeats is 0; it must be at least 1"),
        ({"transcript": "givn"}, "transcript is 'givn', did you mean 'given'"),
        ({"repeat": 5}, "--metadata repeat=5 sets nothing, did you mean 'repeats'"),
        ({"length_normalization": "bytes"}, "did you mean 'length_normalisation'"),
    ],
)
def test_an_override_that_cannot_be_is_refused(tmp_path, metadata, message):
    with pytest.raises(AmbiError, match=message):
        task(tmp_path, metadata=metadata)


def test_arguments_of_the_model_which_the_harness_adds_to_the_metadata_are_nobodys_mistake(tmp_path):
    arguments = [name for model in (HFAudio, HFLM) for name in inspect.signature(model.__init__).parameters]
    task(tmp_path, metadata=dict.fromkeys(arguments, "something"))


def test_a_circle_of_includes_is_named(tmp_path):
    write(tmp_path, "include: b.yaml\n", "a.yaml")
    write(tmp_path, "include: a.yaml\n", "b.yaml")
    with pytest.raises(AmbiError, match="closes a circle"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BASE + "metadata: [unclosed\n", "is not valid YAML"),
        (BASE + "metadata: " + "[" * 300 + "]" * 300, "is nested deeper than 200 levels"),
        (BASE + "metadata: " + "[" * 50_000, "is not valid YAML: .* exceeded maximum nesting depth"),
        (BASE + "metadata:\n" + "- " * 50_000, "is nested deeper than 200 levels"),
        (BASE + "include: gone.yaml\n", "includes a file that is not there"),
        ("- ambi_eval\n", "must hold `key: value` lines"),
    ],
)
def test_a_broken_file_that_names_us_is_reported(tmp_path, text, message):
    write(tmp_path, text)
    with pytest.raises(AmbiError, match=message):
        refuse_broken_yaml([tmp_path])


def test_other_peoples_yaml_is_not_judged(tmp_path):
    write(tmp_path, "task: [broken\n")
    refuse_broken_yaml([tmp_path])


@pytest.mark.parametrize("path", sorted(tasks_dir().glob("*/ambi_*.yaml")), ids=lambda path: path.stem)
def test_every_task_file_of_ours_resolves_and_is_named_as_its_file(path):
    refuse_broken_yaml([path.parent])
    config = read_yaml(path)
    if "group" in config:
        assert config["group"] == path.stem
        assert all((path.parent / f"{name}.yaml").is_file() for name in config["task"])
    else:
        assert config["task"] == path.stem
        assert load_task(path).strategy in strategy_names()
        assert config["tag"] == f"ambi_{config['strategy']}"
        assert path.stem == f"ambi_{config['metadata']['corpus']}_{config['strategy']}"


def test_yaml_that_was_written_for_the_first_release_still_loads(tmp_path):
    """Every key of the first release, in the class path, spelling and shape that it had."""
    old = write(
        tmp_path,
        """\
class: !function ambi_eval.task.AmbiguousEmotionTask
task: mine
tag: ambi_almv
strategy: almv
labels: [calm, tense]
manifest: mine.jsonl
merge: {relaxed: calm}
outside: renormalise
synonyms: {calm: [quiet]}
cluster: session
transcript: given
control: shuffle_same_sentence
metrics: [jsd_bits, bc]
prompt_words: {clip: this call}
generation_kwargs: {num_beams: 4, until: ["\\n"], max_gen_toks: 64}
repeats: 4
rotations: 1
calibration: none
length_normalisation: none
weighting: linear
weighting_temperature: 2
verifier: {ratings: 7}
prompts: []
metadata: {version: 1.0, corpus: mine}
""",
    )
    settings = load_task(old)
    assert (settings.outside, settings.repeats, settings.verifier.ratings) == ("renormalise", 4, 7)
    assert settings.generation().num_beams == 4
    assert settings.prompt_words == {"clip": "this call", "raters": "listeners"}
    assert settings.corpus == "mine"
