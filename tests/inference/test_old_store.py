"""A store that was written at commit fd0c634 (`old_store/make.py` is the recipe) is still found, whole."""

import json
import runpy
import shutil
from pathlib import Path

import pytest

from ambi_eval.engines.base import Capabilities, Engine
from ambi_eval.models.audio_lm import AudioLM
from ambi_eval.models.hf_audio import HFAudio

HERE = Path(__file__).parent / "old_store"
EXPECTED = json.loads((HERE / "expected.json").read_text())
requests = runpy.run_path(str(HERE / "make.py"))["requests"]


class Stored(Engine):
    """Has the identity of the model of then, and no answers but those that are stored."""

    name, identity = "stored", EXPECTED["identity"]
    capabilities = Capabilities(beams=True, likelihoods=True)

    def generate(self, jobs):
        raise AssertionError(f"{[job.prompt for job in jobs]} are not found")

    loglikelihoods = generate


@pytest.fixture
def lm(tmp_path, monkeypatch):
    monkeypatch.setattr("ambi_eval.models.audio_lm.find_engine", lambda name: Stored)
    monkeypatch.setattr(AudioLM, "engine_name", "stored", raising=False)
    return AudioLM(seed=7, store=shutil.copy(HERE / "store.sqlite", tmp_path))


@pytest.fixture
def audio(tmp_path):
    return {"path": str(shutil.copy(HERE / "clip.flac", tmp_path)), "start": 0.05, "end": 0.25}


def test_answers_and_ratings_are_found_by_their_old_keys(lm, audio):
    generated, _ = requests(audio)
    answers = lm.generate_until(generated)
    assert [[str(each), each.logprob, each.n_tokens, each.finish, each.rating] for each in answers] == (
        EXPECTED["answers"]
    )
    assert {each.rating for each in answers[-3:]} != {None}


def test_likelihoods_are_found_by_their_old_keys(lm, audio):
    _, scored = requests(audio)
    assert [list(each) for each in lm.loglikelihood(scored)] == EXPECTED["likelihoods"]


def test_a_model_is_identified_as_it_was_then():
    identity = HFAudio("ambi-tiny", device="cpu", store="none").engine.identity
    assert identity.keys() == EXPECTED["identity"].keys()
    assert identity == EXPECTED["identity"], "if ambi-tiny was trained anew, make the store anew at that commit"
