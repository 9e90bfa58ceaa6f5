"""Read a clip and its prompts once, then decode all answers side by side.

1. Prefill (`prefill.py`): audio and prompt go through the model once. What stays is the KV cache of the prompt and the
   logits of the first answer token.
2. Expand: the cache is copied once per answer; clips of different length are right-aligned in one batch (`batch.py`).
3. Decode: one token for all rows at a time. Finished rows leave, rows of the next prompts enter, whatever strategy they
   belong to.

Beam search does 1 and 2, and hands the expanded caches of several prompts to `generate()`. The likelihoods of given
continuations, of all prompts about a clip, are one forward pass over their expanded caches.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, GenerationConfig, StoppingCriteria, StoppingCriteriaList

from ambi_eval.answers.candidate import Candidate
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.hf.batch import Batch, Row, joined
from ambi_eval.engines.hf.families import Family
from ambi_eval.engines.hf.prefill import Prefilled, Prompt, Reader
from ambi_eval.engines.hf.sampling import choose_tokens
from ambi_eval.errors import AmbiError

logger = logging.getLogger(__name__)

Answered = tuple[Prompt, list[Candidate]]
# Of every continuation its log-likelihood, and whether greedy decoding gives it.
Scored = tuple[Prompt, list[tuple[float, bool]]]


class Decoder:
    """Decodes the answers of one model.

    Attributes:
        counts: What has been computed so far: `encodes` (audios), `prefills` (prompts), `generated_tokens`.
    """

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
        self.reader = Reader(family, self.counts)

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
        widest = widest or ahead.rows
        room = self._room(widest)
        batch = Batch(self.model)
        answers: dict[Prompt, list[Row]] = {}  # of the prompts that are being decoded
        searches: dict[GenerationSettings, list[Prompt]] = {}  # beam searches that wait for company
        unread: list[Prompt] = []  # of both, those that have just been let in
        read: dict[Prompt, Prefilled] = {}  # what the others have not yet used

        def fits(prompt: Prompt) -> bool:
            if not answers and not searches:
                return True
            if room is None or (searches and self.family.counts_positions):
                return False
            if prompt.settings.num_beams > 1:
                return not self._is_full(searches.get(prompt.settings, ()), prompt.settings, room)
            entering = sum(len(answers[each]) for each in unread if each in answers)
            # Whenever rows enter, all others are copied: not before half of the room is free, and then all of it.
            return 2 * len(batch.rows) <= room and (not entering or len(batch.rows) + entering + prompt.rows <= room)

        while ahead or answers or searches:
            found: dict[Prompt, list[Candidate]] = {}
            try:
                while ahead and fits(ahead):
                    unread.append(ahead)
                    if ahead.settings.num_beams > 1:
                        searches.setdefault(ahead.settings, []).append(ahead)
                    else:
                        answers[ahead] = [Row(key, ahead.settings) for key in ahead.keys]
                    ahead = next(coming, None)
                if unread:
                    read |= zip(unread, self.reader.read(unread), strict=True)
                    room = self._room(widest, unread[0], read[unread[0]]) if room is None else room
                    if entering := [(read.pop(each), answers[each]) for each in unread if each in answers]:
                        batch.add(entering)
                    unread = []
                if batch.rows:
                    self._step(batch)
                no_more = ahead is None or not (answers or fits(ahead))
                for settings, group in list(searches.items()):
                    if no_more or self._is_full(group, settings, room):
                        beams = self._beams(group, [read.pop(each) for each in group], settings)
                        found |= zip(searches.pop(settings), beams, strict=True)
            except torch.OutOfMemoryError as error:
                # Every answer comes out the same when it is begun anew.
                again = [*found, *answers, *chain(*searches.values()), *([ahead] if ahead else [])]
                room = self._less_room(room, again, error)
                coming = chain(again, coming)
                ahead, answers, searches, unread, read, batch = next(coming), {}, {}, [], {}, Batch(self.model)
                continue
            for prompt in [prompt for prompt, rows in answers.items() if all(row.finish for row in rows)]:
                found[prompt] = [
                    self._candidate(row.tokens, row.logprob, k, row.settings)
                    for k, row in enumerate(answers.pop(prompt))
                ]
            yield from found.items()
            self.reader.keep({prompt.heard for prompt in (ahead, *answers, *chain(*searches.values())) if prompt})

    @torch.inference_mode()
    def score(self, prompts: Iterable[Prompt], widest: int | None = None) -> Iterator[Scored]:
        """Yield every prompt with the likelihoods of its continuations; those about one clip are scored together.

        Args:
            prompts: Read as they are needed. Those about one audio share the work on it if they follow one another.
            widest: The most continuations or answers of a prompt: there is room for `batch_size` such prompts. By
                default as many as the first prompt has.

        Raises:
            AmbiError: If a prompt with a continuation is longer than the model allows, or one prompt does not fit in
                memory.
        """
        room = None
        kept = set(self.reader.kept)  # by whoever asks about the same clips at the same time
        for _, about_one_clip in groupby(prompts, lambda prompt: prompt if prompt.heard is None else prompt.heard):
            waiting = deque(about_one_clip)
            while waiting:
                if room is None:
                    room = self._room(widest or waiting[0].rows)
                together = [waiting.popleft()]
                while waiting and room and sum(each.rows for each in together) + waiting[0].rows <= room:
                    together.append(waiting.popleft())
                try:
                    read = self.reader.read(together)
                    if room is None:
                        room = self._room(widest or together[0].rows, together[0], read[0])
                    scores = self._likelihoods(together, read)
                except torch.OutOfMemoryError as error:
                    room = self._less_room(room, together, error)
                    waiting.extendleft(reversed(together))
                else:
                    yield from zip(together, scores, strict=True)
            self.reader.keep(kept)

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

    def _beams(
        self, prompts: Sequence[Prompt], read: Sequence[Prefilled], settings: GenerationSettings
    ) -> list[list[Candidate]]:
        """Return the best beams of every prompt, the best one first."""
        best = max(prompt.rows for prompt in prompts)
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
            ][: prompt.rows]
            for prompt in prompts
        ]

    def _likelihoods(self, prompts: Sequence[Prompt], read: Sequence[Prefilled]) -> list[list[tuple[float, bool]]]:
        """Return the scores of the continuations of every prompt: one pass over all of them."""
        device = read[0].logits.device
        rows = [(each, wanted) for prompt, each in zip(prompts, read, strict=True) for wanted in prompt.continuations]
        longest = max(len(wanted.tokens) for _, wanted in rows)
        # What stands behind the end of a shorter one is seen by nobody.
        padded = [[*wanted.tokens, *wanted.tokens[-1:] * (longest - len(wanted.tokens))] for _, wanted in rows]
        tokens = torch.tensor(padded, device=device)
        lengths = torch.tensor([[each.length] for each, _ in rows], device=device)
        deltas = torch.tensor([[each.rope_delta] for each, _ in rows], device=device)
        cache = joined([each.expanded(prompt.rows) for prompt, each in zip(prompts, read, strict=True)])
        width = cache[0][0].shape[2]
        output = self.model(
            input_ids=tokens,
            attention_mask=(torch.arange(width + longest, device=device) >= width - lengths).long(),
            position_ids=lengths + deltas + torch.arange(longest, device=device),
            past_key_values=DynamicCache(cache),
            use_cache=True,
        )
        first = torch.stack([each.logits for each, _ in rows])
        logits = torch.cat([first[:, None], output.logits.float()], dim=1)
        logprobs, greedy = logits.log_softmax(-1), self._without_placeholders(logits).argmax(-1).tolist()
        of_tokens = logprobs[:, :longest].gather(-1, tokens[:, :, None]).squeeze(-1).tolist()
        of_ends = logprobs[:, :, self.family.end_ids].logsumexp(-1).tolist()
        scores = []
        for row, (_, wanted) in enumerate(rows):
            end = len(wanted.tokens)
            logprob, is_greedy = sum(of_tokens[row][:end]), greedy[row][:end] == wanted.tokens
            if wanted.ends:
                logprob += of_ends[row][end]
                is_greedy = is_greedy and greedy[row][end] in self.family.end_ids
            scores.append((logprob, is_greedy))
        found = iter(scores)
        return [list(islice(found, prompt.rows)) for prompt in prompts]

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

    def _room(self, widest: int, prompt: Prompt | None = None, read: Prefilled | None = None) -> int | None:
        """Return for how many answers there is room; what memory holds is estimated from one prompt that has been read.

        That counts caches (twice while they grow) and logits. None if it depends on memory and no prompt is given.
        """
        if self.batch_size is not None:
            room = self.batch_size * widest
        elif prompt is None or read is None:
            return None
        else:
            cache = sum(keys.nbytes + values.nbytes for keys, values in read.layers)
            row = 2 * cache * (read.length + prompt.answer_length) / read.length + 4 * read.logits.nbytes
            if prompt.settings.num_beams > 1:  # generate() keeps the scores of all tokens at every step
                row += prompt.answer_length * read.logits.nbytes
            fit = int(MEMORY_SHARE * _free_memory(read.logits.device) / row)
            room = min(fit, self.max_batch_size * widest)
        return room

    def _less_room(self, room: int | None, again: Sequence[Prompt], error: torch.OutOfMemoryError) -> int:
        """Return for how many answers there is room when these prompts did not fit in memory.

        Raises:
            AmbiError: If there is one prompt only.
        """
        self.reader.keep(())
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


def _free_memory(device: torch.device) -> int:
    """Return the free memory in bytes: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
