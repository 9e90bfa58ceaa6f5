"""Encode once, prefill once, decode N: against N clones and against `generate(num_return_sequences=N)`, in one run.

    python benchmarks/decoding.py --quick                     three rows, under five minutes on two CPU cores
    python benchmarks/decoding.py --json decoding.json        all rows
    python benchmarks/decoding.py --n 1 --repetitions 5       some of them
    python benchmarks/decoding.py --size 7b --device cuda     Qwen2-Audio-7B's shape in bfloat16

The model has Qwen2-Audio's architecture and random weights, which cost what trained ones do. Every answer is exactly as
long as the row says. All three ways get the same features and take turns; what counts is the ratio within one row.
"""

from __future__ import annotations

import argparse
import json
import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import psutil
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.hf.families import FAMILIES
from ambi_eval.engines.hf.prefill import Prompt
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
QUESTION = "Listen to the voice in this recording. Answer with exactly one word of: angry, happy, neutral, sad."


def build(size: str, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a model family of Qwen2-Audio's architecture with random weights."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens(sorted(pre_tokenizers.ByteLevel.alphabet()))
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
    family = FAMILIES["qwen2_audio"](model, Qwen2AudioProcessor(feature_extractor=extractor, tokenizer=fast))
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
    """The three ways to draw `n` answers of `tokens` tokens about each clip."""

    family: Any
    inputs: list[Any]
    tokens: int
    n: int
    batch_size: int | None

    def ours(self) -> Any:
        """Encode and prefill once per clip, decode all answers side by side."""
        scheduler = Scheduler(self.family, self.batch_size)
        settings = GenerationSettings(temperature=1.0, max_gen_toks=self.tokens)
        prompts = (Prompt(each, [1000 * i + k for k in range(self.n)], settings) for i, each in enumerate(self.inputs))
        answers = [candidate for _, candidates in scheduler.generate(prompts) for candidate in candidates]
        assert [answer.n_tokens for answer in answers] == [self.tokens] * self.n * len(self.inputs)
        return scheduler.counts

    def clones(self) -> None:
        """Do as the harness does with `repeats: N`: a batch of N copies of the request, each encoded and prefilled."""
        for each in self.inputs:
            self._generate({name: value.repeat_interleave(self.n, 0) for name, value in each.items()}, 1)

    def num_return_sequences(self) -> None:
        """Leave it to transformers, which copies the features before the encoder."""
        for each in self.inputs:
            self._generate(each, self.n)

    def _generate(self, inputs: Any, n: int) -> None:
        out = self.family.model.generate(
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


def timed(way: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds that one way takes."""
    start = perf_counter()
    way()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return perf_counter() - start


def measure(ways: Ways, seconds: float, repetitions: int, baselines: bool = True) -> dict[str, Any]:
    """Return one row: the ways in turn, medians over the repetitions, ratios pair by pair."""
    device = ways.family.model.device
    times: dict[str, list[float]] = {"ours": [], "clones": [], "num_return_sequences": []}
    with PeakMemory(device) as memory:
        counts = ways.ours()  # a round whose time does not count
    for _ in range(repetitions):
        for name in times if baselines else ["ours"]:
            times[name].append(timed(getattr(ways, name), device))

    def speedup(name: str) -> float | None:
        pairs = [other / ours for other, ours in zip(times[name], times["ours"], strict=False)]
        return median(pairs) if pairs else None

    ours = median(times["ours"])
    return {
        "audio_seconds": seconds,
        "answer_tokens": ways.tokens,
        "n": ways.n,
        "clips": len(ways.inputs),
        "seconds": ours,
        "seconds_clones": median(times["clones"]) if baselines else None,
        "seconds_num_return_sequences": median(times["num_return_sequences"]) if baselines else None,
        "candidates_per_second": ways.n * len(ways.inputs) / ours,
        "speedup_vs_clones": speedup("clones"),
        "speedup_vs_num_return_sequences": speedup("num_return_sequences"),
        "encodes": counts["encodes"],
        "prefills": counts["prefills"],
        "generated_tokens": counts["generated_tokens"],
        "peak_mb": memory.megabytes,
    }


def bandwidth_bound(family: Any, row: dict[str, Any], bytes_per_second: float, prompt_tokens: int) -> float:
    """Return the share of the memory-bandwidth bound at which a row decoded; 1 is as fast as memory can be read.

    The least that a decoding step must read: all weights of the language model once, and keys and values of all rows.
    """
    text = family.model.config.get_text_config()
    size = family.model.dtype.itemsize
    language = sum(p.nbytes for name, p in family.model.named_parameters() if "audio_tower" not in name)
    language -= text.vocab_size * text.hidden_size * size  # the embedding table is looked up, not read through
    head = text.hidden_size // text.num_attention_heads
    per_token = 2 * text.num_hidden_layers * text.num_key_value_heads * head * size
    rows, steps = row["n"] * row["clips"], row["answer_tokens"] - 1
    cache = rows * per_token * (prompt_tokens + steps / 2)
    return steps * (language + cache) / bytes_per_second / row["decode_seconds"]


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
            for way in ("seconds", "seconds_clones"):
                line[way] = np.polyfit(steps, [row[way] for row in group], 1)[0]
            found.append(line)
    return found


def memory_bandwidth(device: torch.device) -> float:
    """Return the bytes per second at which this device reads memory, measured by summing a large tensor."""
    block = torch.ones(2**28 if device.type == "cuda" else 2**25, device=device)
    block.sum()
    return max(block.nbytes / timed(block.sum, device) for _ in range(5))


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
    parser.add_argument("--repetitions", type=int, help="3 by default")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    clips = arguments.clips or (2 if arguments.quick else 4)
    repetitions = arguments.repetitions or (1 if arguments.quick else 3)
    device = torch.device(arguments.device)
    dtype = getattr(torch, arguments.dtype or ("bfloat16" if device.type == "cuda" else "float32"))
    family = build(arguments.size, device, dtype)

    if arguments.quick:
        grid = [(10.0, tokens, 20, clips) for tokens in (8, 64, 256)]
    else:
        grid = [(*row, clips) for row in product(arguments.seconds, arguments.tokens, arguments.n)]
        grid += [(10.0, 8, 20, more * clips) for more in (2, 4) if (10.0, 8, 20, clips) in grid]
    columns = ["audio_seconds", "answer_tokens", "n", "clips", "seconds", "candidates_per_second"]
    columns += ["speedup_vs_clones", "speedup_vs_num_return_sequences", "encodes", "prefills", "peak_mb"]
    columns += ["share_of_bandwidth_bound"]
    print("  ".join(columns))
    bandwidth = memory_bandwidth(device)
    rows = []
    for seconds, tokens, n, n_clips in grid:
        inputs = make_inputs(family, seconds, n_clips)
        ways = Ways(family, inputs, tokens, n, arguments.batch_size)
        row = measure(ways, seconds, repetitions)
        one_token = measure(Ways(family, inputs, 1, n, arguments.batch_size), seconds, 1, baselines=False)
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
