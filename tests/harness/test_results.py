"""Runs read back from what the real harness wrote; the answers are written down, so everything can be checked."""

import json
import os
import shlex
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from ambi_eval.answers.candidate import Candidate
from ambi_eval.errors import AmbiError
from ambi_eval.harness.repeat import command
from ambi_eval.harness.results import _tokens, logged_answers, read_runs

CLIPS = [
    {"id": "c3", "audio": "a.wav", "speaker": "ben", "votes": {"calm": 2, "tense": 2}},
    {"id": "c1", "audio": "a.wav", "speaker": "anna", "votes": {"calm": 3, "tense": 1}},
    {"id": "c2", "audio": "a.wav", "speaker": "anna", "votes": {"calm": 0, "tense": 4}},
]
ANSWERS = {
    "c1": ["calm", "calm", "tense", "calm"],
    "c2": ["tense", "I cannot say", "calm", "tense"],
    "c3": ["", "hm", "?", "who knows"],
}
TASKS = {"mine_sc": "sc", "mine_exact": "exact", "mine_ens": "ens"}


class Scripted(LM):
    """Answers request k of a clip with the k-th text of its list."""

    MULTIMODAL = True

    def __init__(self, thinking=(0, 0, 0, 0), counted=(2, 2, 2, 2)):
        super().__init__()
        self.thinking, self.counted = thinking, counted

    def generate_until(self, requests, disable_tqdm=False):
        seen = {}
        out = []
        for request in requests:
            k = seen[request.doc_id] = seen.get(request.doc_id, -1) + 1
            text, thought = ANSWERS[request.doc["id"].removeprefix("h")][k % 4], self.thinking[k % 4]
            n_tokens = self.counted[k % 4]
            out.append(Candidate(text, logprob=-1.0, n_tokens=n_tokens, finish="stop", thinking_tokens=thought))
        return out

    def loglikelihood(self, requests, disable_tqdm=False):
        return [(float(np.log([0.6, 0.2][request.idx])), False) for request in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError


def run(folder, out, thinking=(0, 0, 0, 0), counted=(2, 2, 2, 2), **kwargs):
    """Do what `lm_eval --log_samples --output_path OUT` does."""
    tracker = EvaluationTracker(output_path=str(out))
    kwargs = {"tasks": list(TASKS), **kwargs}
    metadata = {"repeats": 4}
    results = simple_evaluate(
        model=Scripted(thinking, counted),
        model_args={"pretrained": "scripted"},
        task_manager=TaskManager(include_path=str(folder), include_defaults=False, metadata=metadata),
        metadata=metadata,
        bootstrap_iters=0,
        log_samples=True,
        evaluation_tracker=tracker,
        **kwargs,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, of_task in samples.items():
        tracker.save_results_samples(task_name=task, samples=of_task)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    soundfile.write(folder / "a.wav", np.zeros(16000), 16000)
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, CLIPS)))
    for name, strategy in TASKS.items():
        keys = {
            "class": "!function ambi_eval.harness.task.AmbiguousEmotionTask",
            "task": name,
            "strategy": strategy,
            "labels": "[calm, tense]",
            "manifest": "mine.jsonl",
        }
        (folder / f"{name}.yaml").write_text("\n".join(f"{key}: {value}" for key, value in keys.items()))
    run(folder, folder / "out")
    return folder


@pytest.fixture
def copied(corpus, tmp_path):
    """A copy of the run that a test may break."""
    return shutil.copytree(corpus / "out", tmp_path / "out")


def only(folder, pattern):
    (file,) = folder.rglob(pattern)
    return file


def test_predictions_votes_and_answers_come_back_joined_by_clip(corpus):
    (found,) = read_runs(corpus / "out")
    assert sorted(found.tasks) == sorted(TASKS)
    task = found.tasks["mine_sc"]
    assert [clip.id for clip in task.selection.clips] == ["c3", "c1", "c2"], "the order of the manifest"
    assert task.votes.tolist() == [[2, 2], [3, 1], [0, 4]]
    assert task.selection.clusters == ["ben", "anna", "anna"]
    assert list(task.pipelines) == ["dist", "vote"]
    np.testing.assert_array_equal(task.pipelines["dist"].p, [[np.nan, np.nan], [0.75, 0.25], [1 / 3, 2 / 3]])
    np.testing.assert_array_equal(task.pipelines["vote"].p, [[np.nan, np.nan], [1, 0], [0, 1]])
    assert task.texts == [ANSWERS["c3"], ANSWERS["c1"], ANSWERS["c2"]]
    assert task.tokens.tolist() == [8, 8, 8]
    assert sum(task.failed.values()) == 5
    assert (task.pool_size, task.selection.simulated) == (4, False)


@pytest.mark.parametrize(
    ("thinking", "thought", "tokens"),
    [((5, 0, 7, 1), 13, 21), ((5, 0, None, 1), np.nan, np.nan), ((None,) * 4, np.nan, np.nan)],
)
def test_thinking_comes_back_by_clip_and_what_is_unknown_is_not_nothing(corpus, tmp_path, thinking, thought, tokens):
    run(corpus, tmp_path, thinking, tasks=["mine_sc"])
    (found,) = read_runs(tmp_path)
    np.testing.assert_array_equal(found.tasks["mine_sc"].thinking, [thought] * 3)
    np.testing.assert_array_equal(found.tasks["mine_sc"].tokens, [tokens] * 3)


def test_tokens_are_unknown_if_those_of_one_answer_are(corpus, tmp_path):
    run(corpus, tmp_path, counted=(2, None, 2, 2), tasks=["mine_sc"])
    (found,) = read_runs(tmp_path)
    assert np.isnan(found.tasks["mine_sc"].tokens).all()


def test_samples_that_were_not_drawn_cost_no_tokens():
    logged = {
        "n_tokens": [2, 3, None],
        "finish": ["stop", "length", "not_drawn"],
        "of_later": [1, 2, 3],
    }
    sample = {"resps": [["a"], ["b"], ["c"]], "doc": {"candidates": logged}}
    assert _tokens(logged_answers(sample, SimpleNamespace(pool="samples"))) == 5


def test_a_run_without_thinking_says_nothing_of_it(corpus):
    (found,) = read_runs(corpus / "out")
    assert found.tasks["mine_sc"].thinking.tolist() == [0, 0, 0]
    assert not any("thinking_tokens" in file.read_text() for file in (corpus / "out").rglob("samples_*.jsonl"))


def test_numbers_of_the_harness_come_back_by_clip(corpus):
    (found,) = read_runs(corpus / "out")
    logged = found.tasks["mine_sc"].pipelines["dist"].logged
    assert logged["invalid_rate"].tolist() == [1, 0, 0]
    assert logged["acc"].tolist() == [0, 1, 1]
    assert {"jsd_bits@1", "jsd_bits@3"} <= logged.keys()
    assert logged["jsd_bits"].mean() == pytest.approx(found.results["results"]["mine_sc"]["jsd_bits,dist"])


def test_likelihoods_and_several_wordings_are_answers_too(corpus):
    (found,) = read_runs(corpus / "out")
    exact = found.tasks["mine_exact"]
    np.testing.assert_allclose(exact.pipelines["likelihood"].p, [[0.75, 0.25]] * 3)
    np.testing.assert_allclose(exact.pipelines["likelihood"].logged["label_mass"], 0.8)
    assert exact.texts[0] == ["calm", "tense"]
    np.testing.assert_allclose([answer.logprob for answer in exact.texts[0]], [-0.511, -1.609], atol=1e-3)
    assert (exact.tokens.tolist(), exact.pool_size) == ([0, 0, 0], 0)
    assert found.tasks["mine_ens"].pool_size == 5


def test_the_command_repeats_the_run(corpus):
    (found,) = read_runs(corpus / "out")
    words = shlex.split(found.command)
    options = dict(zip(words[1:-1:2], words[2:-1:2], strict=True))
    assert (words[0], words[-1]) == ("lm_eval", "--log_samples")
    assert options["--model_args"] == "pretrained=scripted"
    assert options["--tasks"] == "mine_ens,mine_exact,mine_sc"
    assert options["--metadata"] == "repeats=4"
    assert options["--include_path"] == str(corpus)
    assert options["--output_path"] == str(corpus / "out")
    assert not {"--limit", "--seed", "--batch_size", "--device", "--apply_chat_template"} & options.keys()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"device": "cuda:0", "batch_size": 1}, set()),  # what the harness notes where nothing was typed
        ({"device": "cpu", "batch_size": "auto"}, {"--device cpu", "--batch_size auto"}),
        ({"random_seed": 7}, {"--seed 7,1234,1234,1234"}),
        ({"limit": 8.0}, {"--limit 8.0"}),
    ],
)
def test_the_command_says_what_is_not_so_by_default(corpus, changed, says):
    (found,) = read_runs(corpus / "out")
    config = {**found.results["config"], **changed}
    said = command({**found.results, "config": config}, corpus / "new")
    options = {"--device", "--batch_size", "--seed", "--limit"}
    assert {" ".join(pair) for pair in zip(said.split(), said.split()[1:], strict=False) if pair[0] in options} == says


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        ({}, "mine_ens,mine_exact,mine_sc"),
        ({"mine": ["mine_ens", "mine_exact", "mine_sc"], "mine_few": ["mine_ens", "mine_sc"]}, "mine"),
        ({"mine_few": ["mine_sc", "mine_ens"], "more": ["mine_sc", "other"]}, "mine_few,mine_exact"),
    ],
)
def test_the_command_names_a_group_that_ran_whole(corpus, groups, names):
    (found,) = read_runs(corpus / "out")
    words = shlex.split(command({**found.results, "group_subtasks": groups}, corpus / "new"))
    assert words[words.index("--tasks") + 1] == names


def test_the_command_holds_the_system_instruction_and_the_flag_that_it_was_given_with(corpus):
    (found,) = read_runs(corpus / "out")
    told = {**found.results, "system_instruction": "Be brief.", "chat_template": ""}
    words = shlex.split(command(told, corpus / "new"))
    assert words[words.index("--system_instruction") + 1] == "Be brief."
    assert "--apply_chat_template" in words
    assert "--apply_chat_template" not in shlex.split(found.command)


def test_of_each_folder_the_newest_run_is_read_and_a_file_is_that_run(copied):
    newer, older = only(copied, "results_*.json"), "2020-01-01T00-00-00.000000"
    (newer.with_name(f"results_{older}.json")).write_text("{}")
    assert [found.file for found in read_runs(copied)] == [newer]
    assert [found.file for found in read_runs(newer)] == [newer]
    with pytest.raises(AmbiError, match="holds no task of ambi_eval"):
        read_runs(newer.with_name(f"results_{older}.json"))


def test_a_part_of_the_clips_is_a_run(corpus, tmp_path):
    run(corpus, tmp_path / "limit", limit=2, tasks=["mine_sc"])
    run(corpus, tmp_path / "samples", samples={"mine_sc": [0, 2]}, tasks=["mine_sc"])
    for name, clips in (("limit", ["c3", "c1"]), ("samples", ["c3", "c2"])):
        (found,) = read_runs(tmp_path / name)
        assert [clip.id for clip in found.tasks["mine_sc"].selection.clips] == clips


def test_runs_of_other_benchmarks_beside_ours_are_counted_and_left_alone(copied, caplog):
    foreign = copied / "elsewhere" / "results_2026-01-01T00-00-00.0.json"
    foreign.parent.mkdir()
    foreign.write_text(json.dumps({"config": {}, "configs": {"hellaswag": {"task": "hellaswag"}}, "task_hashes": {}}))
    with caplog.at_level("WARNING"):
        assert len(read_runs(copied)) == 1
    assert f"{foreign} holds no task of ambi_eval and is left alone" in caplog.text
    with pytest.raises(AmbiError, match="holds no task of ambi_eval: give the results of a run of its tasks"):
        read_runs(foreign)
    with pytest.raises(AmbiError, match="holds no task of ambi_eval: give the results of a run of its tasks"):
        read_runs(foreign.parent)


def test_clips_whose_votes_are_withheld_are_asked_and_logged_and_not_scored(corpus, tmp_path):
    folder = shutil.copytree(corpus, tmp_path / "corpus", ignore=shutil.ignore_patterns("out"))
    hidden = [{**clip, "id": f"h{clip['id']}", "votes": None, "votes_hash": "0" * 64} for clip in CLIPS]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, [hidden[0], *CLIPS, *hidden[1:]])))
    run(folder, folder / "out")
    whole, (found,) = only(corpus / "out", "results_*.json"), read_runs(folder / "out")
    assert found.results["results"] == json.loads(whole.read_text())["results"]
    for task in TASKS:
        log = only(folder, f"samples_{task}_*.jsonl").read_text().splitlines()
        lines = [json.loads(line) for line in log]
        assert {line["doc"]["id"] for line in lines} == {clip["id"] for clip in [*CLIPS, *hidden]}
        assert all(line["metrics"] == [] for line in lines if line["doc"]["id"].startswith("h"))
        assert [clip.id for clip in found.tasks[task].selection.clips] == ["c3", "c1", "c2"]


def without_samples(folder):
    only(folder, "samples_mine_sc_*.jsonl").unlink()


def with_broken_line(folder):
    file = only(folder, "samples_mine_sc_*.jsonl")
    file.write_text(file.read_text()[:-40])


def with_lines_lost(folder):
    file = only(folder, "samples_mine_sc_*.jsonl")
    file.write_text("\n".join(file.read_text().splitlines()[:-2]))


def with_other_json(folder):
    file = only(folder, "samples_mine_sc_*.jsonl")
    file.write_text("[1, 2]\n")


def with_broken_results(folder):
    only(folder, "results_*.json").write_text("{")


def without_anything(folder):
    shutil.rmtree(folder)


def set_manifest(folder, name):
    file = only(folder, "results_*.json")
    results = json.loads(file.read_text())
    for config in results["configs"].values():
        config["manifest"] = name
    file.write_text(json.dumps(results))


def with_manifest_gone(folder):
    set_manifest(folder, "gone.jsonl")


def with_other_manifest(folder):
    other = folder / "other.jsonl"
    other.write_text("\n".join(map(json.dumps, [CLIPS[0], {**CLIPS[1], "id": "c9"}])))
    set_manifest(folder, str(other))


def with_other_votes(folder):
    other = folder / "other.jsonl"
    votes = {"calm": 4, "tense": 1}
    other.write_text("\n".join(json.dumps({**clip, "votes": votes}) for clip in CLIPS))
    set_manifest(folder, str(other))


def test_a_manifest_with_other_speakers_than_in_the_run_is_told(copied):
    (run,) = read_runs(copied)
    before = run.tasks["mine_sc"].warnings
    other = copied / "other.jsonl"
    other.write_text("\n".join(json.dumps({**clip, "speaker": "one"}) for clip in CLIPS))
    set_manifest(copied, str(other))
    (run,) = read_runs(copied)
    assert run.tasks["mine_sc"].warnings == [
        *before,
        f"the manifest '{other}' names other speakers than when the run was scored: error bars and intervals are those "
        "of now",
    ]


def without_hashes(folder):
    file = only(folder, "samples_mine_sc_*.jsonl")
    file.write_text(file.read_text().replace("doc_hash", "hash"))


def with_another(task, change):
    """Change what the log holds of the answers about a clip."""

    def broken(folder):
        file = only(folder, f"samples_{task}_*.jsonl")
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        change(lines[1])
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))

    return broken


def as_special_file(folder):
    file = only(folder, "results_*.json")
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        *(
            (with_another(task, change), r"line 2: the answers about the clip 'c1' are not those that were scored")
            for task, change in (
                ("mine_sc", lambda line: line["resps"][0].__setitem__(2, "calm")),
                ("mine_sc", lambda line: line["doc"]["candidates"]["n_tokens"].__setitem__(2, 1)),
                ("mine_sc", lambda line: line["doc"].pop("candidates")),
                ("mine_ens", lambda line: line["resps"].insert(0, line["resps"].pop(2))),
                ("mine_exact", lambda line: line["resps"][0][0].__setitem__(0, "-0.1")),
            )
        ),
        (as_special_file, r"results_.*\.json is no plain file"),
        (without_samples, r"no samples_mine_sc_.*\.jsonl beside it; run lm_eval with --log_samples"),
        (with_broken_line, r"samples_mine_sc_.*\.jsonl, line 6 is no logged sample .*: repeat the run"),
        (with_lines_lost, "it was cut or changed; repeat the run"),
        (with_other_json, "line 1 is no logged sample"),
        (without_hashes, "line 1 is no logged sample .*doc_hash"),
        (
            with_other_votes,
            "2 of its clips have other votes in the manifest .* than when they were scored",
        ),
        (with_broken_results, r"results_.*\.json cannot be read"),
        (without_anything, "holds no results_.*: give the folder that --output_path of lm_eval named"),
        (with_manifest_gone, r"the votes of its clips are not there any more: no manifest at .*gone\.jsonl"),
        (with_other_manifest, r"2 of its clips are not in the manifest '.*other.jsonl', the first is 'c1'"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(copied, broken, message):
    broken(copied)
    with pytest.raises(AmbiError, match=message) as error:
        read_runs(copied)
    assert "\n" not in str(error.value)
