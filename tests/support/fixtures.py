"""The fixtures that all tests share: directories of their own, the real CREMA-D release, commands and a browser."""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import shutil
import ssl
import sys
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from _pytest.doctest import DoctestModule
from hypothesis import HealthCheck, settings
from lm_eval.api.instance import Instance

from ambi_eval.analysis import estimate, evaluate
from ambi_eval.analysis.references import baselines
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.manifest import read_manifest
from ambi_eval.corpora.recipes import crema_d as crema_d_recipe
from ambi_eval.corpora.select import select
from ambi_eval.demo import corpus
from support import commands
from support.browser import Browser
from support.chat_server import ChatTestServer
from support.commands import Done
from support.processes import no_packages

# How long an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

OWN_LABELS = ["angry", "happy", "sad"]
# Packages that some model families need, without their compiled parts: the published builds of torchvision and
# torchaudio want the libraries of a GPU and do not import beside a CPU build of torch. Audio needs their Python alone,
# which `make test` puts into a folder of its own. It is added before anything asks transformers what is installed.
FAMILY_PACKAGES = Path(sys.prefix) / "families"
# torchvision names two operators of its compiled part when it is imported; nothing here calls them.
TORCHVISION = torch.library.Library("torchvision", "FRAGMENT")
if FAMILY_PACKAGES.is_dir():
    sys.path.append(str(FAMILY_PACKAGES))
    for operator in ("nms", "qnms"):
        TORCHVISION.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

# These import transformers.
from transformers import PreTrainedConfig  # noqa: E402

from ambi_eval.engines import base  # noqa: E402
from ambi_eval.leaderboard import board  # noqa: E402
from ambi_eval.models import of_engines  # noqa: E402
from support.checkpoints import build_qwen2_audio, sharpen  # noqa: E402


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Iterator[None]:
    """Look for examples only in the modules that have some: to look is a third of the time of their collection."""
    collectors = yield
    return [each for each in collectors if not isinstance(each, DoctestModule) or ">>> " in file_path.read_text()]


def pytest_collection_finish() -> None:
    """Search for garbage from here on, and not in what is there by now: it stays until the end.

    The loggers of torch pass on what they get: else pytest adds a handler to each of them, six times a test.
    """
    gc.freeze()
    gc.enable()
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("torch") and isinstance(logger, logging.Logger):
            logger.propagate = True


@pytest.fixture
def real_labels() -> Callable[[str], Path]:
    """Give the folder of a corpus' real label files (no audio), or skip the test where they are not."""

    def folder(name: str) -> Path:
        path = Path(os.environ.get("AMBI_TEST_DATA", "")) / name
        if not os.environ.get("AMBI_TEST_DATA") or not path.is_dir():
            pytest.skip(f"AMBI_TEST_DATA does not point at a folder that holds {name}/")
        return path

    return folder


@pytest.fixture(autouse=True, scope="session")
def _no_list_of_packages():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.utils.collect_env.get_pip_packages", no_packages)
        yield


@pytest.fixture(scope="session")
def no_pip(tmp_path_factory) -> str:
    """A folder that makes the same list empty for processes that start from nothing, as their PYTHONPATH."""
    folder = tmp_path_factory.mktemp("no_pip")
    (folder / "pip.py").touch()
    return str(folder)


@pytest.fixture(autouse=True, scope="session")
def _no_certificates():
    """Each client would read those of the system, for the servers of the tests, which have none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _what_is_installed_is_looked_up_once():
    """Each model that is loaded asks for entry points and versions: a fifth of the time of loading a tiny one."""
    entry_points, found = metadata.entry_points, {}

    def found_before(**group):
        key = *sys.path, *group.items()  # a test adds a folder with a package
        if key not in found:
            found[key] = entry_points(**group)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, "version", cache(metadata.version))
        for module in (base, of_engines):
            patch.setattr(module, "entry_points", found_before)
        yield


@pytest.fixture(autouse=True, scope="session")
def _configurations_are_not_written_out():
    """transformers does it several times for each model, for a log and for errors that nobody reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreTrainedConfig, "__repr__", object.__repr__)
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_index_of_the_harness():
    """All runs in this process share what the cache file says of the 14,000 tasks of the harness itself."""
    import lm_eval.tasks  # before ours, which the plug-in imports in the middle of it

    from ambi_eval.harness import task_index

    read, known, of_harness = task_index._read, {}, Path(lm_eval.tasks.__file__).parent

    def remembered(folder):
        if folder != of_harness:  # a test of the index
            return read(folder)
        file = task_index.cache_file(folder)
        if file not in known and (index := read(folder)) is not None:
            known[file] = index
        return dict(known[file]) if file in known else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_index, "_read", remembered)
        yield


@pytest.fixture(autouse=True, scope="session")
def _equal_plots_are_drawn_once():
    """Most pages of the tests show the same runs, and to draw their plots is the longest part of writing them."""
    import vl_convert

    draw, drawn = vl_convert.vegalite_to_svg, {}

    def drawn_before(spec, **options):
        key = json.dumps([spec, options])
        if key not in drawn:
            drawn[key] = draw(spec, **options)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vl_convert, "vegalite_to_svg", drawn_before)
        yield


@pytest.fixture(autouse=True, scope="session")
def _equal_predictions_are_scored_once():
    """Most reports of the tests show the same runs beside the same references: scores are half of their time."""
    scored = {}

    class ScoredOnce(evaluate.Scorer):
        def score(self, trials, p):
            of_clips = [*self.metrics], self.clusters, self.groups, self.one_rater
            key = sha256(pickle.dumps((of_clips, trials, p, evaluate.DRAWS, estimate.RESAMPLES))).digest()
            if key not in scored:
                scored[key] = super().score(trials, p)
            return [dict(of_group) for of_group in scored[key]]

    with pytest.MonkeyPatch.context() as patch:
        for module in (baselines, board, evaluate):  # not in the tests of the scores
            patch.setattr(module, "Scorer", ScoredOnce)
        yield


@pytest.fixture(autouse=True, scope="session")
def _the_demo_is_spoken_once():
    """Each folder with the demo corpus would synthesize the same voices again, for half a second."""
    utterances, spoken = corpus.utterances, {}

    def spoken_before(speakers, clips_per_speaker):
        key = *speakers, clips_per_speaker
        if key not in spoken:
            spoken[key] = list(utterances(speakers, clips_per_speaker))
        return iter(spoken[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "utterances", spoken_before)
        yield


@pytest.fixture(scope="session")
def lm_eval_run() -> Callable[..., Done]:
    """Run the stock `lm_eval` in this process."""
    return commands.lm_eval


@pytest.fixture(autouse=True, scope="session")
def data_dir(tmp_path_factory):
    """Nothing that a test prepares lands in the user's own data directory."""
    folder = tmp_path_factory.mktemp("data")
    before = os.environ.get("AMBI_DATA")
    os.environ["AMBI_DATA"] = str(folder)
    yield folder
    os.environ.pop("AMBI_DATA")
    if before is not None:
        os.environ["AMBI_DATA"] = before


@pytest.fixture(scope="session")
def crema_d():
    """The folder of the real CREMA-D release."""
    folder = Path(os.environ.get("AMBI_TEST_DATA", "")) / "crema_d"
    if not os.environ.get("AMBI_TEST_DATA") or not folder.is_dir():
        pytest.skip("AMBI_TEST_DATA does not point at a folder that holds crema_d/")
    return folder


@pytest.fixture(scope="module")
def browser():
    driver = shutil.which("chromedriver")
    if driver is None or not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("there is no Chromium with chromedriver here (Debian: apt-get install chromium chromium-driver)")
    browser = Browser(driver)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def qwen2_audio_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Qwen2-Audio of 0.2 M parameters."""
    folder = tmp_path_factory.mktemp("qwen2_audio")
    for part in build_qwen2_audio():
        (sharpen(part) if isinstance(part, torch.nn.Module) else part).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float, int], str]:
    """Write a voice-like wav of so many seconds, one for each seed, and give its path."""
    folder = tmp_path_factory.mktemp("voices")

    def path(seconds: float, seed: int = 0) -> str:
        file = folder / f"{seconds}_{seed}.wav"
        if not file.exists():
            rng = np.random.default_rng(seed)
            time = np.arange(round(seconds * 16000)) / 16000
            tone = 0.3 * np.sin(2 * np.pi * (150 + 60 * seed) * time * (1 + 0.1 * np.sin(5 * time)))
            soundfile.write(file, tone + 0.05 * rng.standard_normal(len(time)), 16000)
        return str(file)

    return path


@pytest.fixture(scope="session")
def ask() -> Callable[..., Instance]:
    """Build a request as the harness does."""

    def request(
        context: str,
        *paths: str,
        repeats: int = 1,
        continuation: str | None = None,
        end_of_turn: bool = False,
        **kwargs,
    ) -> Instance:
        audio = [{"path": path, "start": None, "end": None, "control": None} for path in paths]
        if continuation is not None:
            arguments = (context, continuation, {"audio": audio, "end_of_turn": end_of_turn})
            return Instance("loglikelihood", {}, arguments, 0, metadata=("task", 0, repeats))
        return Instance("generate_until", {}, (context, kwargs, {"audio": audio}), 0, metadata=("task", 0, repeats))

    return request


@pytest.fixture
def chat_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatTestServer]:
    """Start a chat server on this machine, with no key in the environment; its clients repeat requests at once."""
    monkeypatch.setattr("ambi_eval.engines.openai.transport.FIRST_WAIT", 0.01)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    server = ChatTestServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def own_corpus(tmp_path_factory) -> Path:
    """The YAML of a corpus of eight speakers, five clips each, with votes of four or five raters and no audio."""
    folder = tmp_path_factory.mktemp("mine")
    rng = np.random.default_rng(1)
    clips = []
    for speaker in "abcdefgh":
        for sentence in "12345":
            counts = rng.multinomial(rng.integers(4, 6), rng.dirichlet([1, 1, 1])).tolist()
            clips.append(
                {
                    "id": f"{speaker}_{sentence}",
                    "votes": dict(zip(OWN_LABELS, counts, strict=True)),
                    "speaker": speaker,
                    "sentence": sentence,
                    "acted": OWN_LABELS[rng.integers(3)],
                }
            )
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, clips)))
    yaml = folder / "mine.yaml"
    yaml.write_text(f"task: mine\nmanifest: mine.jsonl\nlabels: [{', '.join(OWN_LABELS)}]\n")
    return yaml


@pytest.fixture(scope="session")
def crema_d_data(crema_d, tmp_path_factory) -> Path:
    """A data directory with the manifests of the voice and the face votes."""
    folder = tmp_path_factory.mktemp("crema_d_data")
    crema_d_recipe.prepare(crema_d, folder / "crema_d", allow_missing_audio=True)
    crema_d_recipe.prepare(crema_d, folder / "crema_d_face", modality="face", allow_missing_audio=True)
    return folder


@pytest.fixture(scope="session")
def crema_d_config():
    return load_corpus("crema_d")


@pytest.fixture(scope="session")
def crema_d_selection(crema_d_data, crema_d_config):
    return select(crema_d_config, read_manifest(crema_d_data / "crema_d" / "manifest.parquet"), hear=False)
