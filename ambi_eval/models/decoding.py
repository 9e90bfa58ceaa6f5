"""Encode a clip once, read its prompt once, then decode all its answers side by side.

1. Prefill: one clip at a time goes through the audio encoder and the language model. What stays is the KV cache of its
   prompt and the logits of the first answer token. (Several clips at once would have to be padded, and then the result
   depends on the neighbours: Phi-4-multimodal and Granite Speech are not batch-invariant.) The next prompt about the
   same audio is read on from where it differs.
2. Expand: the cache is copied once per answer; clips of different length are right-aligned in one batch.
3. Decode: one token for all rows at a time. Finished rows leave, rows of the next clips enter.

Beam search does 1 and 2, and hands the expanded cache to `generate()`. The likelihoods of given continuations are one
forward pass of all of them over the expanded cache.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import BatchFeature, DynamicCache, GenerationConfig, StoppingCriteria, StoppingCriteriaList

from ambi_eval.candidates import Candidate
from ambi_eval.errors import AmbiError
from ambi_eval.models.batch import Batch, Prefilled, Row, joined, keys_and_values
from ambi_eval.models.families import Family
from ambi_eval.models.sampling import GenerationSettings, choose_tokens

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Prompt:
    """One clip with its question.

    Attributes:
        inputs: What the model reads, as `Family.model_inputs` gives it.
        keys: The noise key of every answer that is wanted (`sampling.row_key`).
        audios: Number of audios in it.
        heard: What tells its audios from others; prompts that follow one another and hear the same share the work on
            it. None: never shared.
        owner: Whatever the caller wants to find it by.
    """

    inputs: BatchFeature
    keys: Sequence[int]
    audios: int = 1
    heard: Hashable = None
    owner: Any = None


@dataclass(frozen=True)
class Continuation:
    """An answer whose likelihood is asked for.

    Attributes:
        tokens: Its tokens, at least one.
        ends: Whether the model must end its turn behind it. That is the sum over all tokens that end a turn.
    """

    tokens: list[int]
    ends: bool


Answered = tuple[Prompt, list[Candidate]]


class Decoder:
    """Decodes the answers of one model.

    Attributes:
        counts: What has been computed so far: `encodes` (audios), `prefills` (prompts), `generated_tokens`.
    """

    _last: tuple[Hashable, Prefilled] | None = None

    def __init__(self, family: Family, batch_size: int | None = 1, max_batch_size: int = 64) -> None:
        """Set up for a model.

        Args:
            family: The model.
            batch_size: Clips that are decoded together, all answers of a clip at once; None: as many as fit in memory.
            max_batch_size: The most that `None` may choose.
        """
        self.family = family
        self.model = family.model
        self.batch_size = batch_size
        self.max_batch_size = max_batch_size
        self.counts: Counter[str] = Counter()

    def generate(
        self, prompts: Iterable[Prompt], settings: GenerationSettings, clips: int | None = None
    ) -> Iterator[Answered]:
        """Yield every prompt with its answers, as soon as it is done.

        Args:
            prompts: Read as they are needed. One answer per key; with `num_beams`, that many of the best beams.
            settings: The same for all of them.
            clips: How many prompts to decode together, where that is not `batch_size`.

        Raises:
            AmbiError: If a prompt with its answer is longer than the model allows, or one clip does not fit in memory.
        """
        if settings.num_beams == 1:
            yield from self._decode(prompts, settings, clips or self.batch_size)
        else:
            yield from self._search(prompts, settings, clips or self.batch_size)

    @torch.inference_mode()
    def prefill(self, prompt: Prompt, room: int = 0) -> Prefilled:
        """Encode the audio of one prompt and read the prompt.

        Args:
            prompt: The prompt.
            room: How many tokens its answer may have.

        Raises:
            AmbiError: If prompt and answer are longer than the model allows.
        """
        inputs = {
            name: value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)
            for name, value in prompt.inputs.items()
        }
        length, limit = inputs["input_ids"].shape[1], self.family.max_positions
        if limit is not None and length + room > limit:
            raise AmbiError(
                f"a prompt of {length} tokens and {room} of its answer (max_gen_toks) are more than the "
                f"{limit} positions of the model; lower max_gen_toks or shorten the prompt"
            )
        begun = self._begun(prompt, inputs)
        if begun is None:
            self.counts["encodes"] += prompt.audios
            rest = inputs
        else:
            positions = torch.arange(begun.length, length, device=self.model.device) + begun.rope_delta
            mask = torch.ones(1, length, dtype=torch.long, device=self.model.device)
            unread = inputs["input_ids"][:, begun.length :]
            rest = {"input_ids": unread, "attention_mask": mask, "position_ids": positions[None]}
        with _last_position_only(self.model):
            output = self.model(**rest, past_key_values=DynamicCache(begun.layers if begun else None), use_cache=True)
        self.counts["prefills"] += 1
        read = Prefilled(
            layers=keys_and_values(output.past_key_values),
            logits=output.logits[0, -1].float(),
            input_ids=inputs["input_ids"],
            rope_delta=self.family.rope_delta if begun is None else begun.rope_delta,
        )
        self._last = (prompt.heard, read)
        return read

    def _begun(self, prompt: Prompt, inputs: Mapping[str, Tensor]) -> Prefilled | None:
        """Return what of this prompt was read with the last one: the same audio, and all tokens that are the same.

        None where that does not cover the audio, or where the family makes it impossible to read on from there (token
        types, caches that forget).
        """
        heard, last = self._last or (None, None)
        if last is None or heard is None or heard != prompt.heard or any("token_type" in name for name in inputs):
            return None
        ids, before = inputs["input_ids"][0], last.input_ids[0]
        most = min(len(ids) - 1, len(before))
        same = int((ids[:most] == before[:most]).long().cumprod(0).sum())
        placeholders = torch.tensor(self.family.placeholder_ids, dtype=ids.dtype, device=ids.device)
        if torch.isin(ids[same:], placeholders).any() or any(keys.shape[2] < last.length for keys, _ in last.layers):
            return None
        layers = [(keys[:, :, :same], values[:, :, :same]) for keys, values in last.layers]
        return Prefilled(layers, last.logits, ids[None, :same], last.rope_delta)

    @torch.inference_mode()
    def _decode(self, prompts: Iterable[Prompt], settings: GenerationSettings, size: int | None) -> Iterator[Answered]:
        """Decode greedily or by sampling, `size` prompts together."""
        waiting = iter(prompts)
        batch = Batch(self.model)
        answers: dict[Prompt, list[Row]] = {}  # of the clips that are being decoded
        while True:
            arrived = list(islice(waiting, (size or 1) - len(answers)))
            answers |= {prompt: [Row(key) for key in prompt.keys] for prompt in arrived}
            if not answers:
                return
            try:
                if arrived:
                    read = [self.prefill(prompt, settings.max_gen_toks) for prompt in arrived]
                    size = size or self._clips_that_fit(read[0], len(arrived[0].keys), settings)
                    batch.add([(each, answers[prompt]) for each, prompt in zip(read, arrived, strict=True)])
                self._step(batch, settings)
            except torch.OutOfMemoryError as error:
                size = self._half(len(answers), error)
                # Every answer comes out the same when it is begun anew.
                waiting, answers, batch = chain(answers, waiting), {}, Batch(self.model)
            for prompt in [prompt for prompt, rows in answers.items() if all(row.finish for row in rows)]:
                rows = answers.pop(prompt)
                yield prompt, [self._candidate(row.tokens, row.logprob, k, settings) for k, row in enumerate(rows)]

    def _step(self, batch: Batch, settings: GenerationSettings) -> None:
        """Choose the next token of every row, let the finished rows go, and feed the others their token."""
        device = batch.logits.device
        chosen = choose_tokens(
            self._without_placeholders(batch.logits),
            settings,
            keys=torch.tensor([row.key for row in batch.rows], device=device),
            steps=torch.tensor([len(row.tokens) for row in batch.rows], device=device),
        )
        logprobs = batch.logits.log_softmax(-1).gather(-1, chosen[:, None]).squeeze(-1)
        for row, token, logprob in zip(batch.rows, chosen.tolist(), logprobs.tolist(), strict=True):
            row.tokens.append(token)
            row.logprob += logprob
            if self._ended(row.tokens, settings):
                row.finish = "stop"
            elif len(row.tokens) == settings.max_gen_toks:
                row.finish = "length"
        self.counts["generated_tokens"] += len(batch.rows)
        going_on = [number for number, row in enumerate(batch.rows) if row.finish is None]
        if len(going_on) < len(batch.rows):
            batch.keep(going_on)
        if batch.rows:
            batch.advance()

    @torch.inference_mode()
    def _search(self, prompts: Iterable[Prompt], settings: GenerationSettings, size: int | None) -> Iterator[Answered]:
        """Decode by beam search, `size` prompts together."""
        waiting = iter(prompts)
        if self.family.counts_positions:
            size = 1  # generate() knows how far one prompt has come, not several
        while arrived := list(islice(waiting, size or 1)):
            try:
                read = [self.prefill(prompt, settings.max_gen_toks) for prompt in arrived]
                # generate() keeps the scores of all tokens at every step.
                kept = settings.num_beams * settings.max_gen_toks * read[0].logits.nbytes
                size = size or self._clips_that_fit(read[0], settings.num_beams, settings, kept)
                found = self._beams(read, max(len(prompt.keys) for prompt in arrived), settings)
            except torch.OutOfMemoryError as error:
                size = self._half(len(arrived), error)
                waiting = chain(arrived, waiting)
                continue
            for prompt, beams in zip(arrived, found, strict=True):
                yield prompt, beams[: len(prompt.keys)]

    def _beams(self, read: Sequence[Prefilled], best: int, settings: GenerationSettings) -> list[list[Candidate]]:
        """Return so many of the best beams of every prompt, the best one first."""
        longest = max(prompt.length for prompt in read)
        ids = torch.cat([pad(prompt.input_ids, (longest - prompt.length, 0)) for prompt in read])
        lengths = torch.tensor([[prompt.length] for prompt in read], device=ids.device)
        output = self.model.generate(
            input_ids=ids,
            attention_mask=(torch.arange(longest, device=ids.device) >= longest - lengths).long(),
            # generate() wants one token left to read.
            past_key_values=DynamicCache(joined([each.expanded(settings.num_beams, each.length - 1) for each in read])),
            stopping_criteria=StoppingCriteriaList(
                [StopOnStrings(lambda tokens: self._ended(tokens, settings), longest)]
            ),
            generation_config=GenerationConfig(
                num_beams=settings.num_beams,
                num_return_sequences=best,
                length_penalty=settings.length_penalty,
                max_new_tokens=settings.max_gen_toks,
                suppress_tokens=self.family.placeholder_ids or None,
                return_dict_in_generate=True,
                output_scores=True,
            ),
        )
        lengths = (output.beam_indices >= 0).sum(-1)
        logprobs = output.sequences_scores * lengths**settings.length_penalty
        self.counts["generated_tokens"] += int(lengths.sum())
        beams = zip(output.sequences[:, longest:].tolist(), lengths.tolist(), logprobs.tolist(), strict=True)
        return [
            [
                self._candidate(tokens[:length], logprob, index, settings)
                for index, (tokens, length, logprob) in enumerate(islice(beams, best))
            ]
            for _ in read
        ]

    @torch.inference_mode()
    def score(self, prompt: Prefilled, continuations: Sequence[Continuation]) -> list[tuple[float, bool]]:
        """Return the summed log-likelihood of each continuation of a prompt, and whether greedy decoding gives it."""
        rows, longest = len(continuations), max(len(each.tokens) for each in continuations)
        device = prompt.logits.device
        # What stands behind the end of a shorter one is seen by nobody.
        padded = [[*each.tokens, *each.tokens[-1:] * (longest - len(each.tokens))] for each in continuations]
        tokens = torch.tensor(padded, device=device)
        positions = torch.arange(prompt.length, prompt.length + longest, device=device) + prompt.rope_delta
        output = self.model(
            input_ids=tokens,
            attention_mask=torch.ones(rows, prompt.length + longest, dtype=torch.long, device=device),
            position_ids=positions.expand(rows, -1),
            past_key_values=DynamicCache(prompt.expanded(rows)),
            use_cache=True,
        )
        logits = torch.cat([prompt.logits.expand(rows, 1, -1), output.logits.float()], dim=1)
        logprobs, greedy = logits.log_softmax(-1), self._without_placeholders(logits).argmax(-1)
        scores = []
        for row, each in enumerate(continuations):
            end = len(each.tokens)
            logprob = logprobs[row, :end].gather(-1, tokens[row, :end, None]).sum()
            is_greedy = greedy[row, :end].tolist() == each.tokens
            if each.ends:
                logprob = logprob + logprobs[row, end, self.family.end_ids].logsumexp(-1)
                is_greedy = is_greedy and int(greedy[row, end]) in self.family.end_ids
            scores.append((float(logprob), is_greedy))
        return scores

    def _without_placeholders(self, logits: Tensor) -> Tensor:
        """Return logits with which a token that stands for audio is never chosen."""
        ids = torch.tensor(self.family.placeholder_ids, dtype=torch.long, device=logits.device)
        return logits.index_fill(-1, ids, -torch.inf)

    def _ended(self, tokens: Sequence[int], settings: GenerationSettings) -> bool:
        """Whether the newest token ends the turn or completes a stop string."""
        if tokens[-1] in self.family.end_ids:
            return True
        if not settings.until:
            return False
        # A token is at least one byte of text, so a string that the newest token completes is in the tail. The tokens
        # added to it are for tokenizers that drop the space in front of the first one.
        tail = self._text(tokens[-max(len(string.encode()) for string in settings.until) - TAIL_MARGIN :])
        return any(string in tail for string in settings.until)

    def _text(self, tokens: Sequence[int]) -> str:
        tokenizer = self.family.processor.tokenizer
        return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _candidate(self, tokens: list[int], logprob: float, index: int, settings: GenerationSettings) -> Candidate:
        """Return the answer of these tokens, its text cut before the first stop string."""
        text = self._text([token for token in tokens if token not in self.family.end_ids])
        cut = min((text.find(string) for string in settings.until if string in text), default=len(text))
        stopped = self._ended(tokens, settings) or cut < len(text)
        return Candidate(text[:cut], logprob, len(tokens), "stop" if stopped else "length", index)

    def _clips_that_fit(self, read: Prefilled, rows: int, settings: GenerationSettings, kept: int = 0) -> int:
        """Estimate from one prompt how many fit in memory with answers: caches (twice while they grow) and logits.

        Args:
            read: The prompt.
            rows: How many answers it gets.
            settings: How long they may be.
            kept: Further bytes per prompt.
        """
        cache = sum(keys.nbytes + values.nbytes for keys, values in read.layers)
        grown = 2 * rows * cache * (read.length + settings.max_gen_toks) / read.length
        clip = grown + 4 * rows * read.logits.nbytes + kept
        return max(1, min(int(MEMORY_SHARE * _free_memory(read.logits.device) / clip), self.max_batch_size))

    def _half(self, clips: int, error: torch.OutOfMemoryError) -> int:
        """Return how many clips to go on with after so many did not fit in memory.

        Raises:
            AmbiError: If it was one.
        """
        if clips == 1:
            raise AmbiError(
                "the answers to one clip do not fit in memory; lower repeats, or give dtype=bfloat16"
            ) from error
        logger.warning("out of memory with %d clips at once: going on with %d", clips, clips // 2)
        return clips // 2


TAIL_MARGIN = 4
# Of the free memory. The rest is for the encoder, the activations, and prompts longer than the first.
MEMORY_SHARE = 0.6


class StopOnStrings(StoppingCriteria):
    """Beam search asks here whether a beam has reached one of the stop strings."""

    def __init__(self, ended: Callable[[list[int]], bool], prompt_length: int) -> None:
        """Remember how to tell whether an answer has ended, and where answers begin."""
        self.ended = ended
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Return for every beam whether it is finished, shape (beams,)."""
        answers = input_ids[:, self.prompt_length :].tolist()
        return torch.tensor([self.ended(tokens) for tokens in answers], device=input_ids.device)


@contextmanager
def _last_position_only(model: Any) -> Iterator[None]:
    """Let the LM head see the last position only: with 152k tokens in the vocabulary, all of them are gigabytes."""
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda head, hidden: (hidden[0][:, -1:],))
    try:
        yield
    finally:
        handle.remove()


def _free_memory(device: torch.device) -> int:
    """Return the free memory in bytes: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
