import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import save_file

from ambi_eval.errors import AmbiError
from ambi_eval.funnel import states as module
from ambi_eval.funnel.states import StateFolder

MODEL = {"digest": "a" * 64, "dtype": "float32"}


def clip(number):
    rng = np.random.default_rng(number)
    return {place: rng.normal(size=width).astype(np.float32) for place, width in (("encoder", 3), ("layer 1", 5))}


@pytest.fixture
def filled(tmp_path):
    folder = StateFolder(tmp_path / "states", MODEL)
    for number in range(7):
        folder.add(f"clip {number}", clip(number))
        if number == 3:
            folder.flush()
    folder.flush()
    return folder


def test_a_second_analysis_finds_the_states_of_the_first(filled):
    again = StateFolder(filled.folder, MODEL)
    assert again.places == ["encoder", "layer 1"]
    keys = ["clip 5", "clip 0", "clip 3"]
    assert all(key in again for key in keys)
    assert "clip 7" not in again
    assert np.array_equal(again.read("layer 1", keys), np.stack([clip(n)["layer 1"] for n in (5, 0, 3)]))


def test_a_killed_run_loses_what_was_not_written_and_nothing_else(filled):
    filled.add("clip 8", clip(8))
    (filled.folder / ".00002.safetensors.17").write_bytes(b"half a shard")
    again = StateFolder(filled.folder, MODEL)
    assert "clip 6" in again
    assert "clip 8" not in again
    again.add("clip 8", clip(8))
    assert np.array_equal(again.read("encoder", ["clip 8"])[0], clip(8)["encoder"])


@pytest.mark.parametrize("other", [{**MODEL, "digest": "b" * 64}, {**MODEL, "dtype": "bfloat16"}])
def test_states_of_another_model_are_refused(filled, other):
    with pytest.raises(AmbiError, match=r"states of another model \(digest aaaaaaaaaaaa.*name another --output"):
        StateFolder(filled.folder, other)


def test_a_broken_shard_is_named(filled):
    (filled.folder / "00000.safetensors").write_bytes(b"\x10" * 40)
    with pytest.raises(AmbiError, match=r"00000.safetensors holds no states .*: remove it"):
        StateFolder(filled.folder, MODEL)
    save_file({"a": np.zeros(2)}, filled.folder / "00000.safetensors")
    with pytest.raises(AmbiError, match=r"00000.safetensors holds no states"):
        StateFolder(filled.folder, MODEL)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "states").write_text("a file")
    folder = StateFolder(tmp_path / "states", MODEL)
    folder.add("clip", clip(0))
    with pytest.raises(AmbiError, match=r"cannot write .*name another --output"):
        folder.flush()


def test_of_a_wide_place_the_same_numbers_are_drawn_for_all_clips(filled, monkeypatch):
    monkeypatch.setattr(module, "PLACE_BYTES", 4 * 7 * 2)
    keys = [f"clip {number}" for number in range(7)]
    some = filled.read("layer 1", keys)
    whole = np.stack([clip(number)["layer 1"] for number in range(7)])
    assert some.shape == (7, 2)
    assert all(any(np.array_equal(column, each) for each in whole.T) for column in some.T)
    assert np.array_equal(some, filled.read("layer 1", keys))


@pytest.mark.slow
def test_fifty_thousand_clips_are_never_in_memory_together(tmp_path, monkeypatch):
    """Of 1.2 GB of states, two places of a model with 1,024 numbers a token, a shard or a place is held at once.

    Here all sizes are a fifth of that.
    """
    assert module.PLACE_BYTES + 5 * module.SHARD_BYTES < 0.8e9
    for name in ("PLACE_BYTES", "SHARD_BYTES"):
        monkeypatch.setattr(module, name, getattr(module, name) // 5)
    width, clips = 3072 // 5, 50_000
    noise = np.random.default_rng(0).normal(size=12_000).astype(np.float32)
    tracemalloc.start()
    folder = StateFolder(tmp_path, MODEL)
    for number in range(clips):
        states = noise[number % 8_000 :][:width]
        folder.add(str(number), {"layer 1": states.copy(), "layer 28": states.copy()})
    found = folder.read("layer 28", [str(number) for number in range(clips)])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(found[5], found[8005])
    assert folder.width("layer 28") == width
    assert found.shape[1] < width
    assert most < module.PLACE_BYTES + 5 * module.SHARD_BYTES
