"""The harness model `hf-audio`: audio-language models of transformers that encode a clip once and answer it N times."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import lm_eval.models  # noqa: F401 - before ours: lm_eval fills its registry of models only while that is empty
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from tqdm import tqdm

import ambi_eval
from ambi_eval.audio import AudioSpan, Samples, audio_digest, load_ahead, load_audio
from ambi_eval.candidates import Candidate
from ambi_eval.corpora.manifest import data_dir
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.models.decoding import Continuation, Decoder, Prompt
from ambi_eval.models.families import load_family, weights_digest
from ambi_eval.models.pools import Order, Pools
from ambi_eval.models.processes import DataParallelLM
from ambi_eval.models.recall import Recall
from ambi_eval.models.requests import Question, as_context, as_messages, asked_pools, multimodal, shared_prompts
from ambi_eval.models.sampling import GenerationSettings, row_key
from ambi_eval.models.store import CandidateStore
from ambi_eval.models.verifier import rate

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
COUNTERS = ("store_hits", "encodes", "prefills", "generated_tokens", "truncated_audio")
# Clips whose audio is loaded before their turn: 30 s are 2 MB.
CLIPS_AHEAD = 16


@register_model("hf-audio")
class HFAudio(DataParallelLM):
    """Any audio-language model of transformers that answers in text.

    A request's arguments are `(context, generation_kwargs, {"audio": [...]})` for `generate_until` and
    `(context, continuation, {"audio": [...], "end_of_turn": bool})` for `loglikelihood`; an audio is a dict of path,
    start, end and control. `<audio>` in the context marks where each audio goes. The model's chat template is applied
    in here, with or without `--apply_chat_template`.
    """

    MULTIMODAL = True

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
            **unknown: Refused.

        Raises:
            AmbiError: If an argument is unknown or impossible, or if the checkpoint cannot be used.
        """
        super().__init__()
        for name in unknown:
            known = list(inspect.signature(HFAudio).parameters)
            raise AmbiError(f"hf-audio has no argument '{name}'{did_you_mean(name, known)}")
        if pretrained is None:
            raise AmbiError("hf-audio needs a model: --model_args pretrained=Qwen/Qwen2-Audio-7B-Instruct, for example")
        if long_audio not in ("cut", "refuse"):
            raise AmbiError(f"long_audio={long_audio} is neither cut nor refuse")
        self.pretrained = pretrained
        self.long_audio = long_audio
        self.seed = torch.initial_seed() if seed is None else _whole_number("seed", seed)
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
            self.family.max_positions = _whole_number("max_length", max_length, least=1)
        self.digest = weights_digest(source, *([peft] if peft else []), revision=revision)
        # The harness also says `auto:4`, to look again four times on the way.
        clips = None if str(batch_size).startswith("auto") else _whole_number("batch_size", batch_size, least=1)
        most = 64 if max_batch_size is None else _whole_number("max_batch_size", max_batch_size, least=1)
        self.decoder = Decoder(self.family, clips, most)
        self.truncated = 0
        identity = {"digest": self.digest, "dtype": str(self.family.model.dtype)}
        self.recall = Recall(_open_store(store), identity, self._provenance())
        self.pools = Pools(self.recall, self.seed, self._make)
        self.totals = dict.fromkeys(COUNTERS, 0)

    # ------------------------------------------------------------------------------------------- requests

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Candidate]:
        """Answer requests; the repeats of one request (the same object, as the harness clones it) are its pool.

        Returns:
            One `Candidate` for each request, in their order: candidate k of a pool for its k-th clone.

        Raises:
            AmbiError: If a request is impossible; all of them are checked before the first is answered.
        """
        questions = asked_pools(requests)
        by_settings: dict[GenerationSettings, list[Question]] = {}
        for question in questions:
            settings = GenerationSettings.from_kwargs(question.requests[0].args[1])
            if 1 < settings.num_beams < question.pool_size:
                raise AmbiError(
                    f"{question.requests[0].task_name}: {question.pool_size} repeats of {settings.num_beams} beams; "
                    f"give num_beams of at least repeats"
                )
            by_settings.setdefault(settings, []).append(question)
        self.widest = max(question.n_answers(settings) for settings, group in by_settings.items() for question in group)
        answers: list[Any] = [None] * len(requests)
        with self._progress(len(requests), "answers", disable_tqdm) as bar:
            for settings, group in by_settings.items():
                for question, pool in self.pools.answers(group, settings):
                    rated = self._rated(question, pool)
                    for number, position in enumerate(question.positions):
                        answers[position] = rated[min(number, question.pool_size - 1, len(rated) - 1)]
                    bar.update(len(question.positions))
        self._add_up_counters()
        return answers

    def _make(self, orders: Sequence[Order], settings: GenerationSettings) -> Iterator[tuple[Order, list[Candidate]]]:
        """Generate answers.

        The memory that the largest pool of a run takes is there for small ones as well: more clips of them go together.
        """
        most = max((len(order.numbers) for order in orders), default=1)
        clips = self.decoder.batch_size and max(1, self.decoder.batch_size * self.widest // most)
        by_question = {order.question: order for order in orders}
        prompts = self._prompts(
            list(by_question), lambda each: self._row_keys(each, settings, by_question[each].numbers)
        )
        for prompt, made in self.decoder.generate(prompts, settings, clips):
            yield by_question[prompt.owner], made

    def _rated(self, question: Question, pool: list[Candidate]) -> list[Candidate]:
        """Return the answers with their places in the pool and, where the request names a verifier, their ratings."""
        verifier = multimodal(question.requests[0]).get("verifier")
        ratings = rate(self.score, question, pool, **verifier) if verifier else {}
        return [
            Candidate(str(each), each.logprob, each.n_tokens, each.finish, number, ratings.get(str(each)))
            for number, each in enumerate(pool)
        ]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation and whether it is the greedy one; one prefill per prompt.

        Raises:
            AmbiError: If a request is impossible; all of them are checked before the first is scored.
        """
        questions = sorted(shared_prompts(requests), key=lambda each: str(each.spans))
        wanted = {question: [_continuation(request) for request in question.requests] for question in questions}
        scores: list[Any] = [None] * len(requests)
        with self._progress(len(requests), "likelihoods", disable_tqdm) as bar:
            for question, found in self.score(wanted):
                for position, score in zip(question.positions, found, strict=True):
                    scores[position] = score
                bar.update(len(found))
        self._add_up_counters()
        return scores

    def score(
        self, wanted: Mapping[Question, Sequence[tuple[str, bool]]]
    ) -> Iterator[tuple[Question, list[tuple[float, bool]]]]:
        """Yield every question with the likelihoods of its continuations: text, and whether the turn must end there."""
        keys = {question: self.recall.key(question, method="likelihood") for question in wanted}
        known = self.recall.likelihoods({keys[question]: each for question, each in wanted.items()})
        to_do = []
        for question in wanted:
            found = [score for score in known[keys[question]] if score is not None]
            if len(found) == len(wanted[question]):
                yield question, found
            else:
                to_do.append(question)
        tokens = {question: [self._tokens(question, *each) for each in wanted[question]] for question in to_do}
        for prompt in self._prompts(to_do):
            question = prompt.owner
            read = self.decoder.prefill(prompt, max(len(each.tokens) for each in tokens[question]))
            found = self.decoder.score(read, tokens[question])
            self.recall.keep_likelihoods(keys[question], wanted[question], found)
            yield question, found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Refuse: the perplexity of a text has nothing to do with audio."""
        raise AmbiError("hf-audio gives no perplexity of texts (loglikelihood_rolling); use --model hf for such tasks")

    def _prompts(
        self, questions: Sequence[Question], keys: Callable[[Question], Sequence[int]] = lambda question: ()
    ) -> Iterator[Prompt]:
        """Yield what the model reads for each question, while the audio of the next ones is being loaded."""
        for question, audios in zip(questions, load_ahead(self._load, questions, CLIPS_AHEAD), strict=True):
            heard = [self._within_window(span, audio) for span, audio in zip(question.spans, audios, strict=True)]
            parts = [self.family.audio_part(audio) for audio in heard]
            yield Prompt(
                inputs=self.family.model_inputs(as_messages(question.context, parts)),
                keys=keys(question),
                audios=len(parts),
                heard=question.spans,
                owner=question,
            )

    def _load(self, question: Question) -> list[Samples]:
        return [load_audio(span, self.family.sample_rate) for span in question.spans]

    def _within_window(self, span: AudioSpan, samples: Samples) -> Samples:
        """Return no more of an audio than the model hears; counted, and said at the first one."""
        window = self.family.window_seconds
        if window is None or len(samples) <= window * self.family.sample_rate:
            return samples
        seconds = len(samples) / self.family.sample_rate
        what = f"{span.path}: {seconds:.1f} s of audio, of which {self.pretrained} hears {window:g} s"
        if self.long_audio == "refuse":
            raise AmbiError(f"{what}; give long_audio=cut to go on with these")
        if self.truncated == 0:
            logger.warning("%s; the rest is cut off, here and wherever else", what)
        self.truncated += 1
        return samples[: int(window * self.family.sample_rate)]

    def _row_keys(self, question: Question, settings: GenerationSettings, numbers: Sequence[int]) -> list[int]:
        """Return the key of the sampling noise of each of these answers; greedy and beam search have no noise."""
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

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return the conversation as one string that still holds its `<audio>` marks.

        The template is applied when the audio is there, with `--apply_chat_template` or without. So results do not
        depend on it: a question alone comes back as it is.

        Raises:
            AmbiError: If there is more than a system message and one question.
        """
        return as_context(chat_history)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the model's own template, for the log; it has no others."""
        if isinstance(chat_template, str):
            raise AmbiError(f"hf-audio has one chat template, the model's own, and none named '{chat_template}'")
        return self.family.processor.chat_template

    @property
    def tokenizer_name(self) -> str:
        """Name of tokenizer and template, part of the names of the harness's caches."""
        return self.pretrained.replace("/", "__")

    # ------------------------------------------------------------------------------------------- processes, counters

    def _add_up_counters(self) -> None:
        """Add up what all processes have computed; only the first one is asked for it, and when the others are gone."""
        own = {**self.decoder.counts, "truncated_audio": self.truncated, "store_hits": self.recall.hits}
        counts = torch.tensor([[own.get(name, 0) for name in COUNTERS]], device=self._device)
        self.totals = dict(zip(COUNTERS, self.all_gather(counts).sum(0).tolist(), strict=True))

    def _provenance(self) -> dict[str, Any]:
        """Return what answers should not depend on, but may in the last digit."""
        return {
            "device": self.family.model.device.type,
            "attn_implementation": self.family.model.config._attn_implementation,
            "versions": {name: metadata.version(name) for name in ("ambi-eval", "torch", "transformers")},
        }

    def get_model_info(self) -> dict[str, Any]:
        """Return what stands with the results: which model it was, how it ran, and what was computed."""
        return {
            "ambi": {
                **self.totals,
                "seed": self.seed,
                "model_digest": self.digest,
                "model_type": self.family.model.config.model_type,
                "dtype": str(self.family.model.dtype).removeprefix("torch."),
                "suppressed_tokens": self.family.placeholder_ids,
                "store": str(self.recall.store.path) if self.recall.store else "none",
                "stored_answers_from": self.recall.origins,
                **self._provenance(),
            }
        }

    def _progress(self, total: int, unit: str, disable: bool) -> Any:
        return tqdm(total=total, unit=unit, desc=f"{self.pretrained}: {unit}", disable=disable or self.rank != 0)


def _continuation(request: Instance) -> tuple[str, bool]:
    """Return the text whose likelihood is asked for, and whether the model must end its turn behind it."""
    return request.args[1], bool(multimodal(request).get("end_of_turn"))


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


def _whole_number(name: str, value: Any, least: int | None = None) -> int:
    whole = not isinstance(value, float) and str(value).lstrip("-").isdigit()
    if not whole or (least is not None and int(value) < least):
        raise AmbiError(f"{name}={value} is not a whole number{'' if least is None else f' of at least {least}'}")
    return int(value)


def _open_store(path: str | None) -> CandidateStore | None:
    return None if path == "none" else CandidateStore(path or data_dir() / "candidates.sqlite")


def _demo_checkpoint() -> str:
    folder = Path(ambi_eval.__file__).parent / "demo" / "ambi-tiny"
    if not (folder / "config.json").is_file():
        raise AmbiError(
            f"ambi-tiny is not in {folder}; install ambi-eval anew, or train it: python -m ambi_eval.demo.train"
        )
    return str(folder)
