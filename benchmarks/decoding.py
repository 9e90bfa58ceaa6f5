"""Encode once, prefill once, decode N: against N clones and against `generate(num_return_sequences=N)`, in one run.

    python benchmarks/decoding.py --quick                     three rows, under five minutes on two CPU cores
    python benchmarks/decoding.py --json decoding.json        all rows
    python benchmarks/decoding.py --n 1 --repetitions 5       some of them
    python benchmarks/decoding.py --against before --n 20     only beside answers with a copy of their prompt each
    python benchmarks/decoding.py --profile                   where the time of a decoding step goes
    python benchmarks/decoding.py --batch-sizes 1 2 4 8 16 --clips 16   `--batch_size auto` beside others
    python benchmarks/decoding.py --size 7b --device cuda     Qwen2-Audio-7B's shape in bfloat16

The model has Qwen2-Audio's architecture and random weights, which cost what trained ones do. Every answer is exactly as
long as the row says. All ways hear the same clips and take turns; what counts is the ratio within one row.
The others get the model as transformers loads it, with the features that its own processor makes: Qwen2-Audio's are
padded to 30 s.
"""

from __future__ import annotations

import argparse
import json
import platform
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import psutil
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AttentionInterface,
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.hf import attention
from ambi_eval.engines.hf.batch import Batch, Row
from ambi_eval.engines.hf.decoding import Decoder
from ambi_eval.engines.hf.families import FAMILIES, OneWindow
from ambi_eval.engines.hf.layout import lay_out_for_cpu
from ambi_eval.engines.hf.prompts import Prompt
from ambi_eval.engines.hf.scheduler import Scheduler

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
SIZES: dict[str, dict[str, dict[str, int]]] = {
    "mid": {
        "audio": {"d_model": 256, "encoder_layers": 4, "encoder_attention_heads": 4, "encoder_ffn_dim": 1024},
        "text": {"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 8}
        | {"intermediate_size": 1408, "vocab_size": 32_000},
    },
    "7b": {
        "audio": {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120},
        "text": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32}
        | {"intermediate_size": 11_008, "vocab_size": 156_032},
    },
}
OTHERS = ("before", "clones", "num_return_sequences")
QUESTION = "Listen to the voice in this recording. Answer with exactly one word of: angry, happy, neutral, sad."


def build(size: str, device: torch.device, dtype: torch.dtype, as_loaded: bool = False) -> Any:
    """Return a model family of Qwen2-Audio's architecture with random weights.

    Either as transformers loads it, or as `hf-audio` does.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens(sorted(pre_tokenizers.ByteLevel.alphabet()))
    # Every token that the model may draw has a text of its own.
    tokenizer.add_tokens([f"<{n}>" for n in range(tokenizer.get_vocab_size(), SIZES[size]["text"]["vocab_size"])])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIAL[2], pad_token=SPECIAL[0], padding_side="left"
    )
    config = Qwen2AudioConfig(
        audio_config={**SIZES[size]["audio"], "num_mel_bins": 128, "max_source_positions": 1500},
        text_config={**SIZES[size]["text"], "model_type": "qwen2", "max_position_embeddings": 8192},
        audio_token_index=SPECIAL.index("<|AUDIO|>"),
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2AudioForConditionalGeneration._from_config(config, dtype=dtype)
    model.generation_config.update(eos_token_id=2, pad_token_id=0)
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=30, return_attention_mask=True)
    processor = Qwen2AudioProcessor(feature_extractor=extractor, tokenizer=fast)
    family = (FAMILIES["qwen2_audio"] if as_loaded else OneWindow)(model, processor)
    if as_loaded and device.type == "cpu":
        lay_out_for_cpu(model)
    family.end_ids = []  # no answer ends before its length
    model.generation_config.eos_token_id = None
    return family


def make_inputs(family: Any, seconds: float, n_clips: int) -> list[Any]:
    """Return the model inputs of clips of noise."""
    rng = np.random.default_rng(0)
    inputs = []
    for _ in range(n_clips):
        samples = 0.1 * rng.standard_normal(int(16_000 * seconds), dtype=np.float32)
        message = {"role": "user", "content": [family.audio_part(samples), {"type": "text", "text": QUESTION}]}
        made = family.model_inputs([message])
        floats = family.model.dtype
        inputs.append(
            {k: v.to(family.model.device, floats if v.is_floating_point() else None) for k, v in made.items()}
        )
    return inputs


@dataclass
class Ways:
    """The ways to draw `n` answers of `tokens` tokens about each clip: ours, and those of a model that is not ours."""

    family: Any
    inputs: list[Any]
    theirs: Any
    their_inputs: list[Any]
    tokens: int
    n: int
    batch_size: int | None

    def ours(self, share_prefixes: bool = True) -> Any:
        """Encode and prefill once per clip, decode all answers side by side."""
        family, inputs = (self.family, self.inputs) if share_prefixes else (self.theirs, self.their_inputs)
        scheduler = Scheduler(family, self.batch_size, share_prefixes=share_prefixes)
        settings = GenerationSettings(temperature=1.0, max_gen_toks=self.tokens)
        prompts = (Prompt(each, [1000 * i + k for k in range(self.n)], settings) for i, each in enumerate(inputs))
        answers = [candidate for _, candidates in scheduler.generate(prompts) for candidate in candidates]
        assert [answer.n_tokens for answer in answers] == [self.tokens] * self.n * len(self.inputs)
        return scheduler.counts

    def before(self) -> Any:
        """Do the same with the model as transformers loads it, and a copy of the prompt's KV cache for every answer."""
        return self.ours(share_prefixes=False)

    def clones(self) -> None:
        """Do as the harness does with `repeats: N`: a batch of N copies of the request, each encoded and prefilled."""
        for each in self.their_inputs:
            self._generate({name: value.repeat_interleave(self.n, 0) for name, value in each.items()}, 1)

    def num_return_sequences(self) -> None:
        """Leave it to transformers, which copies the features before the encoder."""
        for each in self.their_inputs:
            self._generate(each, self.n)

    def _generate(self, inputs: Any, n: int) -> None:
        out = self.theirs.model.generate(
            **inputs,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            num_return_sequences=n,
            max_new_tokens=self.tokens,
            min_new_tokens=self.tokens,
        )
        assert out.shape[1] == inputs["input_ids"].shape[1] + self.tokens


class PeakMemory:
    """The most memory in use above the start, in MB: of the GPU where there is one, else of the process."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.process = psutil.Process()

    def __enter__(self) -> PeakMemory:
        self.done = threading.Event()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated()
        else:
            self.start = self.peak = self.process.memory_info().rss
            self.watcher = threading.Thread(target=self._watch)
            self.watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.done.set()
        if self.cuda:
            self.peak = torch.cuda.max_memory_allocated()
        else:
            self.watcher.join()
        self.megabytes = (self.peak - self.start) / 1e6

    def _watch(self) -> None:
        while not self.done.wait(0.01):
            self.peak = max(self.peak, self.process.memory_info().rss)


def timed(way: Callable[[], Any], device: torch.device, clock: Callable[[], float] = perf_counter) -> float:
    """Return the seconds that one way takes."""
    start = clock()
    way()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def measure(ways: Ways, seconds: float, repetitions: int, others: Sequence[str]) -> dict[str, Any]:
    """Return one row: the ways in turn, medians over the repetitions, ratios pair by pair."""
    device = ways.family.model.device
    times: dict[str, list[float]] = {name: [] for name in ("ours", *others)}
    with PeakMemory(device) as memory:
        counts = ways.ours()  # a round whose time does not count
    peak_before = None
    if "before" in others:
        with PeakMemory(device) as memory_before:
            ways.before()
        peak_before = memory_before.megabytes
    for name in others:
        getattr(replace(ways, tokens=1), name)()  # nobody's first call counts
    processor: dict[str, list[float]] = {name: [] for name in times}
    for turn in range(repetitions):
        for name in list(times)[:: -1 if turn % 2 else 1]:
            start = process_time()
            times[name].append(timed(getattr(ways, name), device))
            processor[name].append(process_time() - start)

    def speedup(name: str, of: dict[str, list[float]] = times) -> float:
        return median(other / ours for other, ours in zip(of[name], of["ours"], strict=True))

    ours = median(times["ours"])
    return {
        "audio_seconds": seconds,
        "answer_tokens": ways.tokens,
        "n": ways.n,
        "clips": len(ways.inputs),
        "seconds": ours,
        **{f"seconds_{name}": median(times[name]) for name in others},
        "candidates_per_second": ways.n * len(ways.inputs) / ours,
        **{f"speedup_vs_{name}": speedup(name) for name in others},
        **{f"processor_time_vs_{name}": speedup(name, processor) for name in others},
        "peak_mb_before": peak_before,
        "encodes": counts["encodes"],
        "prefills": counts["prefills"],
        "generated_tokens": counts["generated_tokens"],
        "peak_mb": memory.megabytes,
    }


def compare_batch_sizes(ways: Ways, sizes: Sequence[int], repetitions: int) -> None:
    """Print the time of each batch size and of `auto`, which take turns, and how near `auto` comes to the fastest."""
    named: dict[str, int | None] = {**{str(size): size for size in sizes}, "auto": None}
    device = ways.family.model.device
    wall: dict[str, list[float]] = {name: [] for name in named}
    processor: dict[str, list[float]] = {name: [] for name in named}
    replace(ways, batch_size=1, tokens=2).ours()  # nobody's first call counts
    for turn in range(repetitions):
        for name in list(named)[:: -1 if turn % 2 else 1]:
            start = process_time()
            wall[name].append(timed(replace(ways, batch_size=named[name]).ours, device))
            processor[name].append(process_time() - start)
    best = min(median(seconds) for name, seconds in wall.items() if name != "auto")
    answers = ways.n * len(ways.inputs)
    for name in named:
        seconds = median(wall[name])
        cells = f"{answers / seconds:>11.1f}{seconds:>10.2f}{median(processor[name]):>13.2f}{best / seconds:>13.2f}"
        print(f"{ways.tokens:>13}{name:>12}{cells}", flush=True)


def bandwidth_bound(family: Any, row: dict[str, Any], bytes_per_second: float, prompt_tokens: int) -> float:
    """Return the share of the memory-bandwidth bound at which a row decoded; 1 is as fast as memory can be read.

    The least that a decoding step must read: all weights of the language model once, keys and values of every prompt
    once, and those of every answer.
    """
    layers, head, per_token = language_bytes(family)
    rows, steps = row["n"] * row["clips"], row["answer_tokens"] - 1
    cache = per_token * (row["clips"] * prompt_tokens + rows * steps / 2)
    return steps * (layers + head + cache) / bytes_per_second / row["decode_seconds"]


def language_bytes(family: Any) -> tuple[int, int, int]:
    """Return the bytes of the language model's layers, of its LM head, and of keys and values of one token."""
    text = family.model.config.get_text_config()
    head = family.model.get_output_embeddings().weight.nbytes
    embeddings = family.model.get_input_embeddings().weight.nbytes  # looked up, not read through
    language = sum(p.nbytes for name, p in family.model.named_parameters() if "audio_tower" not in name)
    size = text.hidden_size // text.num_attention_heads
    per_token = 2 * text.num_hidden_layers * text.num_key_value_heads * size * family.model.dtype.itemsize
    return language - head - embeddings, head, per_token


class Stopwatch:
    """Adds up the time of what it wraps: on a CPU that of the processor, which other programs disturb less."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.clock = perf_counter if device.type == "cuda" else process_time
        self.seconds: Counter[str] = Counter()

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and adds its time to that of a name."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            found = None

            def call() -> None:
                nonlocal found
                found = function(*args, **kwargs)

            self.seconds[name] += timed(call, self.device, self.clock)
            return found

        return watched


class CountOperators(TorchDispatchMode):
    """Counts the operators that compute something; views do not. On a GPU each of them is at least one kernel."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one operator and run it."""
        self.count += not any(each.alias_info and not each.alias_info.is_write for each in func._schema.returns)
        return func(*args, **(kwargs or {}))


def profile(family: Any, inputs: list[Any], tokens: int, n: int, share_prefixes: bool) -> list[dict[str, Any]]:
    """Return where the time of a decoding step goes: parts, with the time that they take at the least.

    The least is what memory bandwidth or floating-point operations allow, whichever takes longer.
    """
    device, model = family.model.device, family.model
    watch, decoder = Stopwatch(device), Decoder(family, share_prefixes)
    settings = GenerationSettings(temperature=1.0, max_gen_toks=tokens)
    prompts = [Prompt(each, [1000 * i + k for k in range(n)], settings) for i, each in enumerate(inputs)]
    batch, steps, rows = Batch(model), tokens - 2, n * len(inputs)
    with torch.inference_mode():
        prefilled = decoder.prefill(prompts)
        decoder.expand(
            batch,
            [
                (each, [Row(key, settings) for key in prompt.keys])
                for each, prompt in zip(prefilled, prompts, strict=True)
            ],
        )
        decoder.decode_one_token(batch)
        base = model.config.get_text_config()._attn_implementation
        name = attention.NAME if share_prefixes else base
        registered, choose, forward, head = (
            ALL_ATTENTION_FUNCTIONS[name],
            decoder._choose,
            model.forward,
            model.get_output_embeddings(),
        )
        head_forward = head.forward
        try:
            AttentionInterface.register(name, watch.wrap("attention", registered))
            decoder._choose = watch.wrap("sampling", choose)  # type: ignore[method-assign]
            model.forward, head.forward = watch.wrap("forward", forward), watch.wrap("LM head", head_forward)
            step = watch.wrap("step", decoder.decode_one_token)
            for _ in range(steps):
                step(batch)
        finally:
            AttentionInterface.register(name, registered)
            model.forward, head.forward = forward, head_forward
            decoder._choose = choose  # type: ignore[method-assign]
    bandwidth, peak = memory_bandwidth(device, watch.clock), arithmetic_peak(device, model.dtype, watch.clock)
    layers, head_bytes, per_token = language_bytes(family)
    text, item = model.config.get_text_config(), model.dtype.itemsize
    seen = prefilled[0].length + steps / 2
    cache = per_token * (sum(each.length for each in prefilled) + rows * steps / 2)
    spent = watch.seconds
    parts = {
        "attention": (
            spent["attention"],
            cache,
            2 * rows * per_token / item * seen * text.num_attention_heads / text.num_key_value_heads,
        ),
        "other layers": (spent["forward"] - spent["attention"] - spent["LM head"], layers, 2 * rows * layers / item),
        "LM head": (spent["LM head"], head_bytes, 2 * rows * head_bytes / item),
        "sampling": (spent["sampling"], 4 * rows * text.vocab_size, 0),
        "Python": (spent["step"] - spent["forward"] - spent["sampling"], 0, 0),
    }
    found = []
    for part, (seconds, read, operations) in parts.items():
        least = max(read / bandwidth, operations / peak)
        found.append(
            {"part": part, "ms": 1e3 * seconds / steps, "share": seconds / spent["step"], "least_ms": 1e3 * least}
        )
    with torch.inference_mode():  # a step of its own: counting takes time
        counted = Batch(model)
        decoder.expand(
            counted,
            [
                (each, [Row(key, settings) for key in prompt.keys])
                for each, prompt in zip(prefilled, prompts, strict=True)
            ],
        )
        decoder.decode_one_token(counted)
        with CountOperators() as operators:
            decoder.decode_one_token(counted)
    found.append({"part": "whole step", "ms": 1e3 * spent["step"] / steps, "share": 1.0, "operators": operators.count})
    return found


def print_profile(found: list[dict[str, Any]]) -> None:
    """Print the parts of a step."""
    print(f"{'part':<14}{'ms':>10}{'share':>8}{'at least ms':>13}{'of the bound':>14}")
    for row in found[:-1]:
        of_bound = f"{row['least_ms'] / row['ms']:>14.2f}" if row["least_ms"] else ""
        print(f"{row['part']:<14}{row['ms']:>10.3f}{row['share']:>8.2f}{row['least_ms']:>13.3f}{of_bound}")
    print(f"{'whole step':<14}{found[-1]['ms']:>10.3f}    {found[-1]['operators']} operators")


def slopes(rows: list[dict[str, Any]], along: str) -> list[dict[str, Any]]:
    """Return what one more answer (`along="n"`) or clip (`"clips"`) costs: a line through rows that else are alike."""
    names = [name for name in ("audio_seconds", "answer_tokens", "n", "clips") if name != along]
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        alike.setdefault(tuple(row[name] for name in names), []).append(row)
    found = []
    for key, group in alike.items():
        steps = [row[along] for row in group]
        if len(set(steps)) > 2:
            line = {"further": along, **dict(zip(names, key, strict=True))}
            for way in ("seconds", *(f"seconds_{name}" for name in OTHERS if f"seconds_{name}" in group[0])):
                line[way] = np.polyfit(steps, [row[way] for row in group], 1)[0]
            found.append(line)
    return found


def memory_bandwidth(device: torch.device, clock: Callable[[], float] = perf_counter) -> float:
    """Return the bytes per second at which this device reads memory, measured by summing a large tensor."""
    block = torch.ones(2**28 if device.type == "cuda" else 2**25, device=device)
    block.sum()
    return max(block.nbytes / timed(block.sum, device, clock) for _ in range(5))


def arithmetic_peak(device: torch.device, dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """Return the floating-point operations per second of this device, measured by multiplying large matrices."""
    size = 8192 if device.type == "cuda" else 1024
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    matrix @ matrix
    return max(2 * size**3 / timed(lambda: matrix @ matrix, device, clock) for _ in range(5))


def main() -> None:
    """Measure, print a table, and write the rows as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="N=20 and 10 s of audio only; 2 clips, 1 repetition")
    parser.add_argument("--size", choices=SIZES, default="mid")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", help="bfloat16 on a GPU, float32 else")
    parser.add_argument("--seconds", type=float, nargs="+", default=[3.0, 10.0, 30.0], help="of audio")
    parser.add_argument("--tokens", type=int, nargs="+", default=[8, 64, 256], help="of each answer")
    parser.add_argument("--n", type=int, nargs="+", default=[1, 5, 20], help="answers to each clip")
    parser.add_argument("--clips", type=int, help="4 by default")
    parser.add_argument("--batch-size", type=int, help="clips decoded together; by default what fits in memory")
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="compare these and `auto`, nothing else")
    parser.add_argument("--repetitions", type=int, help="3 by default")
    parser.add_argument("--against", nargs="+", choices=OTHERS, default=["clones", "num_return_sequences"])
    parser.add_argument("--profile", action="store_true", help="where a step's time goes, with and without copies")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    clips = arguments.clips or (2 if arguments.quick else 4)
    repetitions = arguments.repetitions or (1 if arguments.quick else 3)
    device = torch.device(arguments.device)
    dtype = getattr(torch, arguments.dtype or ("bfloat16" if device.type == "cuda" else "float32"))
    family, theirs = build(arguments.size, device, dtype, as_loaded=True), build(arguments.size, device, dtype)

    if arguments.batch_sizes:
        print("answer_tokens  batch_size  answers/s   seconds  CPU seconds  of the best")
        inputs = make_inputs(family, 10.0, clips)
        for tokens in arguments.tokens:
            ways = Ways(family, inputs, theirs, [], tokens, max(arguments.n), None)
            compare_batch_sizes(ways, arguments.batch_sizes, repetitions)
        return
    if arguments.profile:
        for share_prefixes in (False, True) if "before" in arguments.against else (True,):
            measured = family if share_prefixes else theirs
            print("one copy of each prompt" if share_prefixes else "a copy of its prompt for every answer")
            print_profile(
                profile(
                    measured,
                    make_inputs(measured, 10.0, clips),
                    arguments.tokens[-1] if len(arguments.tokens) == 1 else 64,
                    max(arguments.n),
                    share_prefixes,
                )
            )
        return
    if arguments.quick:
        grid = [(10.0, tokens, 20, clips) for tokens in (8, 64, 256)]
    else:
        grid = [(*row, clips) for row in product(arguments.seconds, arguments.tokens, arguments.n)]
        grid += [(10.0, 8, 20, more * clips) for more in (2, 4) if (10.0, 8, 20, clips) in grid]
    columns = ["audio_seconds", "answer_tokens", "n", "clips", "seconds", "candidates_per_second"]
    columns += [f"speedup_vs_{name}" for name in arguments.against]
    columns += [f"processor_time_vs_{name}" for name in arguments.against]
    columns += ["peak_mb_before"] if "before" in arguments.against else []
    columns += ["encodes", "prefills", "peak_mb"]
    columns += ["share_of_bandwidth_bound"]
    print("  ".join(columns))
    bandwidth = memory_bandwidth(device)
    rows = []
    for seconds, tokens, n, n_clips in grid:
        inputs = make_inputs(family, seconds, n_clips)
        both = (family, inputs, theirs, make_inputs(theirs, seconds, n_clips))
        ways = Ways(*both, tokens, n, arguments.batch_size)
        row = measure(ways, seconds, repetitions, arguments.against)
        one_token = measure(Ways(*both, 1, n, arguments.batch_size), seconds, 1, [])
        row["decode_seconds"] = row["seconds"] - one_token["seconds"]
        row["share_of_bandwidth_bound"] = bandwidth_bound(family, row, bandwidth, inputs[0]["input_ids"].shape[1])
        rows.append(row)
        cells = (f"{row[name]:>{len(name)}.{3 if isinstance(row[name], float) else 0}f}" for name in columns)
        print("  ".join(cells), flush=True)
    growth = [*slopes(rows, "n"), *slopes(rows, "clips")]
    for line in growth:
        further = line["further"]
        print(f"further {further}: ", *(f"{name} {line[name]:.3g}" for name in line if name != "further"), sep="  ")
    print(f"memory read at {bandwidth / 1e9:.1f} GB/s")
    if arguments.json:
        machine = {"device": str(device), "dtype": str(dtype), "torch": torch.__version__, "cpu": platform.processor()}
        found = {"machine": machine, "size": arguments.size, "rows": rows, "slopes": growth}
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
