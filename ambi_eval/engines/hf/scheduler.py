"""Which prompts are decoded together: they enter while there is room, and their answers leave as soon as they are done.

A `Scheduler` decides what the model does next; a `Decoder` does it. Every call of `generate` or `loglikelihoods` has a
state of its own, so that one call can go on while another one waits for its caller.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import chain, groupby
from time import perf_counter, thread_time

import psutil
import torch

from ambi_eval.answers.candidate import Candidate
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.hf.batch import Batch, Row
from ambi_eval.engines.hf.cache import ROOM
from ambi_eval.engines.hf.decoding import Decoder
from ambi_eval.engines.hf.families import Family
from ambi_eval.engines.hf.prompts import Prefilled, Prompt
from ambi_eval.errors import AmbiError

logger = logging.getLogger(__name__)

Answered = tuple[Prompt, list[Candidate]]
# For every continuation its log-likelihood, and whether greedy decoding gives it.
Likelihoods = tuple[Prompt, list[tuple[float, bool]]]


class Scheduler:
    """Answers any number of prompts with one model, as many at a time as there is room for.

    Attributes:
        decoder: The model, and what it does.
        counts: What has been computed so far: `encodes` (audios), `prefills` (prompts), `generated_tokens`.
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

    @torch.inference_mode()
    def generate(
        self, prompts: Iterable[Prompt], widest: int | None = None, of_a_clip: int | None = None
    ) -> Iterator[Answered]:
        """Yield every prompt with its answers, as soon as it is done.

        Args:
            prompts: Taken as they are needed. Those about one audio share the work on it if they follow one another.
            widest: The most answers that one prompt has. By default the number of answers of the first prompt.
            of_a_clip: The most answers that all prompts about one clip have together: there is room for `batch_size`
                times as many. The first prompt to enter when half of the room is free may exceed the room by half. By
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
            yield from generation.take_finished()

    @torch.inference_mode()
    def loglikelihoods(self, prompts: Iterable[Prompt]) -> Iterator[Likelihoods]:
        """Yield every prompt with the log-likelihoods of its continuations, computed together.

        Prompts go one by one, each from the end of its audio on. So likelihoods are the same to the last digit whatever
        else the run asks, for example if it continues a stopped run.

        Args:
            prompts: Taken as they are needed. Those about one audio share the encoding if they follow one another.

        Raises:
            AmbiError: If a prompt with a continuation is longer than the model allows, or one prompt does not fit in
                memory.
        """
        for _, about_one_clip in groupby(prompts, lambda prompt: prompt if prompt.heard is None else prompt.heard):
            for prompt in about_one_clip:
                try:
                    (prefilled,) = self.decoder.prefill([prompt], from_the_audio=True)
                    found = self.decoder.loglikelihoods(prompt, prefilled)
                except torch.OutOfMemoryError as error:
                    raise AmbiError(DOES_NOT_FIT) from error
                yield prompt, found
            del prefilled  # it kept the audio for the prompts that followed


# Said if not even one clip fits.
DOES_NOT_FIT = "the answers to one clip do not fit in memory; lower repeats, or give dtype=bfloat16"


class Room:
    """The number of answers that there is room for: those of `batch_size` clips, or as many as fit in memory.

    Attributes:
        rows: The most answers; None as long as it depends on a prompt that has not been prefilled.
        beams: The most beams; None as long as `rows` is.
    """

    def __init__(
        self, batch_size: int | None, max_batch_size: int, widest: int | None, of_a_clip: int | None = None
    ) -> None:
        """Set up for prompts of at most `widest` answers each, and all about one clip of `of_a_clip`."""
        self.batch_size = batch_size
        self.max_batch_size = max_batch_size
        self.widest = widest
        self.of_a_clip = of_a_clip or widest
        self.rows: int | None = None
        self.beams: int | None = None
        self._bytes: float | None = None  # None: not limited
        self._prompt_bytes = self._row_bytes = 0.0

    def begin(self, first: Prompt) -> None:
        """Use the size of the first prompt if no other is known."""
        self.widest = self.widest or first.rows
        self.of_a_clip = self.of_a_clip or self.widest
        if self.rows is None and self.batch_size is not None:
            self.rows, self.beams = self.batch_size * self.of_a_clip, self.batch_size * self.widest

    def measure(self, prompt: Prompt, prefilled: Prefilled, share_prefixes: bool) -> None:
        """Estimate from the first prompt what fits in memory: KV caches and logits.

        A prompt that its answers share counts once. Copies count twice, because they move whenever rows come or go.
        """
        if self.rows is not None:
            return
        widest = self.widest or prompt.rows
        cache = sum(keys.nbytes + values.nbytes for keys, values in prefilled.root.layers)
        token = cache / prefilled.root.length
        self._row_bytes = token * (prompt.answer_length + ROOM) + LOGITS_COPIES * prefilled.logits.nbytes
        if share_prefixes:
            self._prompt_bytes = token * prefilled.length
        else:
            self._row_bytes += token * (2 * prefilled.length + prompt.answer_length)
        if prompt.settings.num_beams > 1:  # generate() keeps the scores of all tokens at every step
            self._row_bytes += prompt.answer_length * prefilled.logits.nbytes
        self._bytes = MEMORY_SHARE * _free_memory(prefilled.logits.device)
        clips = int(self._bytes / (self._prompt_bytes + widest * self._row_bytes))
        self.rows = self.beams = min(clips, self.max_batch_size) * widest

    def holds(self, prompts: int, rows: int) -> bool:
        """Whether there is room for this many prompts with this many answers in all."""
        return self.rows is not None and rows <= self.rows and self._fits_memory(prompts, rows)

    def holds_beams(self, prompts: int, beams: int) -> bool:
        """Whether there is room for the searches of this many prompts with this many beams in all."""
        return self.beams is not None and beams <= self.beams and self._fits_memory(prompts, beams)

    def _fits_memory(self, prompts: int, rows: int) -> bool:
        return self._bytes is None or prompts * self._prompt_bytes + rows * self._row_bytes <= self._bytes

    def halve(self, prompts: Sequence[Prompt], error: torch.OutOfMemoryError) -> None:
        """Halve the room, because these prompts together did not fit in memory.

        Raises:
            AmbiError: If there is one prompt only.
        """
        if len(prompts) == 1 or not self.rows or not self.beams:
            raise AmbiError(DOES_NOT_FIT) from error
        logger.warning("out of memory with room for %d answers: going on with %d", self.rows, self.rows // 2)
        self.rows, self.beams = self.rows // 2, max(self.beams // 2, 1)
        if self._bytes is not None:
            self._bytes /= 2


class Pace:
    """Finds the number of answers that are decoded fastest together, by doubling it as long as that pays.

    On a GPU more answers at a time are faster up to hundreds of them; on a CPU they soon are slower.

    Attributes:
        rows: How many answers may be decoded together now.
    """

    def __init__(self, rows: int) -> None:
        """Begin with this many answers."""
        self.rows = rows
        self._found: int | None = None
        self._best = 0.0  # tokens per second
        self._start()

    def _start(self) -> None:
        self._tokens, self._seconds = 0, 0.0

    def watch(self, rows: int, tokens: int, seconds: float) -> None:
        """Record a step: its rows, its tokens and its time."""
        if self._found is not None or 2 * rows <= self.rows:  # a batch that is mostly empty says nothing
            return
        self._tokens, self._seconds = self._tokens + tokens, self._seconds + seconds
        if self._seconds < PACE_SECONDS or self._tokens < PACE_STEPS * self.rows:
            return
        speed = self._tokens / self._seconds
        if speed > PACE_GAIN * self._best:
            self._best = speed
            self.rows *= 2
        else:
            self.rows //= 2
            self._found = self.rows
            logger.info("%d answers at a time are the fastest: %.0f tokens/s", self.rows, self._best)
        self._start()


# Answers that are decoded together at first: a step reads all weights, so fewer answers take nearly as long.
FIRST_ROWS = 96
# Least time and steps for which each number of answers is tried, and the speed-up that twice as many must give.
PACE_SECONDS = 1.0
PACE_STEPS = 16
PACE_GAIN = 1.05


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

    def take_finished(self) -> Iterator[Answered]:
        """Hand out the prompts that are answered, then drop the audio that no other prompt is about."""
        finished, self.finished = self.finished, {}
        yield from finished.items()  # the caller may go on with this audio, with a verifier for example
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
        # All other rows are copied whenever rows enter. So wait until half of the room is free, then fill all of it.
        if not self.room.holds(2 * prompts, 2 * rows) or 2 * rows > self.most_rows:
            return False
        entering = [each for each in self.entering if each in self.answers]
        rows += sum(map(_rows, entering)) + prompt.rows
        return not entering or (self.room.holds(len(self.answers) + 1, rows) and rows <= self.most_rows)

    @property
    def most_rows(self) -> float:
        """The number of answers beyond which larger batches are not faster, as far as is known."""
        return math.inf if self.pace is None else self.pace.rows

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


# Number of copies of all rows' logits in memory while tokens are chosen.
LOGITS_COPIES = 4
# Share of the free memory. The rest is for the encoder, the activations, and prompts longer than the first.
MEMORY_SHARE = 0.6


def _free_memory(device: torch.device) -> int:
    """Return the free memory in bytes: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
