"""Before a model is loaded, everything about our tasks is checked; options that would change scores are refused."""

import json
import re

import numpy as np
import pytest
import soundfile
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from support import commands

from ambi_eval.answers.candidate import Candidate
from ambi_eval.errors import AmbiError

CLIPS = [
    {"id": f"c{number}", "audio": "a.wav", "speaker": f"s{number % 3}", "votes": {"calm": 1 + number % 2, "tense": 1}}
    for number in range(4)
]
# A model that cannot be loaded: whoever is told about something else was told before.
NO_MODEL = {"model": "hf-audio", "model_args": "pretrained=no/such-model"}


class Answering(LM):
    """A model of somebody else's that gives these answers to each clip, and keeps the prompts."""

    MULTIMODAL = True

    def __init__(self, *answers):
        super().__init__()
        self.answers, self.prompts = answers, []

    def generate_until(self, requests, disable_tqdm=False):
        self.prompts += [request.args[0] for request in requests]
        given = [self.answers[number % len(self.answers)] for number, _ in enumerate(requests)]
        return [each if isinstance(each, Candidate) else Candidate(each) for each in given]

    def loglikelihood(self, requests, disable_tqdm=False):
        raise NotImplementedError

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError


@pytest.fixture
def folder(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, CLIPS)))
    return tmp_path


def task(folder, *lines, strategy="sc", manifest="mine.jsonl"):
    base = [
        "class: !function ambi_eval.task.AmbiguousEmotionTask",
        "task: mine",
        f"strategy: {strategy}",
        "labels: [calm, tense]",
        f"manifest: {manifest}",
    ]
    (folder / "mine.yaml").write_text("\n".join([*base, *lines]))


def evaluate(folder, tasks=("mine",), **run):
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return simple_evaluate(**{"tasks": list(tasks), "task_manager": manager, "bootstrap_iters": 0, **run})


@pytest.mark.parametrize(
    ("given", "run", "message"),
    [
        ({"manifest": "gone.jsonl"}, {}, r"gone\.jsonl"),
        ({"manifest": "iemocap"}, {}, "no manifest of iemocap"),
        ({"lines": ["stratgy: sc"]}, {}, "unknown key 'stratgy', did you mean 'strategy'"),
        ({"lines": ["doc_to_text: '<audio> {{ lables }}'"]}, {}, "a prompt names what there is not: 'lables'"),
        ({}, {"gen_kwargs": "temprature=2"}, "generation_kwargs: unknown key 'temprature', did you mean 'temperature'"),
        ({}, {"gen_kwargs": {"temperature": -1}}, "temperature is -1; it must be at least 0"),
        ({"lines": ["repeats: 10001"]}, {}, "repeats is 10001; it must be at most 10000"),
        ({"strategy": "bon"}, {"gen_kwargs": "num_beams=1"}, "num_beams is 1, but 5 beams are compared; set both"),
        ({}, {"num_fewshot": 2}, "no few-shot examples with audio; leave out --num_fewshot"),
        ({}, {"cache_requests": True}, "leave out --cache_requests: it would give a task the prompts that were cached"),
        ({}, {"use_cache": "cache"}, "leave out --use_cache: it keeps one answer for the whole pool of a clip"),
        ({}, {"model": "hf-audio", "model_args": "pretrained=x,dtipe=y"}, "unknown key 'dtipe', did you mean 'dtype'"),
        ({}, {"model": "hf"}, "mine: --model hf hears no audio; give hf-audio for a checkpoint of transformers"),
        ({}, {"limit": 0}, "--limit 0 is no number of clips: give a number of clips, or a share"),
        ({}, {"limit": -0.5}, "--limit -0.5 is no number of clips"),
        ({}, {"limit": float("inf")}, "--limit inf is no number of clips"),
        ({}, {"limit": float("nan")}, "--limit nan is no number of clips"),
        ({}, {"samples": {"mine": [0]}, "limit": 1}, "mine: --samples and --limit exclude each other; leave out one"),
        ({}, {"samples": {"mine": [0, 4]}}, "--samples: mine has clips 0 to 3, and no clip 4"),
        ({}, {"samples": {"mine": ["a"]}}, "--samples: mine has clips 0 to 3, and no clip a"),
        ({}, {"samples": {"mine": 3}}, r'give mine a list of numbers of clips, \{"mine": \[0, 1\]\}, not 3'),
        ({}, {"samples": {"mine": []}}, r'give mine a list of numbers of clips, \{"mine": \[0, 1\]\}, not \[\]'),
        ({}, {"samples": {"mine": [0, 0]}}, "names a clip of mine twice, so it would count twice; name each once"),
        ({}, {"samples": [0]}, r'give numbers of clips by task, \{"mine": \[0, 1\]\}, not \[0\]'),
        ({}, {"samples": {"mime": [0]}}, "--samples names the task 'mime', which does not run, did you mean 'mine'?"),
    ],
)
def test_a_mistake_is_said_before_the_model_is_loaded(folder, given, run, message):
    task(folder, *given.pop("lines", ()), **given)
    with pytest.raises(AmbiError, match=message):
        evaluate(folder, **{**NO_MODEL, **run})


def test_audio_that_is_missing_is_said_before_the_model_is_loaded(folder):
    task(folder)
    (folder / "a.wav").unlink()
    with pytest.raises(AmbiError, match=r"a\.wav: there is no such audio file"):
        evaluate(folder, **NO_MODEL)


@pytest.mark.parametrize("path", ["taken", "taken/below", "taken/results.json", "/proc/ambi"])
def test_an_output_folder_that_cannot_be_written_to_is_said_before_the_model_is_loaded(folder, path):
    task(folder)
    (folder / "taken").write_text("a file where a folder is needed")
    before = sorted(folder.iterdir())
    with pytest.raises(AmbiError, match=r"no file can be written into .*: give another --output_path"):
        evaluate(folder, **NO_MODEL, evaluation_tracker=EvaluationTracker(output_path=str(folder / path)))
    assert sorted(folder.iterdir()) == before


def test_only_the_clips_that_are_asked_about_must_be_there(folder):
    task(folder)
    clips = [*CLIPS[:2], {**CLIPS[2], "audio": "b.wav"}]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, clips)))
    assert evaluate(folder, model=Answering("calm", "tense"), limit=2)["results"]["mine"]
    assert evaluate(folder, model=Answering("calm", "tense"), samples={"mine": [0, 1]})["results"]["mine"]
    with pytest.raises(AmbiError, match=r"b\.wav"):
        evaluate(folder, model=Answering("calm"))


def test_without_a_mistake_the_model_is_next(folder):
    task(folder)
    with pytest.raises(AmbiError, match="no/such-model"):
        evaluate(folder, **NO_MODEL)


def test_one_task_manager_loads_the_tasks_of_each_run(folder):
    task(folder)
    (folder / "other.yaml").write_text((folder / "mine.yaml").read_text().replace("task: mine", "task: other"))
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    for name in ("mine", "other", "mine"):
        run = evaluate(folder, [name], model=Answering("calm", "tense"), task_manager=manager)
        assert list(run["results"]) == [name]


def test_a_model_that_is_given_as_an_object_says_itself_whether_it_hears(folder):
    task(folder)
    model = type("Plain", (Answering,), {"MULTIMODAL": False})("calm", "tense")
    with pytest.raises(AmbiError, match="hears no audio"):
        evaluate(folder, model=model)
    model.MULTIMODAL = True
    assert evaluate(folder, model=model)["results"]["mine"]


def test_members_of_a_group_and_of_a_tag_are_checked(folder):
    task(folder, "tag: mine_tag", manifest="gone.jsonl")
    (folder / "group.yaml").write_text("group: mine_group\ntask: [mine]\n")
    for name in ("mine_group", "mine_tag"):
        with pytest.raises(AmbiError, match=r"gone\.jsonl"):
            evaluate(folder, [name], **NO_MODEL)


def test_a_run_without_a_task_of_ours_may_use_the_caches_of_the_harness(folder, tmp_path):
    (folder / "theirs.jsonl").write_text('{"question": "Who?", "answer": "calm"}\n')
    (folder / "theirs.yaml").write_text(
        f"task: theirs\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/theirs.jsonl}}}}\n"
        "test_split: test\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{answer}}'\noutput_type: generate_until\n"
        "metric_list: [{metric: exact_match}]\n"
    )
    results = evaluate(folder, ["theirs"], model=Answering("calm"), use_cache=str(tmp_path / "cache"))
    assert results["results"]["theirs"]["exact_match,none"] == 1


def test_a_system_instruction_is_the_same_prompt_with_the_chat_template_and_without(folder, caplog):
    task(folder, strategy="direct")
    prompts = {}
    for flag in (False, True):
        run = {"model": "hf-audio", "model_args": "pretrained=ambi-tiny,store=none,device=cpu", "limit": 1}
        samples = evaluate(folder, **run, system_instruction="Be brief.", apply_chat_template=flag)["samples"]["mine"]
        prompts[flag] = samples[0]["arguments"][0][0]
    assert prompts[True] == prompts[False]
    assert prompts[True].startswith("<system>Be brief.</system>\n<audio>")


@pytest.mark.parametrize(
    ("answers", "gen_kwargs", "warning"),
    [
        (("calm",), {"do_sample": False}, "nothing is sampled .* so all 20 answers about a clip are the same one"),
        (("calm",), {"temperature": 0}, "nothing is sampled"),
        (("calm",), None, "the 20 answers about a clip are the same one, for each of the 4 clips asked about"),
        (
            ("calm", "wütend", ""),
            None,
            r"53 of 80 answers could not be read \(27 no label, 26 empty\) and are left out, such as 'wütend'",
        ),
        (
            ("calm", Candidate("", finish="content_filter")),
            None,
            r"40 of 80 answers could not be read \(40 empty; 40 withheld by the provider\) and are left out$",
        ),
        (("calm", "tense"), None, None),
    ],
)
def test_answers_that_are_equal_or_cannot_be_read_are_said(folder, caplog, answers, gen_kwargs, warning):
    task(folder)
    with caplog.at_level("WARNING", logger="ambi_eval"):
        results = evaluate(folder, model=Answering(*answers), gen_kwargs=gen_kwargs)
    said = results["configs"]["mine"]["warnings"]
    assert len(said) == (warning is not None)
    if warning:
        assert re.search(warning, said[0])
        assert any(said[0] in record.message for record in caplog.records)


class Scoring(Answering):
    def loglikelihood(self, requests, disable_tqdm=False):
        return [(-1.0, False)] * len(requests)


def test_generation_settings_that_no_answer_is_generated_with_are_said(folder, caplog):
    task(folder, strategy="exact")
    with caplog.at_level("WARNING", logger="ambi_eval"):
        results = evaluate(folder, model=Scoring(), gen_kwargs="temperature=0.5")
    sentence = "--gen_kwargs has no effect: the task generates no answers, it reads the labels' likelihoods"
    assert results["configs"]["mine"]["warnings"] == [sentence]
    assert f"mine: {sentence}" in caplog.text


def test_git_says_nothing_outside_of_a_checkout(folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    task(folder)
    assert evaluate(folder, model=Answering("calm", "tense"))["git_hash"] is None
    assert "git" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("option", [("--cache_requests", "true"), ("--use_cache", "cache")])
def test_the_stock_command_refuses_the_caches_of_the_harness(folder, option):
    task(folder)
    words = ["--model", "hf-audio", "--model_args", "pretrained=no/such-model", "--tasks", "mine"]
    done = commands.lm_eval(*words, "--include_path", folder, *option, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(f"ambi_eval: mine: leave out {option[0]}: it ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "name", "sentence"),
    [
        ("hf-audio", "ambi_demo_scc", "--tasks: there is no task 'ambi_demo_scc', did you mean 'ambi_demo_sc'?; "),
        ("hf_audio", "mine", "--model: there is no model 'hf_audio', did you mean 'hf-audio'?"),
        ("dummy", "ambi_nothing*", "--tasks: there is no task 'ambi_nothing*'; "),
    ],
)
def test_a_name_that_nobody_knows_is_one_sentence(folder, model, name, sentence):
    task(folder)
    done = commands.lm_eval("--model", model, "--tasks", name, "--include_path", folder, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(f"ambi_eval: {sentence}")
    assert "Traceback" not in done.stderr
