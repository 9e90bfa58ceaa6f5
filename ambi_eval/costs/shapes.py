"""Counts the forward FLOPs of a transformers model, by a forward pass of tensors that have shapes but no values."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

from ambi_eval.costs.flops import ForwardFlops
from ambi_eval.errors import AmbiError
from ambi_eval.paths import cache_dir, writing

# Lengths of audio, in seconds, at which an encoder is counted.
SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
# Two lengths of text give the cost of a token and of the attention between two.
TOKENS = (8, 16)


class Shape(Tensor):
    """A tensor of floats that has a shape but no values; so has every result computed from it.

    It reports the CPU as its device, so that the model makes integers and masks there, with values. A forward pass may
    depend on these values (lengths, positions of audio), but not on values of floats.

    Attributes:
        meta: The tensor on torch's meta device.
    """

    meta: Tensor
    counted = 0  # FLOPs of all operations so far, by torch's formulas
    # Result and FLOPs of each operation on each kind of arguments: the layers of a model repeat the same operations.
    known: ClassVar[dict[Hashable, tuple[Any, int]]] = {}

    @staticmethod
    def __new__(cls, meta: Tensor) -> Shape:
        """Wrap a tensor on the meta device."""
        shape: Shape = Tensor._make_wrapper_subclass(cls, meta.shape, strides=meta.stride(), dtype=meta.dtype)
        shape.meta = meta
        return shape

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Let torch find the shape of an operation's result, and count the operation."""
        if func.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_):
            # The shape of a masked selection depends on the values of the mask.
            args = args[0], [part for index in args[1] for part in _numbers(index)], *args[2:]
        kwargs = kwargs or {}
        key = func, _kind(args), _kind([*kwargs.items()])
        if key not in cls.known or func._schema.is_mutable:
            given, options = tree_map_only(
                Tensor, lambda each: each.meta if isinstance(each, Shape) else each.to("meta"), (args, kwargs)
            )
            if "device" in options:
                options["device"] = torch.device("meta")
            found = func(*given, **options)
            formula = flop_registry.get(func.overloadpacket)
            cls.known[key] = found, formula(*given, **options, out_val=found) if formula else 0
        found, flops = cls.known[key]
        Shape.counted += flops
        return tree_map_only(Tensor, lambda meta: Shape(meta.detach()), found)


def _kind(argument: Any) -> Hashable:
    """Return all of an operation's argument on which shape, type and FLOPs of its result depend."""
    if isinstance(argument, Tensor):
        return argument.shape, argument.stride(), argument.dtype
    return tuple(map(_kind, argument)) if isinstance(argument, list | tuple) else (type(argument), argument)


def _numbers(index: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return the indices that a mask selects, one tensor for each of its axes; any other index as it is."""
    is_mask = index is not None and index.dtype == torch.bool and not isinstance(index, Shape)
    return index.nonzero(as_tuple=True) if index is not None and is_mask else (index,)


def without_weights(model: Any) -> Any:
    """Return a model of the same class and configuration whose weights are shapes."""
    with torch.device("meta"):
        shapes = (
            type(model)
            ._from_config(
                copy.deepcopy(model.config),
                dtype=torch.float32,
                attn_implementation="eager",  # torch cannot count all fused kernels
                experts_implementation="batched_mm",  # the others depend on the choice of experts
            )
            .eval()
        )
    for module in shapes.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(Shape(weight.detach()), requires_grad=False)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = (
                    Shape(value) if value.is_floating_point() else torch.zeros_like(value, device="cpu")
                )
    return shapes


def forward_flops(
    shapes: Any, inputs_of: Callable[[float], Mapping[str, Tensor]], longest: float | None
) -> ForwardFlops:
    """Return the cost of a model's forward passes; a mixture-of-experts layer counts the experts that a token uses.

    `shapes` is the model, as `without_weights` returns it. `inputs_of` is a function from the length of an audio in
    seconds to the inputs of a prompt with that audio. `longest` is the longest audio that the model hears; None if
    there is no limit.

    Raises:
        Exception: Of any kind, if the model's forward pass depends on values of floats.
    """
    rows, width = shapes.get_output_embeddings().weight.shape
    head = 2.0 * rows * width
    end = min(longest or SECONDS[-1], SECONDS[-1])
    lengths = [*(seconds for seconds in SECONDS if seconds < end), end]
    prompts = [inputs_of(seconds) for seconds in lengths]
    word = prompts[0]["input_ids"][:, -1:]  # the last token of a prompt is text
    short, long = ((_count(shapes, {"input_ids": word.expand(1, length)}) - head) / length for length in TOKENS)
    attention = (long - short) / (TOKENS[1] - TOKENS[0])
    language = {"token": short - TOKENS[0] * attention, "attention": attention, "head": head}
    of_text = ForwardFlops((), (), longest, **language)
    audio = [_count(shapes, prompt) - of_text.prefill(prompt["input_ids"].shape[1]) for prompt in prompts]
    return ForwardFlops(lengths, audio, longest, **language)


def cached(count: Callable[[], ForwardFlops], *key: Any) -> ForwardFlops:
    """Return the cost from the cache of this machine, by key, or count it and store it there."""
    file = cache_dir() / "flops" / f"{hashlib.sha256(repr(key).encode()).hexdigest()}.json"
    with suppress(OSError, ValueError, TypeError):
        return ForwardFlops(**json.loads(file.read_text()))
    found = count()
    with suppress(AmbiError), writing(file, "the next run counts again") as unfinished:
        unfinished.write_text(json.dumps(asdict(found)))
    return found


def _count(shapes: Any, inputs: Mapping[str, Tensor]) -> float:
    """Return the FLOPs of a forward pass with the logits of the last token."""
    given = {
        name: Shape(value.float().to("meta")) if value.is_floating_point() else value for name, value in inputs.items()
    }
    head = shapes.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, hidden: (hidden[0][:, -1:],))
    before = Shape.counted
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            shapes(**given)
    finally:
        handle.remove()
    return float(Shape.counted - before)
