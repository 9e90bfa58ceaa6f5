"""`ambi-eval check` lists everything that is wrong with a task at once, without a model."""

import json
import re
import unicodedata

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from ambi_eval.answers.label import read_label
from ambi_eval.cli import app
from ambi_eval.corpora.manifest import read_manifest
from ambi_eval.doctor.task_file import CLASS, check_task
from ambi_eval.errors import AmbiError
from ambi_eval.paths import tasks_dir

CLIPS = [
    {"id": "c1", "audio": "a.wav", "speaker": "anna", "votes": {"calm": 3, "tense": 1}},
    {"id": "c2", "audio": "b.wav", "speaker": "ben", "votes": {"calm": 1, "tense": 2}},
]


def write(folder, *lines, clips=CLIPS, **changed):
    base = {"class": CLASS.partition(": ")[2], "task": "mine", "strategy": "sc", "labels": "[calm, tense]"}
    keys = {**base, "manifest": "mine.jsonl", "metadata": "{version: 1}", **changed}
    text = [f"{key}: {value}" for key, value in keys.items() if value is not None]
    (folder / "mine.yaml").write_text("\n".join([*text, *lines]))
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, clips)))
    for name in ("a.wav", "b.wav"):
        soundfile.write(folder / name, np.sin(np.arange(8000) / 10), 16000)
    return folder / "mine.yaml"


def test_a_task_without_a_problem_shows_what_it_asks_about(tmp_path):
    found = check_task(write(tmp_path))
    assert found.problems == found.remarks == []
    assert found.facts[0].startswith("2 clips; 2 clusters")
    assert found.facts[1] == "votes: calm 4, tense 3"


WRONG = {
    "not JSON": (["{x"] * 7, "mine.jsonl, line 1 is not JSON"),
    "votes and times": (
        [{"id": f"c{n}", "votes": "3", "start": "soon"} for n in range(6)],
        "'c0' has the votes \"3\"",
    ),
    "votes": (
        [{"id": f"c{n}", "votes": {"calm": -1}, "end": -n} for n in range(6)],
        "'c0' has the votes {'calm': -1.0}",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_of_many_mistakes_in_a_manifest_five_are_shown_and_all_are_counted(tmp_path, kind):
    clips, first = WRONG[kind]
    task = write(tmp_path)
    (tmp_path / "mine.jsonl").write_text(
        "\n".join(clip if isinstance(clip, str) else json.dumps(clip) for clip in clips)
    )
    every = 12 if kind != "not JSON" else 7
    found = check_task(task)
    assert (len(found.problems), found.more) == (5, every - 5)
    assert first in found.problems[0]
    assert len({*found.problems}) == 5
    with pytest.raises(AmbiError, match=rf"\(and {every - 1} more mistakes\)$"):
        read_manifest(tmp_path / "mine.jsonl")
    shown = CliRunner().invoke(app, ["check", str(task)])
    assert shown.exit_code == 1
    assert f"{every} problems ({every - 5} of them are not shown" in shown.output


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"class": None}, "the line `class: !function ambi_eval.task.AmbiguousEmotionTask` is missing"),
        ({"labels": "[yes, no]"}, "YAML reads yes, no, on and off as true and false, so write them in quotes"),
        (
            {"manifest": "mine.csv"},
            "mine.csv: a manifest is a .parquet or .jsonl file, not '.csv': write one JSON object",
        ),
        ({"class": "ambi_eval.task.AmbiguousEmotionTask"}, "without `!function` lm_eval cannot find the class"),
        ({"stratgy": "sc"}, "unknown key 'stratgy', did you mean 'strategy'"),
        ({"task": "my/task"}, "task is 'my/task'; it must be a name without / and line breaks"),
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


def test_a_task_that_is_named_as_one_of_ours_is_told_so(tmp_path):
    assert "the suite has a task 'ambi_demo_sc', too" in check_task(write(tmp_path, task="ambi_demo_sc")).remarks[0]
    assert not check_task(tasks_dir() / "demo" / "ambi_demo_sc.yaml").remarks


def test_labels_of_the_task_and_of_the_manifest_may_encode_umlauts_differently(tmp_path):
    votes = {unicodedata.normalize("NFD", "fröhlich"): 3, "müde": 1}
    path = write(
        tmp_path, labels=unicodedata.normalize("NFD", "[fröhlich, müde]"), clips=[{**CLIPS[0], "votes": votes}]
    )
    assert check_task(path).facts[1] == "votes: fröhlich 3, müde 1"
    answer = read_label(unicodedata.normalize("NFD", "Die Stimme: müde"), ("fröhlich", "müde"))
    assert answer.shares is not None
    assert list(answer.shares) == [0, 1]


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


def test_of_many_audio_files_that_cannot_be_read_five_are_shown_and_all_are_counted(tmp_path):
    clips = [{"id": f"c{n}", "audio": f"c{n}.wav", "speaker": f"s{n}", "votes": {"calm": 3}} for n in range(9)]
    path = write(tmp_path, clips=clips)
    for n in range(9):
        (tmp_path / f"c{n}.wav").write_bytes(b"no audio")
    found = check_task(path)
    assert (len(found.problems), found.more) == (5, 4)
    assert "c4.wav: cannot be decoded" in found.problems[4]


@pytest.mark.parametrize(
    ("samples", "remark"),
    [
        (np.zeros(8000), "a.wav (and 1 more): nothing but silence"),
        (
            np.sin(np.arange(8000) / 10)[:, None] * [1, -1],
            "a.wav (and 1 more): nothing but silence, or channels that",
        ),
        (np.sin(np.arange(1599) / 10), "a.wav (and 1 more): shorter than 0.1 s, so silence is added"),
    ],
)
def test_clips_with_nothing_to_hear_are_remarked(tmp_path, samples, remark):
    path = write(tmp_path)
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, samples, 16000)
    found = check_task(path)
    assert found.problems == []
    assert len(found.remarks) == 1
    assert remark in found.remarks[0]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"votes": '{"calm": 3}'}, """clip 'c1' has the votes "{.*": write label and count, "votes": {"calm": 3"""),
        ({"votes": ["calm", "calm", "tense"]}, """, a list: write label and count, "votes": {"calm": 2, "tense": 1}"""),
        ({"votes": [3, 1]}, r"clip 'c1' has the votes \[3, 1\]: write label and count"),
        ({"votes": {"calm": "three"}}, """clip 'c1' has "three" as the number of votes for 'calm': write a number"""),
        ({"votes": None}, "clip 'c1' has no votes: write label and count"),
        ({"ratings": ["calm"]}, r"""clip 'c1' has the ratings \["calm"\]: write \[{"rater": "r1", "labels"""),
        ({"start": "0:01"}, """clip 'c1' has "0:01" as its start: write a number of seconds"""),
        ({"audio": ["a.wav"]}, r"""clip 'c1' has \["a.wav"\] as its audio: write one text"""),
        ({"gender": "f"}, "has the column 'gender', which a manifest calls 'sex': rename it"),
        ({"shoe": "f"}, r"has the column 'shoe', which manifests do not know \(known: "),
    ],
)
def test_a_wrong_value_of_a_manifest_is_what_a_person_would_write(tmp_path, changed, sentence):
    problems = check_task(write(tmp_path, clips=[{**clip, **changed} for clip in CLIPS])).problems
    assert re.search(sentence, problems[0])
    assert [problem.replace("c2", "c1") for problem in problems[1:]] in ([], problems[:1])


def test_a_task_without_a_version_hears_what_results_show(tmp_path):
    (remark,) = check_task(write(tmp_path, metadata=None)).remarks
    assert remark.startswith("the task has no version, so results show 0")


def test_ids_may_be_whole_numbers_but_not_numbers_and_texts(tmp_path):
    numbered = [{**clip, "id": number} for number, clip in enumerate(CLIPS)]
    assert check_task(write(tmp_path, clips=numbered)).problems == []
    (problem,) = check_task(write(tmp_path, clips=[numbered[0], CLIPS[1]])).problems
    assert "the column 'id' has numbers and texts: put all of its values into quotes" in problem


def test_votes_for_none_of_the_labels_say_what_they_are_for(tmp_path):
    (problem,) = check_task(write(tmp_path, labels="[clam, tens]")).problems
    assert problem.endswith("is left (2 votes outside the labels); its votes are for calm, tense")


@pytest.mark.parametrize(
    ("speakers", "remark"),
    [
        ([None, None], "error bars take all clips for independent"),
        (["anna", "anna"], "fewer than two speakers are known, so the scores get no error bars"),
    ],
)
def test_a_corpus_without_several_speakers_hears_what_its_error_bars_are(tmp_path, speakers, remark):
    found = check_task(write(tmp_path, clips=[{**c, "speaker": s} for c, s in zip(CLIPS, speakers, strict=True)]))
    assert found.problems == []
    assert [each for each in found.remarks if remark in each] == found.remarks
