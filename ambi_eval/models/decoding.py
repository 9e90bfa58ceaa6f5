"""Encode a clip once, read its prompt once, then decode all its answers side by side.

1. Prefill: one clip at a time goes through the audio encoder and the language model. What stays is the KV cache of its
   prompt and the logits of the first answer token. (Several clips at once would have to be padded, and then the result
   depends on the neighbours: Phi-4-multimodal and Granite Speech are not batch-invariant.) The next prompt about the
   same audio is read on from where it differs.
2. Expand: the cache is copied once per answer; clips of different length are right-aligned in one batch.
3. Decode: one token for all rows at a time. Finished rows leave, rows of the next prompts enter, whatever strategy they
   belong to.

Beam search does 1 and 2, and hands the expanded caches of several prompts to `generate()`. The likelihoods of given
continuations are one forward pass of all of them over the expanded cache.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
        keys: The noise key of every answer that is wanted (`sampling.row_key`); for beam search, one for each of the
            best beams that are wanted.
        settings: How they are generated.
        audios: Number of audios in it.
        heard: What tells its audios from others; prompts that follow one another and hear the same share the work on
            it. None: never shared.
        owner: Whatever the caller wants to find it by.
    """

    inputs: BatchFeature
    keys: Sequence[int]
    settings: GenerationSettings = field(default_factory=GenerationSettings)
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

    @torch.inference_mode()
    def generate(self, prompts: Iterable[Prompt], widest: int | None = None) -> Iterator[Answered]:
        """Yield every prompt with its answers, as soon as it is done.

        Args:
            prompts: Read as they are needed. Those about one audio share the work on it if they follow one another.
            widest: The most answers that one of them has: there is room for `batch_size` such prompts, or as many more
                as have fewer answers. The first to enter when half of the room is free may take up to half more. By
                default as many as the first prompt has.

        Raises:
            AmbiError: If a prompt with its answer is longer than the model allows, or one prompt does not fit in
                memory.
        """
        coming = iter(prompts)
        ahead = next(coming, None)
        if ahead is None:
            return
        widest = widest or len(ahead.keys)
        room = None if self.batch_size is None else self.batch_size * widest
        batch = Batch(self.model)
        answers: dict[Prompt, list[Row]] = {}  # of the prompts that are being decoded
        arrived: list[tuple[Prefilled, list[Row]]] = []  # of them, those that are about to enter the batch
        searches: dict[GenerationSettings, dict[Prompt, Prefilled]] = {}  # beam searches that wait for company

        def fits(prompt: Prompt) -> bool:
            if not answers and not searches:
                return True
            if room is None or (searches and self.family.counts_positions):
                return False
            if prompt.settings.num_beams > 1:
                return not self._is_full(searches.get(prompt.settings, ()), prompt.settings, room)
            entering = sum(len(rows) for _, rows in arrived)
            # Whenever rows enter, all others are copied: not before half of the room is free, and then all of it.
            return 2 * len(batch.rows) <= room and (
                not entering or len(batch.rows) + entering + len(prompt.keys) <= room
            )

        while ahead or answers or searches:
            found: dict[Prompt, list[Candidate]] = {}
            try:
                while ahead and fits(ahead):
                    read = self.prefill(ahead, ahead.settings.max_gen_toks)
                    if ahead.settings.num_beams > 1:
                        searches.setdefault(ahead.settings, {})[ahead] = read
                    else:
                        answers[ahead] = [Row(key, ahead.settings) for key in ahead.keys]
                        arrived.append((read, answers[ahead]))
                    if room is None:
                        room = min(self._rows_that_fit(read, ahead.settings), self.max_batch_size * widest)
                    ahead = next(coming, None)
                if arrived:
                    batch.add(arrived)
                    arrived = []
                if batch.rows:
                    self._step(batch)
                no_more = ahead is None or not (answers or fits(ahead))
                for settings, group in list(searches.items()):
                    if no_more or self._is_full(group, settings, room):
                        found |= zip(group, self._beams(group, settings), strict=True)
                        del searches[settings]
            except torch.OutOfMemoryError as error:
                # Every answer comes out the same when it is begun anew.
                again = [*found, *answers, *chain(*searches.values()), *([ahead] if ahead else [])]
                room = self._less_room(room, again, error)
                coming = chain(again, coming)
                ahead, answers, arrived, searches, batch = next(coming), {}, [], {}, Batch(self.model)
                continue
            for prompt in [prompt for prompt, rows in answers.items() if all(row.finish for row in rows)]:
                found[prompt] = [
                    self._candidate(row.tokens, row.logprob, k, row.settings)
                    for k, row in enumerate(answers.pop(prompt))
                ]
            yield from found.items()

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

    def _is_full(self, group: Collection[Prompt], settings: GenerationSettings, room: int | None) -> bool:
        """Whether one more beam search would be too many to go together."""
        # Of a model that counts positions, generate() knows how far one prompt has come, not several.
        return self.family.counts_positions or (len(group) + 1) * settings.num_beams > (room or 0)

    def _step(self, batch: Batch) -> None:
        """Choose the next token of every row, let the finished rows go, and feed the others their token."""
        chosen = self._choose(batch)
        logprobs = batch.logits.log_softmax(-1).gather(-1, chosen[:, None]).squeeze(-1)
        for row, token, logprob in zip(batch.rows, chosen.tolist(), logprobs.tolist(), strict=True):
            if row.finish:
                continue
            row.tokens.append(token)
            self.counts["generated_tokens"] += 1
            row.logprob += logprob
            if self._ended(row.tokens, row.settings):
                row.finish = "stop"
            elif len(row.tokens) == row.settings.max_gen_toks:
                row.finish = "length"
        going_on = [number for number, row in enumerate(batch.rows) if row.finish is None]
        # Whenever rows leave, all others are copied.
        if len(going_on) <= MOST_GOING_ON * len(batch.rows):
            batch.keep(going_on)
        if batch.rows:
            batch.advance()

    def _choose(self, batch: Batch) -> Tensor:
        """Return the next token of every row, each chosen by the settings of its row, shape (rows,)."""
        logits = self._without_placeholders(batch.logits)
        keys = torch.tensor([row.key for row in batch.rows], device=logits.device)
        steps = torch.tensor([len(row.tokens) for row in batch.rows], device=logits.device)
        groups: dict[GenerationSettings, list[int]] = {}
        for number, row in enumerate(batch.rows):
            groups.setdefault(row.settings, []).append(number)
        if len(groups) == 1:  # nothing is copied
            return choose_tokens(logits, batch.rows[0].settings, keys, steps)
        chosen = torch.empty_like(steps)
        for settings, numbers in groups.items():
            chosen[numbers] = choose_tokens(logits[numbers], settings, keys[numbers], steps[numbers])
        return chosen

    def _beams(self, prompts: Mapping[Prompt, Prefilled], settings: GenerationSettings) -> list[list[Candidate]]:
        """Return the best beams of every prompt, the best one first."""
        read, best = list(prompts.values()), max(len(prompt.keys) for prompt in prompts)
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
            ][: len(prompt.keys)]
            for prompt in prompts
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

    def _rows_that_fit(self, read: Prefilled, settings: GenerationSettings) -> int:
        """Estimate from one prompt how many answers fit in memory: caches (twice while they grow) and logits."""
        cache = sum(keys.nbytes + values.nbytes for keys, values in read.layers)
        row = 2 * cache * (read.length + settings.max_gen_toks) / read.length + 4 * read.logits.nbytes
        if settings.num_beams > 1:  # generate() keeps the scores of all tokens at every step
            row += settings.max_gen_toks * read.logits.nbytes
        return int(MEMORY_SHARE * _free_memory(read.logits.device) / row)

    def _less_room(self, room: int | None, again: Sequence[Prompt], error: torch.OutOfMemoryError) -> int:
        """Return for how many answers there is room when these prompts did not fit in memory.

        Raises:
            AmbiError: If there is one prompt only.
        """
        if len(again) == 1 or not room:
            raise AmbiError(
                "the answers to one clip do not fit in memory; lower repeats, or give dtype=bfloat16"
            ) from error
        logger.warning("out of memory with room for %d answers: going on with %d", room, room // 2)
        return room // 2


TAIL_MARGIN = 4
# Finished rows stay as long as more than this share of the batch goes on.
MOST_GOING_ON = 0.8
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
