"""How many answers are decoded together: as many as fit in memory, and as are fastest."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import psutil
import torch

from ambi_eval.engines.hf.cache import ROOM
from ambi_eval.engines.hf.prompts import Prefilled, Prompt
from ambi_eval.errors import AmbiError

logger = logging.getLogger(__name__)

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
FIRST_ROWS = 256
# Least time and steps for which each number of answers is tried, and the speed-up that twice as many must give.
PACE_SECONDS = 1.0
PACE_STEPS = 16
PACE_GAIN = 1.05


# Number of copies of all rows' logits in memory while tokens are chosen.
LOGITS_COPIES = 4
# Share of the free memory. The rest is for the encoder, the activations, and prompts longer than the first.
MEMORY_SHARE = 0.6


def _free_memory(device: torch.device) -> int:
    """Return the free memory in bytes: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
