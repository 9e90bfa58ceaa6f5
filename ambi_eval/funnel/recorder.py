"""Records states of a model while it reads a prompt, by forward hooks that do not change the computation.

The places, in the order of the computation:

- `encoder`: the output of the audio encoder's last layer, for the frames that hold audio;
- `projected`: the embeddings that the language model reads in place of the audio;
- `layer N`: the output of layer N of the language model, from the first audio token to the end of the prompt.

Mean and standard deviation over these frames or tokens are kept; for layers also the state of the last token, from
which the answer is generated.
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

# Of a model with more than MOST_LAYERS layers, every fourth layer and the last one are recorded.
MOST_LAYERS, EVERY = 8, 4
ENCODER, PROJECTED = "encoder", "projected"

States = dict[str, NDArray[np.float32]]


class StateRecorder:
    """Records the states of a transformers model; use it as a context manager."""

    def __init__(self, family: Family) -> None:
        """Find the places of a model; an `AmbiError` if the model's layers are not where its family says."""
        self.family = family
        layers = family.model.get_decoder().layers
        self.layers = {number: layers[number - 1] for number in recorded_layers(len(layers))}
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
        self._audio: Tensor | None = None  # mask of the audio tokens of the prompt that is being read
        self._masks: list[Tensor] = []
        self._tokens = self._start = 0
        self._pooled: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> StateRecorder:
        """Register the hooks."""
        self._handles = [
            self.family.model.register_forward_pre_hook(self._before_model, with_kwargs=True),
            self.first_layer.register_forward_pre_hook(self._before_layers, with_kwargs=True),
            self.family.model.register_forward_hook(self._after_model),
        ]
        if self.encoder is not None:
            self._handles.append(self.encoder.register_forward_hook(self._after_encoder))
        for number, layer in self.layers.items():
            name = f"layer {number}"
            self._handles.append(
                layer.register_forward_hook(lambda *call, name=name: self._after_layer(name, call[-1]))
            )
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def take(self, tokens: int | None) -> States:
        """Return the states of the last prompt by place, float32, shape (numbers,), and forget them.

        `tokens` is the expected number of tokens of the prompt, as a check.

        Raises:
            RuntimeError: If the prompt has another number of tokens, or if no prompt with audio was read.
        """
        if set(self._pooled) != set(self.places) or tokens not in (None, self._tokens):
            raise RuntimeError(
                f"states of {sorted(self._pooled)} and {self._tokens} tokens were recorded, not those of "
                f"{self.places} and {tokens} tokens"
            )
        widths = [len(self._pooled[place]) for place in self.places]
        # One transfer from the device for all places.
        everything = torch.cat([self._pooled[place].to(self._pooled[PROJECTED].device) for place in self.places]).cpu()
        self._pooled = {}
        return {
            place: part.numpy() for place, part in zip(self.places, everything.split(widths), strict=True)
        }  # views of one array

    def _before_model(self, _: Any, __: Any, inputs: Mapping[str, Any]) -> None:
        """Start recording if the forward pass reads a prompt with audio; passes over answers do not."""
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

    def _after_encoder(self, _: Any, __: Any, output: Any) -> None:
        if self._audio is None:
            return
        frames = _tensor(output)
        if frames.dim() == 3:
            frames = frames[_valid(self._masks, frames)]
        self._pooled[ENCODER] = pooled(frames)

    def _before_layers(self, _: Any, args: tuple[Any, ...], inputs: Mapping[str, Any]) -> None:
        if self._audio is not None:
            embedded = _of_prompt(args[0] if args else inputs["hidden_states"])
            self._pooled[PROJECTED] = pooled(embedded[self._audio.to(embedded.device)])

    def _after_layer(self, name: str, output: Any) -> None:
        if self._audio is not None:
            hidden = _of_prompt(_tensor(output))
            self._pooled[name] = torch.cat([pooled(hidden[self._start :]), hidden[-1].float()])

    def _after_model(self, *_: Any) -> None:
        self._audio = None


def recorded_layers(depth: int) -> list[int]:
    """Return the numbers of the layers to record, from 1: all up to `MOST_LAYERS`, else every fourth and the last.

    >>> recorded_layers(3), recorded_layers(14)
    ([1, 2, 3], [4, 8, 12, 14])
    """
    wanted = [number for number in range(1, depth + 1) if depth <= MOST_LAYERS or number % EVERY == 0]
    return wanted if wanted[-1] == depth else [*wanted, depth]


def _tensor(output: Any) -> Tensor:
    """Return the states in the output of a layer."""
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


def _of_prompt(hidden: Tensor) -> Tensor:
    """Return the states of one prompt, shape (tokens, numbers); the first of Gemma 3n's four streams."""
    return hidden[0, 0] if hidden.dim() == 4 else hidden[0]


def pooled(states: Tensor) -> Tensor:
    """Return mean and standard deviation over the first axis, float32, shape (2 numbers,)."""
    states = states.float()
    return torch.cat([states.mean(dim=0), states.std(dim=0, correction=0)])


def _valid(masks: list[Tensor], frames: Tensor) -> Tensor:
    """Return the mask of the encoder's frames that hold audio, shape (windows, frames).

    The processor masks the padding of the input features. The encoder has fewer frames than there are features, so each
    frame takes the mask at its middle. Without such a mask for these windows, all frames count as audio.
    """
    windows, count = frames.shape[:2]
    mask = next((each for each in masks if len(each) == windows and each.shape[1] >= count), None)
    if mask is None:
        return torch.ones(windows, count, dtype=torch.bool, device=frames.device)
    middles = ((torch.arange(count, device=mask.device) + 0.5) * mask.shape[1] / count).long()
    return mask[:, middles].bool().to(frames.device)
