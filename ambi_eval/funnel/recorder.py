"""States of a model while it reads a prompt, pooled over the audio at once: hooks that change nothing.

The places, in the order in which sound passes them:

- `encoder`: the output of the audio encoder's last layer, over the frames that hold audio;
- `projected`: what the language model reads in place of the audio, over these tokens;
- `layer N`: the output of layer N of the language model, over the audio and all that follows in the prompt, and at the
  last token, from which the answer goes on.

Pooled are mean and standard deviation; of layers also the last token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ambi_eval.engines.hf.families import Family
from ambi_eval.errors import AmbiError

# Models with more layers than this are listened to at every fourth, and at the last.
MOST_LAYERS, EVERY = 8, 4
ENCODER, PROJECTED = "encoder", "projected"

States = dict[str, NDArray[np.float32]]


class StateRecorder:
    """Listens to a model of transformers; use it as a context manager.

    Attributes:
        places: The names of the places, in order.
    """

    def __init__(self, family: Family) -> None:
        """Find the places of a model.

        Raises:
            AmbiError: If the model's layers are not where its family says.
        """
        self.family = family
        layers = family.model.get_decoder().layers
        self.layers = {number: layers[number - 1] for number in listened_layers(len(layers))}
        self.first_layer = layers[0]
        self.encoder = None
        if family.encoder_layers is not None:
            try:
                self.encoder = family.model.get_submodule(family.encoder_layers)[-1]
            except AttributeError as error:
                raise AmbiError(
                    f"{family.model.config.model_type} has no layers at {family.encoder_layers}; name the path of its "
                    f"audio encoder's layers in the model's class in ambi_eval/engines/hf/families.py (encoder_layers)"
                ) from error
        heard = [] if self.encoder is None else [ENCODER]
        self.places = [*heard, PROJECTED, *(f"layer {number}" for number in self.layers)]
        self._audio: Tensor | None = None  # which tokens of the prompt stand for audio, while one is read
        self._masks: list[Tensor] = []
        self._tokens = self._start = 0
        self._pooled: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> StateRecorder:
        """Start to listen."""
        self._handles = [
            self.family.model.register_forward_pre_hook(self._begins, with_kwargs=True),
            self.first_layer.register_forward_pre_hook(self._reads, with_kwargs=True),
            self.family.model.register_forward_hook(self._ends),
        ]
        if self.encoder is not None:
            self._handles.append(self.encoder.register_forward_hook(self._encodes))
        for number, layer in self.layers.items():
            name = f"layer {number}"
            self._handles.append(layer.register_forward_hook(lambda *call, name=name: self._leaves(name, call[-1])))
        return self

    def __exit__(self, *error: object) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()

    def take(self, tokens: int | None) -> States:
        """Return the states of the prompt that was read last, by place, float32, and forget them.

        Args:
            tokens: Number of tokens of the prompt that the caller thinks it was.

        Raises:
            RuntimeError: If it was another prompt, or if none was read with its audio.
        """
        if set(self._pooled) != set(self.places) or tokens not in (None, self._tokens):
            raise RuntimeError(
                f"states of {sorted(self._pooled)} and {self._tokens} tokens were recorded, not those of "
                f"{self.places} and {tokens} tokens"
            )
        widths = [len(self._pooled[place]) for place in self.places]
        # One wait for the device for all places.
        everything = torch.cat([self._pooled[place].to(self._pooled[PROJECTED].device) for place in self.places]).cpu()
        self._pooled = {}
        return {
            place: part.numpy() for place, part in zip(self.places, everything.split(widths), strict=True)
        }  # views of one array

    def _begins(self, _: Any, __: Any, inputs: Mapping[str, Any]) -> None:
        """Look whether a forward pass reads a prompt with audio; passes over answers and later prompts do not."""
        ids = inputs.get("input_ids")
        self._audio = None
        if ids is None or not (audio := ids == self.family.audio_token_id).any():
            return
        if len(ids) > 1:
            raise RuntimeError(f"{len(ids)} prompts with audio were read together; states are recorded one by one")
        self._audio, self._tokens, self._pooled = audio[0], ids.shape[1], {}
        self._start = int(audio[0].int().argmax())
        self._masks = [
            value
            for name, value in inputs.items()
            if "mask" in name and name != "attention_mask" and isinstance(value, Tensor) and value.dim() == 2
        ]

    def _encodes(self, _: Any, __: Any, output: Any) -> None:
        if self._audio is None:
            return
        frames = _tensor(output)
        if frames.dim() == 3:
            frames = frames[_valid(self._masks, frames)]
        self._pooled[ENCODER] = pooled(frames)

    def _reads(self, _: Any, args: tuple[Any, ...], inputs: Mapping[str, Any]) -> None:
        if self._audio is not None:
            embedded = _of_prompt(args[0] if args else inputs["hidden_states"])
            self._pooled[PROJECTED] = pooled(embedded[self._audio.to(embedded.device)])

    def _leaves(self, name: str, output: Any) -> None:
        if self._audio is not None:
            hidden = _of_prompt(_tensor(output))
            self._pooled[name] = torch.cat([pooled(hidden[self._start :]), hidden[-1].float()])

    def _ends(self, *_: Any) -> None:
        self._audio = None


def listened_layers(depth: int) -> list[int]:
    """Return the numbers of the layers to listen to, from 1 on: all of a few, every fourth of many, always the last.

    >>> listened_layers(3), listened_layers(14)
    ([1, 2, 3], [4, 8, 12, 14])
    """
    wanted = [number for number in range(1, depth + 1) if depth <= MOST_LAYERS or number % EVERY == 0]
    return wanted if wanted[-1] == depth else [*wanted, depth]


def _tensor(output: Any) -> Tensor:
    """Return the states among what a layer gives."""
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


def _of_prompt(hidden: Tensor) -> Tensor:
    """Return the states of one prompt, shape (tokens, numbers); of Gemma 3n's four streams the first."""
    return hidden[0, 0] if hidden.dim() == 4 else hidden[0]


def pooled(states: Tensor) -> Tensor:
    """Return mean and standard deviation over the first axis, float32, shape (2 numbers,)."""
    states = states.float()
    return torch.cat([states.mean(dim=0), states.std(dim=0, correction=0)])


def _valid(masks: list[Tensor], frames: Tensor) -> Tensor:
    """Return which frames of an encoder hold audio, shape (windows, frames).

    The encoder has fewer frames than the features that it is given, for which the processor says which are padding.
    Without such a mask for these windows, all frames do.
    """
    windows, count = frames.shape[:2]
    mask = next((each for each in masks if len(each) == windows and each.shape[1] >= count), None)
    if mask is None:
        return torch.ones(windows, count, dtype=torch.bool, device=frames.device)
    middles = ((torch.arange(count, device=mask.device) + 0.5) * mask.shape[1] / count).long()
    return mask[:, middles].bool().to(frames.device)
