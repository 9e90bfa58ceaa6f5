"""The harness model `hf-audio`: audio-language models of transformers that encode a clip once and answer it N times."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import BatchFeature

import ambi_eval
from ambi_eval.answers.candidate import Candidate
from ambi_eval.audio import audio_digest, load_ahead, load_audio
from ambi_eval.engines.hf.families import load_family, processor_digest, weights_digest
from ambi_eval.engines.hf.prefill import Continuation, Prompt
from ambi_eval.engines.hf.sampling import row_key
from ambi_eval.engines.hf.scheduler import Scheduler
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.inference.answer_cache import Recall
from ambi_eval.inference.pools import Order, Pools
from ambi_eval.inference.question import Question, as_messages
from ambi_eval.inference.verifier import LikelihoodVerifier
from ambi_eval.models.audio_lm import (
    AudioLM,
    Continuations,
    Likelihoods,
    open_store,
    open_verifier,
    refuse_unknown,
    whole_number,
)

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
COUNTERS = ("store_hits", "encodes", "prefills", "generated_tokens", "truncated_audio")
# Clips whose audio is loaded before their turn: 30 s are 2 MB.
CLIPS_AHEAD = 16


class HFAudio(AudioLM):
    """Any audio-language model of transformers that answers in text; its own chat template is applied in here."""

    widest = 1  # answers in the largest pool of the run

    def __init__(
        self,
        pretrained: str | None = None,
        *,
        revision: str = "main",
        dtype: str | torch.dtype = "auto",
        device: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        seed: int | None = None,
        long_audio: Literal["cut", "refuse"] = "cut",
        max_length: int | None = None,
        attn_implementation: str | None = None,
        device_map: Any = None,
        peft: str | None = None,
        trust_remote_code: bool = False,
        store: str | None = None,
        verifier: str = "self",
        verifier_base_url: str | None = None,
        verifier_api_key_env: str | None = None,
        **unknown: Any,
    ) -> None:
        """Load a checkpoint.

        Args:
            pretrained: A folder, a repository on the Hugging Face hub, or `ambi-tiny`, the model that comes along.
            revision: Branch, tag or commit of the repository.
            dtype: `float32`, `bfloat16`, `float16`, or `auto`: the checkpoint's own on a GPU, float32 on a CPU (where
                half precision is slow, and where answers are to be the same to the last digit).
            device: `cuda:0`, `cpu`, `mps` ...; without CUDA, `cuda` means the CPU.
            batch_size: Clips decoded together (all answers of a clip at once), or `auto`: as many as fit in memory.
            max_batch_size: The most that `auto` may choose; 64 by default.
            seed: Of the sampling; by default the harness's `--seed`.
            long_audio: What happens to audio that is longer than the model's window: `cut` or `refuse`.
            max_length: Tokens of prompt and answer together; by default what the model was built for.
            attn_implementation: `sdpa`, `flash_attention_2`, `eager` ...
            device_map: Spreads the model over several GPUs (`auto`).
            peft: Folder or repository of an adapter, merged into the weights.
            trust_remote_code: Whether code that comes with the checkpoint may run.
            store: File in which answers are kept and found again; by default `candidates.sqlite` in the data directory,
                `none` for no store.
            verifier: Who rates answers: `self`, another checkpoint, or `openai:MODEL` at `verifier_base_url`.
            verifier_base_url: Where the verifier's server is; by default OPENAI_BASE_URL, else OpenAI's own.
            verifier_api_key_env: Environment variable that holds the verifier's key; by default OPENAI_API_KEY.
            **unknown: Refused.

        Raises:
            AmbiError: If an argument is unknown or impossible, or if the checkpoint cannot be used.
        """
        super().__init__()
        refuse_unknown("hf-audio", HFAudio, unknown)
        if pretrained is None:
            raise AmbiError("hf-audio needs a model: --model_args pretrained=Qwen/Qwen2-Audio-7B-Instruct, for example")
        if long_audio not in ("cut", "refuse"):
            raise AmbiError(f"long_audio={long_audio} is neither cut nor refuse")
        self.pretrained = pretrained
        self.long_audio = long_audio
        self.seed = torch.initial_seed() if seed is None else whole_number("seed", seed)
        self.join_other_processes(_device(device))
        source = _demo_checkpoint() if pretrained == "ambi-tiny" else pretrained
        self.family = load_family(
            source,
            revision=revision,
            dtype=_dtype(dtype, self._device),
            device=self._device,
            device_map=device_map,
            attn_implementation=attn_implementation,
            peft=peft,
            trust_remote_code=trust_remote_code,
        )
        if max_length is not None:
            self.family.max_positions = whole_number("max_length", max_length, least=1)
        self.digest = weights_digest(source, *([peft] if peft else []), revision=revision)
        # The harness also says `auto:4`, to look again four times on the way.
        clips = None if str(batch_size).startswith("auto") else whole_number("batch_size", batch_size, least=1)
        most = 64 if max_batch_size is None else whole_number("max_batch_size", max_batch_size, least=1)
        self.scheduler = Scheduler(self.family, clips, most)
        self.truncated = 0
        identity = {
            "digest": self.digest,
            "processor": processor_digest(source, *([peft] if peft else []), revision=revision),
            "dtype": str(self.family.model.dtype),
        }
        self.recall = Recall(open_store(store), identity, self._provenance())
        self.pools = Pools(self.recall, self.seed, self._make)
        self.rated_by = open_verifier(
            self,
            verifier,
            base_url=verifier_base_url,
            api_key_env=verifier_api_key_env,
            device=device,
            seed=self.seed,
            store=store,
        )
        self.totals = self.counts()

    @property
    def name(self) -> str:
        """What messages call the model."""
        return self.pretrained

    @property
    def verifier(self) -> LikelihoodVerifier:
        """How this model rates answers."""
        return LikelihoodVerifier(self.score)

    # ------------------------------------------------------------------------------------------- requests

    def check(self, questions: Sequence[Question]) -> None:
        """Note how large the largest pool is: the memory that it takes is there for more of the small ones."""
        self.widest = max(question.n_answers for question in questions)

    def _make(self, orders: Sequence[Order]) -> Iterator[tuple[Order, list[Candidate]]]:
        """Generate answers."""
        by_question = {order.question: order for order in orders}
        prompts = self._prompts(list(by_question), lambda each: self._row_keys(each, by_question[each].numbers))
        for prompt, made in self.scheduler.generate(prompts, self.widest):
            yield by_question[prompt.owner], made

    def make_scores(self, wanted: Mapping[Question, Continuations]) -> Iterator[tuple[Question, Likelihoods]]:
        """Yield every question with the likelihoods of its continuations; one prefill per prompt."""
        tokens = {question: [self._tokens(question, *each) for each in wanted[question]] for question in wanted}
        prompts = self._prompts(list(wanted), continuations=lambda question: tokens[question])
        widest = max(self.widest, *(len(each) for each in tokens.values()))
        for prompt, scores in self.scheduler.loglikelihoods(prompts, widest):
            yield prompt.owner, scores

    def _prompts(
        self,
        questions: Sequence[Question],
        keys: Callable[[Question], Sequence[int]] = lambda question: (),
        continuations: Callable[[Question], Sequence[Continuation]] = lambda question: (),
    ) -> Iterator[Prompt]:
        """Yield what the model reads for each question, while threads make ready what it reads next."""
        about_one_clip = [list(group) for _, group in groupby(questions, lambda each: each.spans or id(each))]
        ready = load_ahead(self._read, about_one_clip, CLIPS_AHEAD)
        for group, (inputs, too_long) in zip(about_one_clip, ready, strict=True):
            for what in too_long:
                if self.long_audio == "refuse":
                    raise AmbiError(f"{what}; give long_audio=cut to go on with these")
                if self.truncated == 0:
                    logger.warning("%s; the rest is cut off, here and wherever else", what)
                self.truncated += len(group)
            for question, each in zip(group, inputs, strict=True):
                yield Prompt(
                    each,
                    keys(question),
                    question.settings,
                    continuations(question),
                    audios=len(question.spans),
                    heard=question.spans or None,
                    owner=question,
                )

    def _read(self, questions: Sequence[Question]) -> tuple[list[BatchFeature], list[str]]:
        """Return what the model reads for questions about one clip, and which of its audios are longer than it hears.

        The audio is decoded, and its features are made, once for all of them.
        """
        parts, too_long = [], []
        window, rate = self.family.window_seconds, self.family.sample_rate
        for span in questions[0].spans:
            samples = load_audio(span, rate)
            if window is not None and len(samples) > window * rate:
                seconds = len(samples) / rate
                too_long.append(f"{span.path}: {seconds:.1f} s of audio, of which {self.name} hears {window:g} s")
                samples = samples[: int(window * rate)]
            parts.append(self.family.audio_part(samples))
        return [self.family.model_inputs(as_messages(question.context, parts)) for question in questions], too_long

    def _row_keys(self, question: Question, numbers: Sequence[int]) -> list[int]:
        """Return the key of the sampling noise of each of these answers; greedy and beam search have no noise."""
        settings = question.settings
        if not settings.sampled:
            return [0] * len(numbers)
        heard = [audio_digest(span) for span in question.spans]
        drawn = (settings.temperature, settings.top_k, settings.top_p)
        return [row_key(self.seed, self.digest, question.context, *heard, *drawn, number) for number in numbers]

    def _tokens(self, question: Question, text: str, ends: bool) -> Continuation:
        tokens = self.family.processor.tokenizer.encode(text, add_special_tokens=False)
        if not tokens:
            task = question.requests[0].task_name
            raise AmbiError(f"{task}: the continuation {text!r} has no tokens; give every label a name")
        return Continuation(tokens, ends)

    # ------------------------------------------------------------------------------------------- chat template

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the model's own template, for the log; it has no others."""
        if isinstance(chat_template, str):
            raise AmbiError(f"hf-audio has one chat template, the model's own, and none named '{chat_template}'")
        return self.family.processor.chat_template

    # ------------------------------------------------------------------------------------------- counters

    def counts(self) -> dict[str, int]:
        """Return what this process has computed."""
        own = {**self.scheduler.counts, "truncated_audio": self.truncated, "store_hits": self.recall.hits}
        return {name: own.get(name, 0) for name in COUNTERS}

    def _provenance(self) -> dict[str, Any]:
        """Return what answers should not depend on, but may in the last digit."""
        return {
            "device": self.family.model.device.type,
            "attn_implementation": self.family.model.config._attn_implementation,
            "versions": {name: metadata.version(name) for name in ("ambi-eval", "torch", "transformers")},
        }

    def get_model_info(self) -> dict[str, Any]:
        """Return what stands with the results: which model it was, how it ran, and what was computed."""
        common = super().get_model_info()["ambi"]
        return {
            "ambi": {
                **common,
                "seed": self.seed,
                "model_digest": self.digest,
                "model_type": self.family.model.config.model_type,
                "dtype": str(self.family.model.dtype).removeprefix("torch."),
                "suppressed_tokens": self.family.placeholder_ids,
                **self._provenance(),
            }
        }


def _device(name: str | None) -> torch.device:
    """Return the device to compute on; the harness says cuda:0 wherever the user says nothing."""
    if name is None or (str(name).startswith("cuda") and not torch.cuda.is_available()):
        if not torch.cuda.is_available():
            logger.info("there is no CUDA here: computing on the CPU")
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise AmbiError(f"device={name} is no device; give cuda, cuda:1, cpu or mps") from error


def _dtype(dtype: str | torch.dtype, device: torch.device) -> str | torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else dtype
    if dtype not in DTYPES:
        raise AmbiError(f"dtype={dtype} is not auto, {', '.join(DTYPES)}{did_you_mean(dtype, DTYPES)}")
    return DTYPES[dtype]


def _demo_checkpoint() -> str:
    folder = Path(ambi_eval.__file__).parent / "demo" / "ambi-tiny"
    if not (folder / "config.json").is_file():
        raise AmbiError(
            f"ambi-tiny is not in {folder}; install ambi-eval anew, or train it: python -m ambi_eval.demo.train"
        )
    return str(folder)
