"""Funnels with known answers: a deaf encoder, a head that ignores what the encoder hears, and a model that hears."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ambi_eval.analysis.estimate import as_json
from ambi_eval.analysis.information import probes
from ambi_eval.analysis.information.folds import Folds
from ambi_eval.cli import app
from ambi_eval.corpora.manifest import write_manifest
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
def _small_probes():
    """Two penalties and eight directions are nearly as good on so few clips, in a fraction of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "STRENGTHS", (1e5, 100.0))
        patch.setattr(probes, "MOST_DIRECTIONS", 8)
        yield


@pytest.fixture(scope="module")
def tasks_of(tmp_path_factory):
    """Give `exact` and `direct` on the first clips of each of the demo's speakers, each up to so many seconds."""
    whole = strategy_task("demo", "exact", {}).selection.clips

    def part(clips_per_speaker, seconds=None):
        clips = [replace(clip, end=seconds) for clip in whole if int(clip.id[-3:]) <= clips_per_speaker]
        folder = tmp_path_factory.mktemp("part")
        write_manifest(folder / "part.parquet", clips)
        yaml = folder / "part.yaml"
        yaml.write_text("task: part\nmanifest: part.parquet\nlabels: [angry, happy, neutral, sad]\n")
        return [strategy_task(str(yaml), strategy, {}) for strategy in ("exact", "direct")]

    return part


@pytest.fixture(scope="module")
def tasks(tasks_of):
    return tasks_of(4)


@pytest.fixture(scope="module")
def equally_long(tasks_of):
    """Every demo clip is longer than a second."""
    return tasks_of(2, seconds=1.0)


def deafen(_, __, output):
    """Give zeros in place of what the encoder's last layer gives."""
    states = output[0] if isinstance(output, tuple) else output
    return (torch.zeros_like(states), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(states)


@pytest.fixture(scope="module")
def build(tasks, tmp_path_factory):
    """Measure ambi-tiny, whole or with a deaf part; `cot`, which takes long, answers as `direct`."""

    def funnel(part=None, states=None, tasks=tasks):
        lm = HFAudio("ambi-tiny", device="cpu", seed=0, store="none")
        family = lm.engine.family
        end = torch.nn.functional.one_hot(torch.tensor(family.end_ids[0]), family.model.config.text_config.vocab_size)
        hooks = {  # what a head gives that ignores what it is given: the answer ends at once
            "head": (family.model.lm_head, lambda _, __, logits: torch.zeros_like(logits) + end),
            "encoder": (family.model.get_submodule(family.encoder_layers)[-1], deafen),
        }
        handle = hooks[part][0].register_forward_hook(hooks[part][1]) if part else None
        folder = tmp_path_factory.mktemp("funnel")
        kept, keys = states or record(lm.engine, lm.cache, tasks[0], folder / "states")
        exact, direct = predictions(lm, tasks)
        if handle:
            handle.remove()
        p = {"exact": exact, "direct": direct, "cot": direct}
        with pytest.MonkeyPatch.context() as patch:
            if part:  # what is beside the stages is the same
                patch.setattr(measure, "_references", lambda *_: [])
                patch.setattr(measure, "_controls", lambda *_: [])
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


def test_with_a_deaf_encoder_no_stage_holds_a_bit(build, equally_long):
    funnel, _ = build("encoder", tasks=equally_long)
    gains = [stage.gain for stage in funnel.stages]
    assert [gain.value for gain in gains[:3]] == pytest.approx([0, 0, 0], abs=1e-6)
    # Where all predictions are alike, scaling moves them to the prior of other speakers, but for its penalty.
    assert [gain.value for gain in gains[3:]] == pytest.approx([0, 0, 0], abs=0.01)
    assert all(gain.low < 1e-6 for gain in gains)
    assert "At no place can a bit be shown" in sentences(funnel)[-1]


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


def test_the_likelihoods_of_the_recorded_pass_are_found_by_the_run_of_exact(equally_long, tmp_path):
    lm = HFAudio("ambi-tiny", device="cpu", seed=0, store=str(tmp_path / "store.sqlite"))
    record(lm.engine, lm.cache, equally_long[0], tmp_path / "states")
    before = dict(lm.engine.counts())
    predictions(lm, equally_long[:1])
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
