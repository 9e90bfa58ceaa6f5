"""Which prompts are decoded together: they enter while there is room, and their answers leave as soon as they are done.

A `Scheduler` decides what the model does next; a `Decoder` does it. Every call of `generate` or `loglikelihoods` has a
state of its own, so that one call can go on while another one waits for its caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import chain
from time import perf_counter, thread_time

import torch

from ambi_eval.answers.candidate import Candidate
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.base import Likelihood
from ambi_eval.engines.hf.batch import Batch, Row
from ambi_eval.engines.hf.decoding import Decoder
from ambi_eval.engines.hf.families import Family
from ambi_eval.engines.hf.likelihoods import loglikelihoods
from ambi_eval.engines.hf.prefill import TOGETHER, TOKENS_AT_ONCE, in_passes
from ambi_eval.engines.hf.prompts import Prefilled, Prompt
from ambi_eval.engines.hf.room import DOES_NOT_FIT, FIRST_ROWS, Pace, Room
from ambi_eval.errors import AmbiError

Answered = tuple[Prompt, list[Candidate]]
Likelihoods = tuple[Prompt, list[Likelihood]]


class Scheduler:
    """Answers any number of prompts with one model, as many at a time as there is room for.

    Attributes:
        decoder: The model, and what it does.
        counts: What has been computed so far: `encodes` (audios), `prefills` (prompts), `generated_tokens`.
        finished: Answered prompts that `generate` has not handed out yet.
    """

    def __init__(
        self,
        family: Family,
        batch_size: int | None = 1,
        max_batch_size: int = 64,
        share_prefixes: bool = True,
        think_end_token: str | None = None,
    ) -> None:
        """Set up for a model.

        Args:
            family: The model.
            batch_size: Clips that are decoded together, all answers of a clip at once; None: as many as fit in memory.
            max_batch_size: The most that `None` may choose.
            share_prefixes: Whether answers share the keys and values of their prompt where the model makes it possible.
                Otherwise every answer gets a copy of them.
            think_end_token: What the model writes at the end of its thinking; None if it does not think.
        """
        self.decoder = Decoder(family, share_prefixes, think_end_token)
        self.counts: Counter[str] = self.decoder.counts
        self.batch_size = batch_size
        self.max_batch_size = max_batch_size
        self.finished: dict[Prompt, list[Candidate]] = {}

    @torch.inference_mode()
    def generate(
        self, prompts: Iterable[Prompt], widest: int | None = None, of_a_clip: int | None = None
    ) -> Iterator[Answered]:
        """Yield every prompt with its answers, as soon as it is done.

        Args:
            prompts: Taken as they are needed. Those about one audio share the work on it if they follow one another.
            widest: The most answers that one prompt has. By default the number of answers of the first prompt.
            of_a_clip: The most answers that all prompts about one clip have together: there is room for `batch_size`
                times as many. A prompt that enters when half of the room is free may exceed the room by half. By
                default `widest`.

        Raises:
            AmbiError: If a prompt with its answer is longer than the model allows, or one prompt does not fit in
                memory.
        """
        generation = _Generation(self.decoder, prompts, Room(self.batch_size, self.max_batch_size, widest, of_a_clip))
        while generation.goes_on:
            try:
                generation.advance()
            except torch.OutOfMemoryError as error:
                generation.begin_again(error)
            while generation.finished:  # the caller may go on with their audio, with a verifier for example
                self.finished = generation.finished  # another call may have changed it
                prompt = next(iter(self.finished))
                yield prompt, self.finished.pop(prompt)
            generation.drop_audio()

    @torch.inference_mode()
    def loglikelihoods(self, prompts: Iterable[Prompt]) -> Iterator[Likelihoods]:
        """Yield every prompt with the log-likelihoods of its continuations.

        All prompts about as many clips as `batch_size` says are one forward pass. What else is in it changes
        likelihoods by the rounding of float32 alone.

        Args:
            prompts: Taken as they are needed. Those about one audio share the encoding if they follow one another.

        Raises:
            AmbiError: If a prompt with a continuation is longer than the model allows, or one prompt does not fit in
                memory.
        """
        held: list[Prefilled] = []

        def fit(some: Sequence[Prompt]) -> bool:
            clips = {prompt if prompt.heard is None else prompt.heard for prompt in some}
            return len(clips) <= (self.batch_size or TOGETHER) and sum(map(self._unread, some)) <= TOKENS_AT_ONCE

        for some in in_passes(prompts, fit):
            yield from zip(some, self._loglikelihoods(some, held), strict=True)

    def _unread(self, prompt: Prompt) -> int:
        """Return how many tokens of a prompt and its continuations come after its audio."""
        return self.decoder.prefiller.after_audio(prompt) + sum(len(each.tokens) for each in prompt.continuations)

    def _loglikelihoods(self, prompts: Sequence[Prompt], held: list[Prefilled]) -> list[list[Likelihood]]:
        """Return the likelihoods of each prompt, half of them at a time if they do not fit in memory together.

        `held` has the audio of those before, from which these may go on; their own takes its place.
        """
        try:
            held[:] = self.decoder.prefiller.encode(prompts)
            return loglikelihoods(self.decoder.prefiller, prompts, held)
        except torch.OutOfMemoryError as error:
            if len(prompts) == 1:
                raise AmbiError(DOES_NOT_FIT) from error
        half = len(prompts) // 2
        return [*self._loglikelihoods(prompts[:half], held), *self._loglikelihoods(prompts[half:], held)]


class _Generation:
    """One call of `Scheduler.generate`.

    Attributes:
        ahead: The next prompt to enter, or None where there are no more.
        entering: Prompts that enter in this step.
        answers: The prompts that are being decoded, with the rows of their answers.
        searches: Beam searches that wait for others of the same settings.
        prefilled: The prefilled prompts of these searches.
        audio: For each `Prompt.heard`, a prompt from which the next ones continue.
        finished: Answered prompts that have not yet been handed out.
        pace: Finds the fastest number of answers at a time, if the room depends on the memory.
        clock: Returns the time by which it does so, in seconds.
    """

    def __init__(self, decoder: Decoder, prompts: Iterable[Prompt], room: Room) -> None:
        self.decoder = decoder
        self.room = room
        # On a CPU other programs disturb the time of this thread less than that on the clock.
        self.clock = thread_time if decoder.model.device.type == "cpu" else perf_counter
        self.finished: dict[Prompt, list[Candidate]] = {}
        self._begin(iter(prompts))
        if self.ahead is not None:
            room.begin(self.ahead)
        self.pace = Pace(max(room.widest or 1, FIRST_ROWS)) if room.batch_size is None else None

    def _begin(self, coming: Iterator[Prompt]) -> None:
        self.coming = coming
        self.ahead = next(coming, None)
        self.entering: list[Prompt] = []
        self.answers: dict[Prompt, list[Row]] = {}
        self.searches: dict[GenerationSettings, list[Prompt]] = {}
        self.prefilled: dict[Prompt, Prefilled] = {}
        self.audio: dict[Hashable, Prefilled] = {}
        self.batch = Batch(self.decoder.model)

    @property
    def goes_on(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self.ahead or self.answers or self.searches)

    def advance(self) -> None:
        """Let prompts enter, decode one token of every row, and run beam searches once enough of them wait."""
        self._admit()
        self._prefill()
        if rows := len(self.batch.rows):
            before, start = self.decoder.counts["generated_tokens"], self.clock()
            self.decoder.decode_one_token(self.batch)
            if self.pace is not None:
                tokens = self.decoder.counts["generated_tokens"] - before
                self.pace.watch(rows, tokens, self.clock() - start)
        self._search()
        for prompt in [prompt for prompt, rows in self.answers.items() if all(row.finish for row in rows)]:
            self.finished[prompt] = self.decoder.candidates(self.answers.pop(prompt))

    def drop_audio(self) -> None:
        """Drop the audio that no unfinished prompt is about."""
        left = chain(self.answers, *self.searches.values(), [self.ahead] if self.ahead else [])
        heard = {prompt.heard for prompt in left}
        self.audio = {each: prefilled for each, prefilled in self.audio.items() if each in heard}

    def begin_again(self, error: torch.OutOfMemoryError) -> None:
        """Restart all unfinished answers with half of the room; the restart does not change any answer."""
        unfinished = [*self.answers, *chain(*self.searches.values()), *([self.ahead] if self.ahead else [])]
        coming = self.coming
        self._begin(iter(()))  # frees the memory
        self.room.halve(unfinished, error)
        self._begin(chain(unfinished, coming))

    def _admit(self) -> None:
        """Let prompts enter while there is room."""
        while self.ahead and self._fits(self.ahead):
            self.entering.append(self.ahead)
            if self.ahead.settings.num_beams > 1:
                self.searches.setdefault(self.ahead.settings, []).append(self.ahead)
            else:
                self.answers[self.ahead] = [Row(key, self.ahead.settings) for key in self.ahead.keys]
            self.ahead = next(self.coming, None)

    def _fits(self, prompt: Prompt) -> bool:
        if not self.answers and not self.searches:
            return True
        if self.searches and self.decoder.family.counts_positions:
            return False
        if prompt.settings.num_beams > 1:
            return not self._is_full(prompt.settings)
        rows, prompts = len(self.batch.rows), len(self.answers) - len(self.entering)
        entering = [each for each in self.entering if each in self.answers]
        if entering:
            return self._holds(len(self.answers) + 1, rows + sum(map(_rows, entering)) + prompt.rows)
        # Prompts cost a forward pass whenever some enter. So wait until half of the room is free, then fill all of it.
        return self._holds(2 * prompts, 2 * rows)

    def _holds(self, prompts: int, rows: int) -> bool:
        """Whether there is room for these answers, and as many are faster than fewer, as far as is known."""
        return self.room.holds(prompts, rows) and (self.pace is None or rows <= self.pace.rows)

    def _is_full(self, settings: GenerationSettings) -> bool:
        """Whether no other beam search can join those with these settings."""
        searches = len(self.searches.get(settings, ())) + 1
        # If the model counts positions itself, generate() can continue only one prompt at a time.
        return self.decoder.family.counts_positions or not self.room.holds_beams(
            searches, searches * settings.num_beams
        )

    def _prefill(self) -> None:
        """Prefill the prompts that enter, and expand each one that is not a beam search to its rows."""
        if not self.entering:
            return
        prefilled = dict(zip(self.entering, self.decoder.prefill(self.entering), strict=True))
        self.room.measure(self.entering[0], prefilled[self.entering[0]], self.decoder.shares_prefixes)
        self.audio |= {prompt.heard: each.audio for prompt, each in prefilled.items()}
        self.decoder.expand(
            self.batch, [(each, self.answers[prompt]) for prompt, each in prefilled.items() if prompt in self.answers]
        )
        self.prefilled |= {prompt: each for prompt, each in prefilled.items() if prompt not in self.answers}
        self.entering = []

    def _search(self) -> None:
        """Run the groups of beam searches that no other search can join."""
        no_more = self.ahead is None or not (self.answers or self._fits(self.ahead))
        for settings, group in list(self.searches.items()):
            if no_more or self._is_full(settings):
                beams = self.decoder.search_beams(group, [self.prefilled[each] for each in group], settings)
                self.finished |= zip(group, beams, strict=True)
                self.searches.pop(settings)
                for prompt in group:
                    self.prefilled.pop(prompt)


def _rows(prompt: Prompt) -> int:
    return prompt.rows
