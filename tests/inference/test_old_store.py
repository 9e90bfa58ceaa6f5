"""A store that was written at commit fd0c634 (`old_store/make.py` is the recipe) is still found, whole."""

import json
import runpy
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ambi_eval.answers.candidate import Candidate
from ambi_eval.engines.base import Capabilities, Engine
from ambi_eval.inference.store import CandidateStore, merge
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
    assert {each.thinking_tokens for each in answers} == {0}, "this model does not think"


def test_what_a_model_thought_before_old_answers_is_unknown_and_not_nothing(tmp_path):
    old, new = shutil.copy(HERE / "store.sqlite", tmp_path), tmp_path / "new.sqlite"
    with closing(sqlite3.connect(old)) as opened:
        pools = {pool for (pool,) in opened.execute("SELECT pool FROM candidates WHERE set_size IS NULL")}
    with CandidateStore(new) as store:
        store.add_samples({"pool": {0: Candidate("sad", thinking_tokens=7)}}, {})
    assert merge([old], into=new) > 0
    with CandidateStore(new) as store:
        assert store.samples({"pool": [0]})["pool"][0].thinking_tokens == 7
        found = store.samples(dict.fromkeys(pools, range(99)))
    assert {answer.thinking_tokens for of_pool in found.values() for answer in of_pool.values()} == {None}


def test_an_engine_that_may_think_leaves_the_thinking_before_old_answers_unknown(lm, audio, monkeypatch):
    monkeypatch.setattr(Stored, "may_think", True)
    assert {each.thinking_tokens for each in lm.generate_until(requests(audio)[0])} == {None}


def test_likelihoods_are_found_by_their_old_keys(lm, audio):
    _, scored = requests(audio)
    assert [list(each) for each in lm.loglikelihood(scored)] == EXPECTED["likelihoods"]


def test_a_model_is_identified_as_it_was_then():
    identity = HFAudio("ambi-tiny", device="cpu", store="none").engine.identity
    assert identity.keys() == EXPECTED["identity"].keys()
    assert identity == EXPECTED["identity"], "if ambi-tiny was trained anew, make the store anew at that commit"
