"""The engine `hf-audio`: audio-language models of transformers that encode a clip once and answer it N times."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature

from ambi_eval.answers.candidate import Candidate
from ambi_eval.audio import load_ahead, load_audio
from ambi_eval.config.model_arguments import HFAudioArguments
from ambi_eval.costs.flops import ForwardFlops
from ambi_eval.engines.base import Capabilities, Engine, Job, Likelihood, versions
from ambi_eval.engines.hf.loading import (
    check_adapter,
    checkpoint,
    load_family,
    processor_digest,
    read_config,
    torch_device,
    weights_digest,
)
from ambi_eval.engines.hf.prompts import Continuation, Prompt
from ambi_eval.engines.hf.scheduler import Scheduler
from ambi_eval.engines.prompt import as_messages
from ambi_eval.errors import AmbiError
from ambi_eval.sampling.keys import row_key

logger = logging.getLogger(__name__)

COUNTERS = ("encodes", "prefills", "generated_tokens", "thinking_tokens")
# Clips whose audio is loaded before their turn: 30 s are 2 MB.
CLIPS_AHEAD = 16


class HFEngine(Engine):
    """Any audio-language model of transformers that answers in text.

    Attributes:
        family: The loaded model with its processor.
        digest: Digest of its weights.
        widest: Number of answers of the largest job of a run.
        answers_to_a_clip: Number of answers of all jobs of a run about one clip, at most.
    """

    Arguments = HFAudioArguments
    data_parallel = True
    widest = answers_to_a_clip = 1

    def __init__(self, arguments: HFAudioArguments, device: torch.device | None = None) -> None:
        """Load a checkpoint.

        Args:
            arguments: Which checkpoint, and how to load it.
            device: Where to compute; None: as the arguments say.

        Raises:
            AmbiError: If the checkpoint cannot be used.
        """
        super().__init__(arguments, device)
        source = checkpoint(arguments.pretrained)
        device = device or self.device(arguments)
        in_float32 = arguments.dtype == "auto" and device.type == "cpu"
        self.family = load_family(
            source,
            revision=arguments.revision,
            dtype="float32" if in_float32 else arguments.dtype,
            device=device,
            device_map=arguments.device_map,
            attn_implementation=arguments.attn_implementation,
            peft=arguments.peft,
            trust_remote_code=arguments.trust_remote_code,
        )
        if arguments.max_length is not None:
            self.family.max_positions = arguments.max_length
        sources = [source, *([arguments.peft] if arguments.peft else [])]
        self.digest = weights_digest(*sources, revision=arguments.revision)
        self._processor_digest = processor_digest(*sources, revision=arguments.revision)
        batch_size = None if arguments.batch_size == "auto" else arguments.batch_size
        self.scheduler = Scheduler(
            self.family, batch_size, arguments.max_batch_size, think_end_token=arguments.think_end_token
        )

    @classmethod
    def check_arguments(cls, arguments: HFAudioArguments) -> None:
        """Look for the checkpoint, its adapter, and the packages that they need.

        Raises:
            AmbiError: If one is missing.
        """
        source = {"revision": arguments.revision, "trust_remote_code": arguments.trust_remote_code}
        read_config(checkpoint(arguments.pretrained), **source)
        if arguments.peft is not None:
            check_adapter(arguments.peft)

    @classmethod
    def device(cls, arguments: HFAudioArguments) -> torch.device:
        """Return the device that the arguments name."""
        return torch_device(arguments.device)

    @property
    def name(self) -> str:
        """The checkpoint, as the user named it."""
        return self.arguments.pretrained

    @property
    def identity(self) -> dict[str, Any]:
        """Digests of weights and processor, and the precision."""
        return {
            "digest": self.digest,
            "processor": self._processor_digest,
            "dtype": str(self.family.model.dtype),
        } | self.thinking_identity

    @classmethod
    def pools(cls, server: str = "") -> frozenset[str]:
        """Return all pools."""
        return super().pools() | {"beams", "labels"}

    @property
    def window_seconds(self) -> float | None:
        """The longest audio that the family hears whole."""
        return self.family.window_seconds

    @property
    def capabilities(self) -> Capabilities:
        """Everything."""
        return Capabilities(beams=True, likelihoods=True, sampling_is="honoured")

    def check(self, jobs: Sequence[Job]) -> None:
        """Note how many answers the largest job has, and how many are wanted of one clip.

        Raises:
            AmbiError: If a job is to think, but the tokens that end thinking are unknown or do not fit.
        """
        for job in jobs:
            self.scheduler.decoder.thinking.check(job.task, job.settings)
        answers: dict[tuple[Hashable, ...], int] = {}
        for job in jobs:
            pool = (job.spans or id(job), job.prompt, job.settings)
            answers[pool] = max(answers.get(pool, 0), len(job.numbers))
        of_clip: Counter[Hashable] = Counter()
        for asked, number in answers.items():
            of_clip[asked[0]] += number
        self.widest, self.answers_to_a_clip = max(answers.values()), max(of_clip.values())

    def generate(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, dict[int, Candidate]]]:
        """Yield each job with its answers; all answers of a job share one encoding and one prefill."""
        prompts = ((job, inputs, self._noise_keys(job), ()) for job, inputs in self._inputs(jobs))
        for prompt, answers in self.scheduler.generate(map(_prompt, prompts), self.widest, self.answers_to_a_clip):
            yield prompt.owner, dict(zip(prompt.owner.numbers, answers, strict=True))

    @property
    def ready(self) -> int:  # type: ignore[override]
        """As of every engine."""
        return len(self.scheduler.finished)

    def loglikelihoods(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, list[Likelihood]]]:
        """Yield each job with the likelihoods of its continuations; one forward pass for those about several clips."""
        tokens = {job: self._continuations(job) for job in jobs}
        prompts = ((job, inputs, (), tokens[job]) for job, inputs in self._inputs(jobs))
        for prompt, likelihoods in self.scheduler.loglikelihoods(map(_prompt, prompts)):
            yield prompt.owner, likelihoods

    def _inputs(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, BatchFeature]]:
        """Yield each job with what the model reads for it. Meanwhile, threads prepare what it reads for the next jobs.

        Each of these threads computes alone. With OpenMP threads of its own, there would be more threads than cores.
        OpenMP would then let the model's threads sleep after each operation, and small models would take twice as long.
        """
        about_one_clip = [list(group) for _, group in groupby(jobs, lambda job: job.spans or id(job))]
        threads = torch.get_num_threads()

        def read(group: Sequence[Job]) -> list[BatchFeature]:
            torch.set_num_threads(1)  # for this thread, and for all threads that begin later
            return self._read(group)

        try:
            with closing(load_ahead(read, about_one_clip, CLIPS_AHEAD)) as ready:  # no thread is left when it ends
                for group, inputs in zip(about_one_clip, ready, strict=True):
                    yield from zip(group, inputs, strict=True)
        finally:
            torch.set_num_threads(threads)

    def _read(self, jobs: Sequence[Job]) -> list[BatchFeature]:
        """Return what the model reads for jobs about one clip; audio is cut after the model's window.

        The audio is decoded, and its features are made, once for all of them, and the text of equal prompts once.
        """
        window, rate = self.window_seconds, self.family.sample_rate
        most = None if window is None else int(window * rate)
        parts = [self.family.audio_part(load_audio(span, rate)[:most]) for span in jobs[0].spans]
        asked = dict.fromkeys(job.prompt for job in jobs)
        inputs = {prompt: self.family.model_inputs(as_messages(prompt, parts)) for prompt in asked}
        for job in jobs:
            job.prompt_tokens = inputs[job.prompt]["input_ids"].shape[1]
        return [inputs[job.prompt] for job in jobs]

    def _noise_keys(self, job: Job) -> list[int]:
        """Return the key of the sampling noise of each answer; greedy and beam search have no noise."""
        settings = job.settings
        if not settings.sampled:
            return [0] * len(job.numbers)
        drawn = (settings.temperature, settings.top_k, settings.top_p)
        return [row_key(job.seed, self.digest, job.prompt, *job.heard, *drawn, number) for number in job.numbers]

    def _continuations(self, job: Job) -> list[Continuation]:
        tokenizer = self.family.processor.tokenizer
        found = [
            Continuation(tokenizer.encode(text, add_special_tokens=False), ends) for text, ends in job.continuations
        ]
        for (text, _), each in zip(job.continuations, found, strict=True):
            if not each.tokens:
                raise AmbiError(f"{job.task}: the continuation {text!r} has no tokens; give every label a name")
        return found

    def counts(self) -> dict[str, int]:
        """Return the audios encoded, prompts read, and tokens generated."""
        return {name: self.scheduler.counts.get(name, 0) for name in COUNTERS}

    @property
    def provenance(self) -> dict[str, Any]:
        """Device, attention kernel and versions."""
        return {
            "device": self.family.model.device.type,
            "attn_implementation": self.family.model.config._attn_implementation,
            "versions": versions("ambi-eval", "torch", "transformers"),
        }

    def info(self) -> dict[str, Any]:
        """Return the model's digest and type, its precision, device and library versions."""
        return {
            "model_digest": self.digest,
            "model_type": self.family.model.config.model_type,
            "dtype": str(self.family.model.dtype).removeprefix("torch."),
            "suppressed_tokens": self.family.placeholder_ids,
            "flops": asdict(self.flops) if self.flops else None,
            **self.provenance,
        }

    @cached_property
    def flops(self) -> ForwardFlops | None:
        """What the model's forward passes cost; None, with a warning, where its code does not allow to count that."""
        from ambi_eval.costs.shapes import cached, forward_flops, without_weights  # half a second, once a checkpoint

        family = self.family

        def inputs_of(seconds: float) -> BatchFeature:
            silence = np.zeros(round(seconds * family.sample_rate), dtype=np.float32)
            return family.model_inputs(as_messages("<audio>", [family.audio_part(silence)]))

        def count() -> ForwardFlops:
            shapes = without_weights(family.model)
            family.prepare(shapes)
            return forward_flops(shapes, inputs_of, family.window_seconds)

        try:
            return cached(count, self._processor_digest, type(family.model).__name__, self.provenance["versions"])
        except Exception as error:  # a model's code may raise anything
            logger.warning("the FLOPs of %s are not counted: %s", self.name, next(iter(str(error).splitlines()), error))
            return None

    @property
    def chat_template(self) -> str | None:
        """The model's own template."""
        template: str | None = self.family.processor.chat_template
        return template


def _prompt(parts: tuple[Job, BatchFeature, Sequence[int], Sequence[Continuation]]) -> Prompt:
    job, inputs, keys, continuations = parts
    return Prompt(inputs, keys, job.settings, continuations, audios=len(job.spans), heard=job.spans or None, owner=job)
