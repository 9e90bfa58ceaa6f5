"""A question about a clip: its prompt, the number of its answers, how they are rated, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ambi_eval.audio import AudioSpan
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.base import Job
from ambi_eval.inference.stopping import StopRule

CANDIDATE_MARK = "<candidate>"


@dataclass(frozen=True)
class RatingScale:
    """How a verifier rates answers."""

    prompt: str  # what the verifier is asked, with `<audio>` and `<candidate>`
    ratings: tuple[str, ...]  # the possible ratings, as text: `1`, `2` ...


@dataclass(eq=False)
class Question:
    """A prompt with its audios; its answers are a pool."""

    prompt: str  # the text, with one `<audio>` where each audio goes
    spans: tuple[AudioSpan, ...] = ()  # the audios
    settings: GenerationSettings = field(default_factory=GenerationSettings)  # how its answers are generated
    pool_size: int = 1  # number of answers that the strategy wants
    scale: RatingScale | None = None  # how a verifier rates the answers; None without a verifier
    stop_rule: StopRule | None = None  # when an adaptive strategy has enough answers; None if it wants all
    task: str = "a prompt"  # the task that asks, for messages

    @property
    def n_answers(self) -> int:
        """Number of answers to make; greedy answers are all the same, so it is 1 for them."""
        return self.pool_size if self.settings.sampled or self.settings.num_beams > 1 else 1

    def job(self, seed: int, numbers: Sequence[int] | None = None) -> Job:
        """Return the job that makes the answers with these numbers; by default all."""
        numbers = range(self.n_answers) if numbers is None else numbers
        return Job(self.prompt, self.spans, self.settings, seed, numbers, task=self.task)
