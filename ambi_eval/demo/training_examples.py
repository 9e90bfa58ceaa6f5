"""Training examples of `ambi-tiny`: every prompt of the demo's strategies, with a good answer to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ambi_eval.config.load import read_yaml, resolve, strategy_names
from ambi_eval.config.prompts import AUDIO_MARK, Prompts
from ambi_eval.config.tasks import APART
from ambi_eval.demo.corpus import Utterance
from ambi_eval.demo.raters import LABELS
from ambi_eval.demo.speech import Delivery
from ambi_eval.metrics.distribution import jensen_shannon_divergence_bits
from ambi_eval.paths import tasks_dir
from ambi_eval.votes import Array, shares

# The largest JSD in bits between an estimate and the votes for a rating of 5, 4, 3 and 2; above the last one it is 1.
RATING_LIMITS = (0.05, 0.12, 0.25, 0.45)

Kind = Literal["label", "shares", "reasons", "rating"]


@dataclass(frozen=True)
class Prompt:
    """One prompt of the demo.

    Attributes:
        kind: Kind of answer: one label, the shares, reasons and then the shares, or a rating of an estimate.
        text: The prompt as the task renders it, without `<audio>`; for a rating, a template over `candidate`.
    """

    kind: Kind
    text: str

    @property
    def sha256(self) -> str:
        """The hexadecimal SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def demo_prompts() -> list[Prompt]:
    """Return the distinct prompts of all strategies of the group `ambi_demo`, rendered for the demo corpus."""
    prompts = []
    for strategy in sorted(set(strategy_names()) - set(APART)):
        base = read_yaml(tasks_dir() / "demo" / "_demo.yaml")
        metadata = {**base["metadata"], "config_source": "inline"}
        settings = resolve({**base, "task": f"ambi_demo_{strategy}", "strategy": strategy, "metadata": metadata})
        templates = Prompts(settings)
        kind: Kind = "shares" if settings.readout == "shares" else "label"
        for text in templates.about(transcript=None):
            prompts.append(Prompt("reasons" if strategy == "cot" else kind, text))
        if settings.verifier:
            prompts.append(Prompt("rating", templates.rating(None, candidate="{{ candidate }}")))
    # The processor inserts the audio itself.
    return list(dict.fromkeys(replace(prompt, text=prompt.text.replace(AUDIO_MARK, "")) for prompt in prompts))


def votes_of(utterance: Utterance) -> Array:
    """Return the votes of an utterance over `LABELS`, shape (labels,)."""
    return np.array([utterance.clip.votes.get(label, 0) for label in LABELS], float)


def training_example(
    prompt: Prompt, utterance: Utterance, others: Sequence[Utterance], rng: np.random.Generator
) -> tuple[str, str]:
    """Return a prompt about an utterance, and a good answer to it, without the end-of-turn token.

    The votes of others serve as wrong estimates. `rng` chooses the rater whose vote is the label, and the estimate to
    rate.
    """
    votes = votes_of(utterance)
    share = shares(votes)
    if prompt.kind == "label":
        return prompt.text, LABELS[rng.choice(len(LABELS), p=share)]
    if prompt.kind == "shares":
        return prompt.text, as_json(in_tenths(share))
    if prompt.kind == "reasons":
        return prompt.text, f"{describe(utterance.delivery, share)} {as_json(in_tenths(share))}"
    estimate = in_tenths(draw_estimate(share, others, rng))
    return prompt.text.replace("{{ candidate }}", as_json(estimate)), rate(estimate, votes)


def in_tenths(share: Array) -> Array:
    """Return a distribution rounded to tenths that sum to 1: the largest remainders are rounded up.

    A small model does not learn hundredths that sum to 1.

    >>> in_tenths(np.array([0.125, 0.875, 0, 0])).tolist()
    [0.1, 0.9, 0.0, 0.0]
    """
    tenths = np.floor(10 * share + 1e-9)
    missing = round(10 - tenths.sum())
    tenths[np.argsort(tenths - 10 * share, kind="stable")[:missing]] += 1
    return tenths / 10


def as_json(share: Array) -> str:
    """Return a distribution over `LABELS` in the form that the prompts ask for.

    >>> as_json(np.array([0.1, 0.9, 0.0, 0.0]))
    '{"angry": 0.10, "happy": 0.90, "neutral": 0.00, "sad": 0.00}'
    """
    return "{" + ", ".join(f"{json.dumps(label)}: {p:.2f}" for label, p in zip(LABELS, share, strict=True)) + "}"


def describe(delivery: Delivery, share: Array) -> str:
    """Return two sentences: the properties of the voice, and the emotions that at least a fifth of the raters named."""
    pitch = _word(delivery.pitch, -1.0, 1.8, "low", "medium", "high")
    loudness = _word(delivery.level, -36.0, -30.0, "quiet", "medium", "loud")
    pace = _word(delivery.rate, 3.9, 4.9, "slow", "medium", "fast")
    tone = _word(delivery.tilt, -8.8, -6.2, "dark", "plain", "bright")
    heard = [LABELS[i] for i in np.argsort(-share, kind="stable") if share[i] >= 0.2]
    return (
        f"The pitch is {pitch}, the voice is {loudness}, the pace is {pace} and the tone is {tone}. "
        f"It could be {' or '.join(heard)}."
    )


def _word(value: float, low: float, high: float, below: str, between: str, above: str) -> str:
    return below if value < low else above if value > high else between


def draw_estimate(share: Array, others: Sequence[Utterance], rng: np.random.Generator) -> Array:
    """Return an estimate to rate: the true shares, these with noise, those of another clip, or uniform ones."""
    kind = rng.choice(["truth", "noisy", "other", "uniform"], p=[0.25, 0.25, 0.4, 0.1])
    if kind == "truth":
        return share
    if kind == "uniform":
        return np.full(len(LABELS), 1 / len(LABELS))
    if kind == "noisy":
        return rng.dirichlet(rng.choice([3.0, 10.0]) * share + 0.1)
    return shares(votes_of(others[int(rng.integers(len(others)))]))


def rate(estimate: Array, votes: Array) -> str:
    """Return the rating of an estimate, "1" to "5": a step function of its JSD from the votes (`RATING_LIMITS`)."""
    jsd = jensen_shannon_divergence_bits(estimate, votes)
    return str(5 - int(np.searchsorted(RATING_LIMITS, jsd)))
