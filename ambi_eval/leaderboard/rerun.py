"""Lets the model answer again: the only way to find a forged submission that contradicts itself nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ambi_eval.answers.candidate import Candidate
from ambi_eval.config.model_arguments import HFAudioArguments
from ambi_eval.errors import AmbiError
from ambi_eval.harness.again import Again, answers_again, likelihoods_again, load_task
from ambi_eval.leaderboard.schema import Card
from ambi_eval.leaderboard.submission import Pools
from ambi_eval.leaderboard.verify import overrides
from ambi_eval.models.hf_audio import HFAudio

BACKEND = "hf-audio"
# Share of the answers that a re-run must give again; all of them in float32 on CPUs. Other hardware and lower precision
# round differently, which changes a sampled answer if two tokens are nearly equally likely.
AGREEING_IN_FLOAT32, AGREEING_ELSEWHERE = 0.98, 0.8
# Tolerance of log-likelihoods in nats: in float32 on CPUs, and elsewhere.
LOGPROB_TOLERANCE, LOGPROB_TOLERANCE_ELSEWHERE = 1e-3, 0.1
# A submission with this `evidence` is refused; an honest one reaches it with a probability of at most 1 / REFUSED_AT.
REFUSED_AT = 1000.0
# The bets of `evidence`: stakes as shares of the capital, and scales of the log-likelihood difference in nats.
STAKES, SCALES = (-0.9, -0.5, -0.25, 0.25, 0.5, 0.9), (1.0, 4.0, 16.0)


@dataclass(frozen=True)
class Rerun:
    """The result of a re-run.

    Attributes:
        required: Share that must be equal.
        example: A clip whose answer differs now, with both answers; None if all are equal.
        evidence: Odds against the submitted answers, from `evidence`; 1 if all are equal or none was sampled.
    """

    compared: int
    agreeing: int
    required: float
    example: str | None
    evidence: float = 1.0

    @property
    def confirmed(self) -> bool:
        """Whether enough answers are equal, and the model could have given the others."""
        return self.agreeing >= self.required * self.compared and self.evidence < REFUSED_AT

    @property
    def reason(self) -> str:
        """Why it is not confirmed, for the end of a sentence."""
        if self.agreeing < self.required * self.compared:
            return f"{self.required:.0%} must; {self.example}"
        return (
            f"and the others are no samples of this model: their likelihoods give odds of {self.evidence:.2g} to 1 "
            f"against it ({REFUSED_AT:g} to 1 are refused); {self.example}"
        )


def evidence(differences: Sequence[float]) -> float:
    """Return the odds that submitted answers are not samples of a model, from the model's likelihoods of them.

    The model draws each answer again, with the same random numbers. If the submitted answers are its own, only rounding
    decides which run gave which of two texts, so the difference of their log-likelihoods is positive or negative with
    equal probability. Then no bet on the sign wins on average: each bet multiplies a capital of 1 by
    `1 + stake * tanh(difference / scale)`, which has mean 1. The mean capital over several stakes and scales is a
    martingale, so the probability that it ever reaches C is at most 1/C (Ville's inequality), for any number of
    answers. Made-up answers are less likely than the model's own, and answers of a lower temperature are more likely;
    both let the capital grow.

    Args:
        differences: Log-likelihood (nats) of each new answer minus that of the submitted one, in random order; 0 if the
            two are equal.

    Returns:
        The largest capital, at least 1.
    """
    won = np.tanh(np.array(differences, dtype=np.float64)[:, None, None] / np.array(SCALES)[:, None])
    capital = np.exp(np.cumsum(np.log1p(won * np.array(STAKES)), axis=0)).mean(axis=(1, 2))
    return float(np.max(capital, initial=1.0))


def rerun(card: Card, pools: Mapping[str, Pools], count: int, seed: int) -> dict[str, Rerun]:
    """Generate `count` answers of each task again, and return the results by task.

    `pools` are the answers by task and clip. The seed chooses among them; submitters must not know it before.

    Raises:
        AmbiError: If the model cannot be loaded, or is not the submitted one.
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
    sampled = task.settings.generation(generation).sampled
    in_float32 = card.backend.dtype == "float32"
    same_place = in_float32 and model.engine.provenance["device"] == "cpu" == card.backend.device
    tolerance = LOGPROB_TOLERANCE if same_place else LOGPROB_TOLERANCE_ELSEWHERE
    changed = [(clip, k) for clip, k in chosen if not _agree(pools[clip][k], again[clip][k].answer, tolerance)]
    example = None
    if changed:
        clip, k = changed[0]
        example = f"{clip}: {_told(pools[clip][k])} was submitted, now the model gives {_told(again[clip][k].answer)}"
    return Rerun(
        compared=len(chosen),
        agreeing=len(chosen) - len(changed),
        required=1.0 if same_place else AGREEING_IN_FLOAT32 if in_float32 else AGREEING_ELSEWHERE,
        example=example,
        evidence=evidence(_differences(model, chosen, pools, again)) if sampled else 1.0,
    )


def _differences(
    model: HFAudio, chosen: Sequence[tuple[str, int]], pools: Pools, again: Mapping[str, Sequence[Again]]
) -> list[float]:
    """Return the log-likelihood of each new answer minus that of the submitted one; 0 if equal, or if one is empty."""
    pairs = [(pools[clip][k], again[clip][k]) for clip, k in chosen]
    other = [theirs != ours.answer and bool(theirs.strip() and ours.answer.strip()) for theirs, ours in pairs]
    asked = [
        (ours.arguments, answer)
        for (theirs, ours), differ in zip(pairs, other, strict=True)
        if differ
        for answer in (ours.answer, theirs)
    ]
    likelihoods = iter(likelihoods_again(model, asked) if asked else ())
    return [next(likelihoods) - next(likelihoods) if differ else 0.0 for differ in other]


def _agree(submitted: Candidate, again: Candidate, tolerance: float) -> bool:
    """Return whether two answers are the same: text, tokens, and what both have of likelihood, rating and thinking."""
    if submitted != again or submitted.n_tokens != again.n_tokens:
        return False
    names = ("logprob", "rating", "thinking_tokens")
    pairs = [(getattr(submitted, name), getattr(again, name)) for name in names]
    return all(a is None or b is None or abs(a - b) <= tolerance for a, b in pairs)


def _told(answer: Candidate) -> str:
    likelihood = "" if answer.logprob is None else f" (log-likelihood {answer.logprob:.3f})"
    return f"{answer!r:.80}{likelihood}"
