"""An engine of another package: one class and one entry point, and every strategy that it can do runs with it."""

import hashlib

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager
from pydantic import Field

from ambi_eval.answers.candidate import Candidate
from ambi_eval.config.model_arguments import ARGUMENTS, ModelArguments
from ambi_eval.demo.corpus import prepare
from ambi_eval.doctor.checks import examine
from ambi_eval.engines.base import ENGINES, Capabilities, Engine, arguments_of, find_engine
from ambi_eval.errors import AmbiError
from ambi_eval.harness.plugin import AFTER_IMPORT
from ambi_eval.models import of_engines
from ambi_eval.models.audio_lm import open_engine
from ambi_eval.paths import data_dir, tasks_dir

LABELS = ["angry", "happy", "neutral", "sad"]


class ToyArguments(ModelArguments):
    mood: str = Field("sad", description="What a greedy answer is.")


class ToyEngine(Engine):
    """Answers by a hash of what it hears."""

    Arguments = ToyArguments
    capabilities = Capabilities()

    @property
    def name(self):
        return "toy"

    @property
    def identity(self):
        return {"mood": self.arguments.mood}

    def generate(self, jobs):
        for job in jobs:
            yield job, {number: Candidate(self.answer(job, number), finish="stop") for number in job.numbers}

    def answer(self, job, number):
        if not job.settings.sampled:
            return self.arguments.mood
        drawn = hashlib.sha256(f"{job.seed}{job.prompt}{job.heard}{number}".encode()).digest()[0]
        return LABELS[drawn % len(LABELS)]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Install a package that names the engine in an entry point."""
    package = tmp_path / "toy_package-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-package\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(f"[{ENGINES}]\ntoy-audio = {__name__}:ToyEngine\n")
    monkeypatch.syspath_prepend(tmp_path)
    AFTER_IMPORT["lm_eval.models"](None)


@pytest.mark.slow
def test_the_harness_runs_a_strategy_with_an_engine_that_another_package_brings(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("AMBI_DATA", str(tmp_path / "data"))
    prepare(data_dir() / "demo")
    manager = TaskManager(include_path=str(tasks_dir()), include_defaults=False)
    arguments = {"tasks": ["ambi_demo_sc"], "limit": 3, "bootstrap_iters": 0, "task_manager": manager}
    found = simple_evaluate("toy-audio", "mood=happy,seed=5", log_samples=True, **arguments)
    pools = [sample["resps"][0] for sample in found["samples"]["ambi_demo_sc"]]
    assert found["results"]["ambi_demo_sc"]["invalid_rate,dist"] == 0
    assert all(set(pool) <= set(LABELS) for pool in pools)
    again = simple_evaluate("toy-audio", "mood=happy,seed=5", **arguments)
    assert again["config"]["ambi"]["store_hits"] == 3 * 20
    assert again["results"]["ambi_demo_sc"] == found["results"]["ambi_demo_sc"]


def test_its_arguments_are_checked_as_ours_are(toy):
    lm = get_model("toy-audio").create_from_arg_string("mood=happy,store=none", {"batch_size": 1, "device": "cpu"})
    assert lm.engine.arguments.mood == "happy"
    with pytest.raises(AmbiError, match="toy-audio: unknown key 'mod', did you mean 'mood'"):
        get_model("toy-audio").create_from_arg_string("mod=happy,store=none")


def test_what_it_cannot_do_is_refused_before_anything_is_asked(toy, ask, voice):
    lm = get_model("toy-audio")(store="none")
    with pytest.raises(AmbiError, match="task: toy has no beam search; use a strategy that samples"):
        lm.generate_until([ask("<audio>Which?", voice(0.3), repeats=2, num_beams=2)] * 2)
    with pytest.raises(AmbiError, match="task: toy gives no likelihoods of given answers; use sc"):
        lm.loglikelihood([ask("<audio>Which?", voice(0.3), continuation="happy")])


def test_several_processes_are_refused(toy, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(AmbiError, match="runs in one process; leave out torchrun"):
        get_model("toy-audio")(store="none")


def test_doctor_examines_it(toy):
    outcomes = {outcome.name: outcome for outcome in examine("toy-audio", "mood=happy")}
    assert outcomes["hears"].status == "failed", "its greedy answers are always the same"
    assert outcomes["draws different samples"].status == "passed"
    assert outcomes["searches beams"].status == "refused"


def test_arguments_that_only_the_harness_reads_are_said(toy, caplog):
    open_engine("toy-audio", "mood=happy,store=none,seed=3")
    assert caplog.messages == ["--model_args seed, store: only lm_eval reads this, here it has no effect"]


def test_an_unknown_engine_is_said(toy):
    with pytest.raises(AmbiError, match=r"no engine 'toy-adio', did you mean 'toy-audio'\?; give .*openai-audio"):
        find_engine("toy-adio")


def test_a_name_that_is_no_engine_is_no_model():
    with pytest.raises(AttributeError, match="there is no engine 'pytest_plugins'"):
        of_engines.pytest_plugins  # noqa: B018 - pytest asks each module for it


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_arguments_that_are_known_without_an_engine_are_those_of_the_engine(name):
    assert arguments_of(name) is find_engine(name).Arguments


def test_the_arguments_of_an_engine_of_another_package_are_found(toy):
    assert arguments_of("toy-audio") is find_engine("toy-audio").Arguments
    assert arguments_of("hf") is None
