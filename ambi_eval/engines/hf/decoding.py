"""The steps by which a model answers prompts.

1. Encode: the audio goes through the encoder once, with the first prompt about it.
2. Prefill: every further prompt goes through the language model once. The results are its KV cache and the logits of
   the first answer token (`prefill.py`).
3. Expand: a prompt gets one row for each of its answers (`batch.py`).
4. Decode one token: every row chooses its next token; finished rows leave, the others read theirs. What rows with equal
   tokens read is read once.

Beam search hands the KV caches of several prompts to `generate()` of transformers. The log-likelihoods of given
continuations are one forward pass (`likelihoods.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, GenerationConfig, StoppingCriteria, StoppingCriteriaList

from ambi_eval.answers.candidate import Candidate
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.hf.batch import Batch, Row
from ambi_eval.engines.hf.cache import SharedCache, joined
from ambi_eval.engines.hf.families import Family
from ambi_eval.engines.hf.prefill import Prefiller
from ambi_eval.engines.hf.prompts import Prefilled, Prompt
from ambi_eval.engines.hf.thinking import Thinking
from ambi_eval.sampling.gumbel import choose_tokens, log_normalizers


class Decoder:
    """The decoding steps of one model. It keeps no prompts and no answers; it counts what it computes.

    Attributes:
        counts: What has been computed so far: `encodes` (audios), `prefills` (prompts), `generated_tokens`, and
            `thinking_tokens` (those of the generated ones that were thinking).
        thinking: Ends the thinking of rows in time.
    """

    def __init__(self, family: Family, share_prefixes: bool = True, think_end_token: str | None = None) -> None:
        """Set up for a model.

        Args:
            family: The model.
            think_end_token: What the model writes at the end of its thinking; None if it does not think.
            share_prefixes: Whether rows share the keys and values of their prompts where the model makes it possible.
                Otherwise every row gets a copy of them.
        """
        self.family = family
        self.model = family.model
        self.counts: Counter[str] = Counter()
        self.placeholder_ids = torch.tensor(family.placeholder_ids, dtype=torch.long, device=self.model.device)
        self._any_tokens: list[int] = family.processor.tokenizer.encode("a", add_special_tokens=False)
        self._completing: dict[
            tuple[int, tuple[str, ...]], bool
        ] = {}  # whether a token may be the end of a stop string
        self.thinking = Thinking(family, think_end_token)
        self.prefiller = Prefiller(family, self.counts, share_prefixes)

    @property
    def shares_prefixes(self) -> bool:
        """Whether rows share the keys and values of their prompts."""
        return self.prefiller.shares_prefixes

    def prefill(self, prompts: Sequence[Prompt]) -> list[Prefilled]:
        """Return the KV cache of every prompt, and the logits of its first answer token.

        Raises:
            AmbiError: If a prompt with its answer is longer than the model allows.
        """
        return self.prefiller.prefill(prompts, self.prefiller.encode(prompts))

    def expand(self, batch: Batch, arrivals: Sequence[tuple[Prefilled, Sequence[Row]]]) -> None:
        """Give each of these prompts its rows in the batch, one for each answer."""
        if arrivals:
            batch.add(arrivals, self.shares_prefixes)

    def decode_one_token(self, batch: Batch) -> None:
        """Choose the next token of every row, let finished rows leave, and let the model read the others' tokens."""
        chosen = self._choose(batch)
        # The only wait for the device in a step; float64 holds every token id exactly.
        tokens, logprobs = torch.stack([chosen.to(batch.logprobs.dtype), batch.logprobs]).tolist()
        for row, token, logprob in zip(batch.rows, map(int, tokens), logprobs, strict=True):
            row.tokens.append(token)
            row.logprob = logprob
            self.counts["generated_tokens"] += 1
            if row.thinks:
                self.counts["thinking_tokens"] += 1
                self.thinking.note(row)
            elif self._ended(row.answer, row.settings):
                row.finish = "stop"
            elif len(row.answer) == row.settings.max_gen_toks:
                row.finish = "length"
        going_on = [number for number, row in enumerate(batch.rows) if row.finish is None]
        if len(going_on) < len(batch.rows):
            batch.keep(going_on)
            chosen = chosen[torch.tensor(going_on, dtype=torch.long, device=chosen.device)]
        if batch.rows:
            batch.advance(chosen)

    def _choose(self, batch: Batch) -> Tensor:
        """Return the next token of every row, each chosen by the settings of its row, shape (rows,).

        Its log-likelihood is added to that of the row.
        """
        logits = batch.logits
        normalizers = log_normalizers(logits)
        logits.index_fill_(
            -1, self.placeholder_ids.to(logits.device), -torch.inf
        )  # audio placeholder tokens are never chosen
        if batch.branch is not None:
            logits, normalizers = logits[batch.branch], normalizers[batch.branch]
        if batch.by_settings is None:
            chosen = choose_tokens(logits, batch.rows[0].settings, batch.keys, batch.steps, normalizers)
        else:
            chosen = torch.empty_like(batch.steps)
            for settings, rows in batch.by_settings.items():
                chosen[rows] = choose_tokens(
                    logits[rows], settings, batch.keys[rows], batch.steps[rows], normalizers[rows]
                )
        self.thinking.end_where_due(batch.rows, chosen)
        batch.logprobs += logits.gather(-1, chosen[:, None]).squeeze(-1) - normalizers
        return chosen

    def search_beams(
        self, prompts: Sequence[Prompt], prefilled: Sequence[Prefilled], settings: GenerationSettings
    ) -> list[list[Candidate]]:
        """Return the best beams of every prompt, the best one first."""
        best = max(prompt.rows for prompt in prompts)
        longest = max(prompt.length for prompt in prefilled)
        ids = torch.cat([pad(prompt.input_ids, (longest - prompt.length, 0)) for prompt in prefilled])
        lengths = torch.tensor([[prompt.length] for prompt in prefilled], device=ids.device)
        cache: DynamicCache
        attention: AbstractContextManager[None]
        if self.shares_prefixes:
            # generate() needs at least one unread token.
            cache = SharedCache([each for each in prefilled for _ in range(settings.num_beams)], unread=1)
            attention = cache.attended(self.model)
        else:
            cache = DynamicCache(joined([each.expanded(settings.num_beams, each.length - 1) for each in prefilled]))
            attention = nullcontext()
        with attention:
            output = self.model.generate(
                input_ids=ids,
                attention_mask=(torch.arange(longest, device=ids.device) >= longest - lengths).long(),
                past_key_values=cache,
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

    def candidates(self, rows: Sequence[Row]) -> list[Candidate]:
        """Return the answers of finished rows, numbered in this order."""
        return [self._answer(row, number) for number, row in enumerate(rows)]

    def _answer(self, row: Row, number: int) -> Candidate:
        """Return the answer of a finished row, without its thinking."""
        length, thought_logprob = row.thought
        logprob: float | None = row.logprob - thought_logprob
        if not length and (length := self.thinking.length(row.tokens)):
            # It spent tokens of its answer on thinking, so the log-likelihood of the answer alone is not known.
            self.counts["thinking_tokens"] += length
            logprob = None
        answer = self._candidate(row.tokens[length:], logprob, number, row.settings)
        answer.thinking_tokens = length
        return answer

    def _ended(self, tokens: Sequence[int], settings: GenerationSettings) -> bool:
        """Whether the newest token ends the turn or completes a stop string."""
        if tokens[-1] in self.family.end_ids:
            return True
        if not settings.until or not self._may_complete(tokens[-1], settings.until):
            return False
        # A token is at least one byte of text, so a string that the newest token completes is in the tail. The tokens
        # added to it are for tokenizers that drop the space in front of the first one.
        tail = self._text(tokens[-max(len(string.encode()) for string in settings.until) - TAIL_MARGIN :])
        return any(string in tail for string in settings.until)

    def _may_complete(self, token: int, until: tuple[str, ...]) -> bool:
        """Whether a token may be the end of a stop string: its text has the last character of one, or a part of it."""
        if (token, until) not in self._completing:
            # Decode it after another token, because some tokenizers drop the space in front of the first one.
            before = self._text(self._any_tokens)
            text = self._text([*self._any_tokens, token])
            known = text.startswith(before) and REPLACEMENT not in text
            new = text[len(before) :]
            self._completing[token, until] = not known or any(string[-1] in new for string in until)
        return self._completing[token, until]

    def _text(self, tokens: Sequence[int]) -> str:
        tokenizer = self.family.processor.tokenizer
        return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _candidate(
        self, tokens: list[int], logprob: float | None, index: int, settings: GenerationSettings
    ) -> Candidate:
        """Return the answer of these tokens, its text cut before the first stop string."""
        text = self._text([token for token in tokens if token not in self.family.end_ids])
        cut = min((text.find(string) for string in settings.until if string in text), default=len(text))
        stopped = not tokens or self._ended(tokens, settings) or cut < len(text)
        return Candidate(text[:cut], logprob, len(tokens), "stop" if stopped else "length", index)


TAIL_MARGIN = 4
# The character that a tokenizer writes for the bytes of an unfinished character.
REPLACEMENT = "\ufffd"


class StopOnStrings(StoppingCriteria):
    """Tells beam search whether a beam has reached one of the stop strings."""

    def __init__(self, ended: Callable[[list[int]], bool], prompt_length: int) -> None:
        """Keep the test for the end of an answer, and the position where answers begin."""
        self.ended = ended
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Return for every beam whether it is finished, shape (beams,)."""
        answers = input_ids[:, self.prompt_length :].tolist()
        return torch.tensor([self.ended(tokens) for tokens in answers], device=input_ids.device)
