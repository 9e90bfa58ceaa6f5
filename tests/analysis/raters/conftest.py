"""Simulated raters whose skill and true labels are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from ambi_eval.analysis.raters.ballots import Ballots


@dataclass(frozen=True)
class Simulated:
    ballots: Ballots
    truth: np.ndarray  # of each ballot's clip
    skill: np.ndarray  # probability that each rater knows the truth


@pytest.fixture(scope="package")
def simulated() -> Simulated:
    """400 clips by 20 speakers, five of 30 raters each; a rater who does not know the truth says anything."""
    rng = np.random.default_rng(1)
    clips, raters, labels, panel = 400, 30, 4, 5
    truth = rng.integers(labels, size=clips)
    skill = rng.choice([0.2, 0.6, 0.95], size=raters, p=[0.2, 0.4, 0.4])
    clip = np.repeat(np.arange(clips), panel)
    rater = np.concatenate([rng.choice(raters, panel, replace=False) for _ in range(clips)])
    knows = rng.random(len(clip)) < skill[rater]
    said = np.where(knows, truth[clip], rng.integers(labels, size=len(clip)))
    names = [f"rater{number}" for number in range(raters)]
    ballots = Ballots(clip, rater, np.eye(labels)[said], names, [f"speaker{number % 20}" for number in clip])
    return Simulated(ballots, truth[clip], skill)
