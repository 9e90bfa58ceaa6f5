"""Lets the model answer again: the only way to find a submission that was forged without contradicting itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ambi_eval.answers.candidate import Candidate
from ambi_eval.config.model_arguments import HFAudioArguments
from ambi_eval.errors import AmbiError
from ambi_eval.harness.again import answers_again, load_task
from ambi_eval.leaderboard.schema import Card
from ambi_eval.leaderboard.submission import Pools
from ambi_eval.leaderboard.verify import overrides
from ambi_eval.models.hf_audio import HFAudio

BACKEND = "hf-audio"
# On a CPU in float32 every answer comes out again. Elsewhere rounding changes some: so many must be the same.
AGREEING_ELSEWHERE = 0.8
# Likelihoods in float32 on CPUs, and elsewhere.
LOGPROB_TOLERANCE, LOGPROB_TOLERANCE_ELSEWHERE = 1e-3, 0.1


@dataclass(frozen=True)
class Rerun:
    """How many of the answers came out again.

    Attributes:
        compared: Number of answers that were generated again.
        agreeing: Number of those that are what was submitted.
        required: Share that must be.
        example: A clip whose answer is another now, with both answers; None if there is none.
    """

    compared: int
    agreeing: int
    required: float
    example: str | None

    @property
    def confirmed(self) -> bool:
        """Whether enough came out again."""
        return self.agreeing >= self.required * self.compared


def rerun(card: Card, pools: Mapping[str, Pools], count: int, seed: int) -> dict[str, Rerun]:
    """Return how many of some answers come out again, by task.

    Args:
        card: What the submission says of itself: the model, its arguments, the seeds.
        pools: The answers, by task and clip.
        count: How many answers of each task to generate again.
        seed: Of their choice. Whoever submits must not know it, so it is not a constant.

    Raises:
        AmbiError: If the model cannot be had, or is another one than the submission says.
    """
    model = _model(card)
    digest = model.engine.identity["digest"]
    if card.model.digest != digest:
        raise AmbiError(f"{card.model.id} has other weights than were submitted (digest {digest}).")
    rng = np.random.default_rng(seed)
    return {name: _rerun_task(model, card, name, pools[name], count, rng) for name in pools}


def _model(card: Card) -> HFAudio:
    backend = card.backend
    if backend.name != BACKEND:
        raise AmbiError(f"only models of {BACKEND} can be run again, this one ran with {backend.name}.")
    if refused := backend.arguments.keys() - set(HFAudioArguments.published()):
        raise AmbiError(f"the model argument '{min(refused)}' is not allowed in a re-run.")
    arguments: dict[str, Any] = {"dtype": backend.dtype or "auto", **backend.arguments}
    return HFAudio(**{**arguments, "seed": card.seeds.sampling, "store": "none"})


def _rerun_task(model: HFAudio, card: Card, name: str, pools: Pools, count: int, rng: np.random.Generator) -> Rerun:
    stated = card.tasks[name]
    task = load_task(name, dict(overrides(stated)))
    here = sorted(clip for clip in task.rows if clip in pools)
    drawn = [(clip, k) for clip in here for k, one in enumerate(pools[clip]) if one.finish != "not_drawn"]
    if not drawn:
        raise AmbiError(f"{name}: the audio of its clips is not on this machine, so nothing can be run again.")
    chosen = [drawn[number] for number in rng.choice(len(drawn), size=min(count, len(drawn)), replace=False)]
    generation = stated.generation.model_dump(mode="json") if stated.generation else None
    clips = sorted({clip for clip, _ in chosen})
    again = answers_again(model, task, clips, generation, card.system_instruction)
    same_place = model.engine.provenance["device"] == "cpu" == card.backend.device and card.backend.dtype == "float32"
    tolerance = LOGPROB_TOLERANCE if same_place else LOGPROB_TOLERANCE_ELSEWHERE
    changed = [(clip, k) for clip, k in chosen if not _agree(pools[clip][k], again[clip][k], tolerance)]
    example = None
    if changed:
        clip, k = changed[0]
        example = f"{clip}: {_told(pools[clip][k])} was submitted, {_told(again[clip][k])} comes out"
    return Rerun(len(chosen), len(chosen) - len(changed), 1.0 if same_place else AGREEING_ELSEWHERE, example)


def _agree(submitted: Candidate, again: Candidate, tolerance: float) -> bool:
    """Return whether two answers are the same: text, tokens, likelihood and rating, as far as these were submitted."""
    if submitted != again or submitted.n_tokens != again.n_tokens:
        return False
    pairs = ((submitted.logprob, again.logprob), (submitted.rating, again.rating))
    return all(a is None or b is None or abs(a - b) <= tolerance for a, b in pairs)


def _told(answer: Candidate) -> str:
    likelihood = "" if answer.logprob is None else f" (log-likelihood {answer.logprob:.3f})"
    return f"{answer!r:.80}{likelihood}"
