"""Funnels with known answers: a deaf encoder, a head that ignores what the encoder hears, and a model that hears."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ambi_eval.analysis.estimate import as_json
from ambi_eval.analysis.information import probes
from ambi_eval.analysis.information.folds import Folds
from ambi_eval.cli import app
from ambi_eval.engines.hf.families import FAMILIES
from ambi_eval.errors import AmbiError
from ambi_eval.funnel import measure
from ambi_eval.funnel.content import read_funnel
from ambi_eval.funnel.measure import funnel_of, half_panel, record
from ambi_eval.funnel.recorder import StateRecorder
from ambi_eval.funnel.sentence import sentences
from ambi_eval.harness.evaluation import predictions, strategy_task
from ambi_eval.models.hf_audio import HFAudio

pytestmark = pytest.mark.slow  # it trains probes

HEARS = 0.3  # bits


@pytest.fixture(autouse=True, scope="module")
def _few_strengths():
    """Two penalties are nearly as good as six on so few clips, in a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "STRENGTHS", (1e5, 100.0))
        yield


@pytest.fixture(scope="module")
def tasks():
    return [strategy_task("demo", strategy, {}) for strategy in ("exact", "direct")]


def silence(_, __, output):
    """Give zeros in place of a layer's output."""
    states = output[0] if isinstance(output, tuple) else output
    return (torch.zeros_like(states), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(states)


@pytest.fixture(scope="module")
def build(tasks, tmp_path_factory):
    """Measure ambi-tiny, whole or with a part of it silenced; `cot`, which takes long, answers as `direct`."""

    def funnel(part=None, states=None):
        lm = HFAudio("ambi-tiny", device="cpu", seed=0, store="none", batch_size=72)
        family = lm.engine.family
        parts = {"encoder": family.model.get_submodule(family.encoder_layers)[-1], "head": family.model.lm_head}
        handle = parts[part].register_forward_hook(silence) if part else None
        folder = tmp_path_factory.mktemp("funnel")
        kept, keys = states or record(lm.engine, lm.cache, tasks[0], folder / "states")
        exact, direct = predictions(lm, tasks)
        if handle:
            handle.remove()
        p = {"exact": exact, "direct": direct, "cot": direct}
        return funnel_of(lm.name, lm.engine.digest, tasks[0], kept, keys, p), (lm, folder, kept, keys)

    return funnel


@pytest.fixture(scope="module")
def hearing(build):
    return build()


def test_where_all_stages_hear_each_of_them_holds_bits_and_no_loss_is_claimed(hearing):
    funnel, _ = hearing
    assert [stage.key for stage in funnel.stages] == ["encoder", "projected", "layers", "exact", "direct", "cot"]
    assert all(stage.gain.low > HEARS for stage in funnel.stages)
    assert "No loss on the way can be shown" in sentences(funnel)[-1]
    random, _ = funnel.controls
    assert abs(random.gain.value) < 0.1 * funnel.stage("layers").gain.value
    half, prosody = funnel.references[:2]
    assert half.gain.low > HEARS
    assert prosody.gain.low > 0.1


def test_a_deaf_encoder_holds_nothing_and_no_later_step_is_blamed(build):
    """How long a clip is shows in the number of its tokens, so later places may tell a little more than nothing."""
    funnel, _ = build("encoder")
    assert funnel.stage("encoder").gain.value == pytest.approx(0, abs=1e-3)
    assert "Most is lost" not in sentences(funnel)[-1]


def test_what_a_head_ignores_is_lost_after_the_language_model(build, hearing):
    whole, (_, _, *states) = hearing
    funnel, _ = build("head", states)  # what is before the head is the same
    assert funnel.stages[:3] == whole.stages[:3]
    assert funnel.stage("exact").gain.value == pytest.approx(0, abs=0.05)
    assert "Most is lost in deciding between the labels" in sentences(funnel)[-1]


def test_steps_are_the_differences_of_the_stages_on_the_same_clips(hearing):
    funnel, _ = hearing
    chain = [stage.gain.value for stage in funnel.stages if stage.key != "cot"]
    assert [step.lost.value for step in funnel.steps] == pytest.approx(-np.diff(chain))
    assert funnel.total.value == pytest.approx(chain[0] - chain[-1])
    assert funnel.reasons.value == 0


def test_states_that_are_there_are_not_recorded_again(hearing, tasks, monkeypatch):
    _, (lm, folder, kept, keys) = hearing
    monkeypatch.setattr(lm.engine, "loglikelihoods", lambda jobs: pytest.fail("the model was asked"))
    again, same = record(lm.engine, lm.cache, tasks[0], folder / "states")
    assert same == keys
    assert np.array_equal(again.read("encoder", keys), kept.read("encoder", keys))


def test_the_likelihoods_of_the_recorded_pass_are_found_by_the_run_of_exact(tasks, tmp_path):
    lm = HFAudio("ambi-tiny", device="cpu", seed=0, store=str(tmp_path / "store.sqlite"))
    record(lm.engine, lm.cache, tasks[0], tmp_path / "states")
    before = dict(lm.engine.counts())
    predictions(lm, tasks[:1])
    assert lm.engine.counts() == before


def test_half_a_panel_tells_bits_about_the_other_half(tasks):
    selection = tasks[0].selection
    gain, clips = half_panel(selection, Folds(selection.votes, selection.clusters))
    assert clips == len(selection.clips)
    assert HEARS < gain.low < gain.value < 1.5


def test_the_command_prints_80_columns_and_writes_a_page_and_a_file_that_is_read_back(hearing, monkeypatch, tmp_path):
    funnel, _ = hearing
    monkeypatch.setattr(measure, "measure", lambda *_: funnel)
    arguments = ["funnel", "--model_args", "pretrained=ambi-tiny", "--corpus", "demo", "-o", str(tmp_path)]
    shown = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert "audio encoder" in shown
    assert max(len(line.rstrip()) for line in shown.splitlines() if str(tmp_path) not in line) <= 80
    assert as_json(read_funnel(tmp_path / "funnel.json")) == as_json(funnel)
    page = (tmp_path / "funnel.html").read_text()
    assert sentences(funnel)[-1].split(".")[0] in page
    assert page.count('<svg role="img"') == 4  # two plots, wide and narrow
    assert "default-src &#39;none&#39;" in page
    plain = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout
    assert json.loads(plain)["stages"][0]["key"] == "encoder"


@pytest.mark.parametrize(
    ("content", "why"),
    [("{", "holds no funnel"), ('{"version": 7}', "version 7 of a funnel"), ('{"version": 1}', "Field required")],
)
def test_a_file_that_is_no_funnel_is_refused(tmp_path, content, why):
    (tmp_path / "funnel.json").write_text(content)
    with pytest.raises(AmbiError, match=why):
        read_funnel(tmp_path / "funnel.json")


def test_a_family_without_its_encoder_where_it_says_is_told(hearing, monkeypatch):
    _, (lm, *_) = hearing
    monkeypatch.setattr(FAMILIES["qwen2_audio"], "encoder_layers", "model.ear.layers")
    with pytest.raises(AmbiError, match=r"qwen2_audio has no layers at model.ear.layers; .*families.py"):
        StateRecorder(lm.engine.family)


def test_states_of_another_prompt_than_the_callers_are_not_handed_out(hearing):
    _, (lm, *_) = hearing
    with StateRecorder(lm.engine.family) as recorder, pytest.raises(RuntimeError, match=r"states of \[\] and 0 tokens"):
        recorder.take(5)


def test_more_processes_than_one_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(AmbiError, match="one process"):
        measure.measure("pretrained=ambi-tiny", "demo", Path(), {})
