"""`ambi-eval check` lists everything that is wrong with a task at once, without a model."""

import json
import re

import numpy as np
import pytest
import soundfile

from ambi_eval.doctor.task_file import CLASS, check_task

CLIPS = [
    {"id": "c1", "audio": "a.wav", "speaker": "anna", "votes": {"calm": 3, "tense": 1}},
    {"id": "c2", "audio": "b.wav", "speaker": "ben", "votes": {"calm": 1, "tense": 2}},
]


def write(folder, *lines, clips=CLIPS, **changed):
    base = {"class": CLASS.partition(": ")[2], "task": "mine", "strategy": "sc", "labels": "[calm, tense]"}
    keys = {**base, "manifest": "mine.jsonl", **changed}
    text = [f"{key}: {value}" for key, value in keys.items() if value is not None]
    (folder / "mine.yaml").write_text("\n".join([*text, *lines]))
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, clips)))
    for name in ("a.wav", "b.wav"):
        soundfile.write(folder / name, np.zeros(8000), 16000)
    return folder / "mine.yaml"


def test_a_task_without_a_problem_shows_what_it_asks_about(tmp_path):
    found = check_task(write(tmp_path))
    assert found.problems == found.remarks == []
    assert found.facts[0].startswith("2 clips; 2 clusters")
    assert found.facts[1] == "votes: calm 4, tense 3"


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"class": None}, "the line `class: !function ambi_eval.task.AmbiguousEmotionTask` is missing"),
        ({"labels": "[yes, no]"}, "YAML reads yes, no, on and off as true and false, so write them in quotes"),
        ({"manifest": "mine.csv"}, "no manifest at .*mine.csv: give the path of a .parquet or .jsonl file"),
        ({"stratgy": "sc"}, "unknown key 'stratgy', did you mean 'strategy'"),
        ({"metrics": "[jsd]"}, "jsd"),
        ({"synonyms": "{clam: [quiet]}"}, "'clam' is not one of the labels"),
        ({"doc_to_text": "'<audio> {{ lables }}'"}, "a prompt names what there is not: 'lables'"),
        ({"filter_list": "[{name: x, filter: [{function: ambi_men}]}]"}, "no filter 'ambi_men', did you mean"),
    ],
)
def test_a_problem_is_one_sentence(tmp_path, changed, problem):
    found = check_task(write(tmp_path, **changed))
    assert len(found.problems) == 1
    assert re.search(problem, found.problems[0])


def test_all_problems_are_listed_at_once(tmp_path):
    path = write(tmp_path, **{"class": None}, repeats=0, control="quiet")
    assert len(check_task(path).problems) == 3


def test_every_audio_file_is_heard(tmp_path):
    path = write(tmp_path)
    (tmp_path / "a.wav").unlink()
    (tmp_path / "b.wav").write_bytes(b"no audio")
    problems = check_task(path).problems
    assert [name for name in ("a.wav", "b.wav") if any(name in problem for problem in problems)] == ["a.wav", "b.wav"]
    assert len(problems) == 2


def test_a_key_that_looks_like_no_other_gets_no_false_hint(tmp_path):
    (problem,) = check_task(write(tmp_path, clips=[{**clip, "gender": "f"} for clip in CLIPS])).problems
    assert "has the column 'gender', which manifests do not know (known: " in problem


def test_a_corpus_without_speakers_has_no_error_bars_and_hears_of_it(tmp_path):
    clips = [{key: value for key, value in clip.items() if key != "speaker"} for clip in CLIPS]
    found = check_task(write(tmp_path, clips=clips))
    assert found.problems == []
    assert any("no speaker is known of the clips, so the scores get no error bars" in each for each in found.remarks)
