"""A folder of pooled states: written clip by clip, found again by a later analysis, read one place at a time."""

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

States = NDArray[np.float32]

# A shard is written when it holds so much; what a killed run has not yet written is recorded again.
SHARD_BYTES = 64 << 20
# Of a place no more than this is read at once. Where all of its numbers are more, some of them are drawn: the same ones
# for all clips, whatever the states are, so that nothing is fitted.
PLACE_BYTES = 384 << 20
HEADER = "ambi_eval"
SEED = 0


class StateFolder:
    """Pooled states of clips in safetensors shards, each with the model that they are states of.

    Attributes:
        folder: Where the shards lie.
        model: What states depend on besides clip and prompt (`Engine.identity`).
        places: The names of the places, in order; empty before the first clip is there.
    """

    def __init__(self, folder: Path, model: Mapping[str, Any]) -> None:
        """Look at what is there.

        Args:
            folder: The folder; it need not exist.
            model: Plain JSON.

        Raises:
            AmbiError: If a shard is broken, or holds states of another model.
        """
        self.folder, self.model = folder, json.loads(json.dumps(dict(model)))
        self.places: list[str] = []
        self._rows: dict[str, tuple[Path, int]] = {}  # of each key its shard and place in it
        self._waiting: dict[str, Mapping[str, States]] = {}
        self._bytes = 0
        self._shards = sorted(folder.glob("*.safetensors"))
        for shard in self._shards:
            self._look_at(shard)

    def __contains__(self, key: str) -> bool:
        """Whether the states of a clip are there."""
        return key in self._rows or key in self._waiting

    def add(self, key: str, states: Mapping[str, States]) -> None:
        """Keep the states of one clip.

        Args:
            key: What tells the clip, and what was asked about it, from others.
            states: Of each place, shape (numbers,); the same places in the same order for every clip.

        Raises:
            AmbiError: If a shard cannot be written.
        """
        self.places = list(states)
        self._waiting[key] = states
        self._bytes += sum(each.nbytes for each in states.values())
        if self._bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what has not been written yet.

        Raises:
            AmbiError: If it cannot be written.
        """
        if not self._waiting:
            return
        keys, rows = list(self._waiting), list(self._waiting.values())
        shard = self.folder / f"{len(self._shards):05}.safetensors"
        header = json.dumps({"model": self.model, "places": self.places, "keys": keys})
        unfinished = shard.with_suffix(".unfinished")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(
                {place: np.stack([row[place] for row in rows]) for place in self.places}, unfinished, {HEADER: header}
            )
            unfinished.replace(shard)
        except OSError as error:
            raise AmbiError(f"cannot write {shard} ({error.strerror or error}): name another --output") from error
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

        At most `PLACE_BYTES`: of wider places numbers are drawn, the same in every run.
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
