"""A folder of pooled states, to which clips are added and from which one place at a time is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ambi_eval.errors import AmbiError
from ambi_eval.paths import writing

States = NDArray[np.float32]

# A shard is written when it holds this much. States that a killed run has not written are recorded again.
SHARD_BYTES = 64 << 20
# The most that is read at once. If the states of a place are larger, a random part of its numbers is read: the same
# part for all clips, chosen independently of the states.
PLACE_BYTES = 384 << 20
HEADER = "ambi_eval"
SEED = 0


class StateFolder:
    """Pooled states of clips in safetensors shards; each shard names the model.

    `model` is the identity of the model (`Engine.identity`), on which states depend besides clip and prompt. `places`
    are in order, and empty before the first clip is added.
    """

    def __init__(self, folder: Path, model: Mapping[str, Any]) -> None:
        """Read the headers of the shards in a folder, which need not exist.

        Raises:
            AmbiError: If a shard is broken, or holds states of another model.
        """
        self.folder, self.model = folder, json.loads(json.dumps(dict(model)))
        self.places: list[str] = []
        self._rows: dict[str, tuple[Path, int]] = {}  # by key, the shard and the row in it
        self._waiting: dict[str, Mapping[str, States]] = {}
        self._bytes = 0
        self._shards = sorted(folder.glob("*.safetensors"))
        for shard in self._shards:
            self._look_at(shard)

    def __contains__(self, key: str) -> bool:
        """Whether the states of a clip are there."""
        return key in self._rows or key in self._waiting

    def add(self, key: str, states: Mapping[str, States]) -> None:
        """Add the states of one clip by place, shape (numbers,); the places and their order are those of every clip.

        Raises:
            AmbiError: If a shard cannot be written.
        """
        self.places = list(states)
        self._waiting[key] = states
        self._bytes += sum(each.nbytes for each in states.values())
        if self._bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the clips that are not written yet; an `AmbiError` if it cannot be written."""
        if not self._waiting:
            return
        keys, rows = list(self._waiting), list(self._waiting.values())
        shard = self.folder / f"{len(self._shards):05}.safetensors"
        header = json.dumps({"model": self.model, "places": self.places, "keys": keys})
        columns = {place: np.stack([row[place] for row in rows]) for place in self.places}
        with writing(shard, "name another --output") as unfinished:
            save_file(columns, unfinished, {HEADER: header})
        self._shards.append(shard)
        self._rows |= {key: (shard, row) for row, key in enumerate(keys)}
        self._waiting, self._bytes = {}, 0

    def width(self, place: str) -> int:
        """Return how many numbers a place has."""
        self.flush()
        with safe_open(self._shards[0], "numpy") as file:
            return int(file.get_slice(place).get_shape()[1])

    def read(self, place: str, keys: Sequence[str]) -> States:
        """Return the states of some clips at one place, shape (clips, numbers).

        If that is more than `PLACE_BYTES`, it is a random part of the numbers, the same in every run.
        """
        self.flush()
        width = self.width(place)
        most = max(1, PLACE_BYTES // (4 * len(keys)))
        numbers = np.arange(width)
        if width > most:
            numbers = np.sort(np.random.default_rng(SEED).choice(width, most, replace=False))
        found = np.empty((len(keys), len(numbers)), dtype=np.float32)
        by_shard: dict[Path, list[tuple[int, int]]] = {}
        for number, key in enumerate(keys):
            shard, row = self._rows[key]
            by_shard.setdefault(shard, []).append((number, row))
        for shard, rows in by_shard.items():
            to, at = (np.array(each) for each in zip(*rows, strict=True))
            with safe_open(shard, "numpy") as file:
                found[to] = file.get_tensor(place)[np.ix_(at, numbers)]
        return found

    def _look_at(self, shard: Path) -> None:
        try:
            with safe_open(shard, "numpy") as file:
                header = json.loads(file.metadata()[HEADER])
                model, places, keys = header["model"], header["places"], header["keys"]
                whole = all(file.get_slice(place).get_shape()[0] == len(keys) for place in places)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise AmbiError(f"{shard} holds no states ({error}): remove it, or name another --output") from error
        if not whole:
            raise AmbiError(f"{shard} lacks states of some clips: remove it, or name another --output")
        if model != self.model:
            raise AmbiError(
                f"{self.folder} holds states of another model ({_said(model)}) than this one ({_said(self.model)}): "
                "name another --output"
            )
        self.places = places
        self._rows |= {key: (shard, row) for row, key in enumerate(keys)}


def _said(model: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {str(value)[:12]}" for name, value in model.items())
