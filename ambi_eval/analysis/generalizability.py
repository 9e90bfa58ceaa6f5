"""How reliable a ranking of systems is (a generalizability study), and how much more data it would need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ambi_eval.analysis.estimate import UNDEFINED, Estimate
from ambi_eval.analysis.variance_components import Effect, joint_codes, variance_components
from ambi_eval.metrics.clustered import UNKNOWN
from ambi_eval.votes import Array

# The design of the last factor:
#     crossed: all systems and clips have the same levels (wordings of a prompt);
#     raters: all systems have the same levels, and each clip has some of them (each rater heard some of the clips);
#     of clips: nested in clips, the same for all systems (ballots of unknown raters);
#     of answers: nested in systems and clips (sampled answers).
Kind = Literal["crossed", "raters", "of clips", "of answers"]
TARGET = 0.9


@dataclass(frozen=True)
class Share:
    """The share of one effect in the variance of single scores.

    Attributes:
        effect: Its factors, such as `("system", "clip")`. The last effect of a study includes the residual.
        variance: The variance itself; an estimate may be below 0.
    """

    effect: Effect
    share: Estimate
    variance: float


@dataclass(frozen=True)
class Study:
    """The result of a generalizability study of some systems.

    Attributes:
        factor: What varies besides systems, speakers and clips, such as `wording` or `seed`; empty if nothing does.
        levels: Number of clips, of speakers if they are known, and of levels of the factor (the mean number per clip).
        generalizability: The reliability of the ranking, 0 to 1: the share of true differences in the variance of the
            observed differences between systems. Undefined for one system.
        dependability: The same for the scores themselves instead of their order.
        most_by: By name of a factor, the reliability of the ranking with infinitely many of its levels.
        needed: By name of a factor, the number of its levels that gives the ranking a reliability of .9 if nothing else
            changes; infinite if no number does. More clips come with proportionally more speakers.
        left_out: Number of clips of unknown speakers, which are not in the study.
    """

    factor: str
    systems: Sequence[str]
    levels: dict[str, float]
    shares: Sequence[Share]
    generalizability: Estimate
    dependability: Estimate
    most_by: dict[str, Estimate]
    needed: dict[str, Estimate]
    left_out: int


def study(
    scores: Array,
    systems: Sequence[str],
    speakers: Sequence[str],
    factor: str = "",
    kind: Kind = "crossed",
    levels: NDArray[np.generic] | None = None,
) -> Study:
    """Return the generalizability study of the scores of some systems on the same clips.

    Every effect is random: the study could have used other clips of other speakers, other wordings and other systems of
    the same kind. The reliability of the ranking is var(system) / (var(system) + error). The error is the variance of
    the mean scores due to all interactions of the system with other factors (Brennan's relative error). Effects that
    are the same for all systems do not change the order; they count in the dependability only.

    Source: Brennan (2001), Generalizability theory.

    Args:
        scores: Shape (systems, clips), or (systems, clips, levels) with one more factor; NaN where a clip has fewer
            levels.
        systems: The name of each system.
        speakers: The cluster of each clip, usually its speaker; clips of unknown clusters are left out.
        factor: The name of the last axis; empty if there is none.
        kind: The design of that factor.
        levels: For `raters`, the rater of each level, shape (clips, levels).

    Raises:
        ValueError: If there are fewer than two clips.
    """
    values = scores if scores.ndim == 3 else scores[:, :, None]
    known = [number for number, speaker in enumerate(speakers) if speaker != UNKNOWN]
    values, of_clip = values[:, known], np.array([speakers[number] for number in known])
    if len(known) < 2:
        raise ValueError("a study of one clip cannot tell its variance from that of others")
    system, clip, place = (axis[~np.isnan(values)] for axis in np.indices(values.shape))
    level = place if kind == "crossed" else clip * values.shape[2] + place
    if levels is not None:
        level = levels[known][clip, place]
    factors = {"system": system, "speaker": of_clip[clip], "clip": clip, factor or "level": level}
    effects = _effects(factor, kind, several_systems=len(systems) > 1, speakers=1 < len(set(of_clip)) < len(known))
    found = variance_components(values[~np.isnan(values)], factors, effects)
    # For each effect, how much a unit of its variance adds to the variance of a system's mean score.
    kept = np.array([_kept([factors[name][system == 0] for name in effect if name != "system"]) for effect in effects])
    rows = np.maximum(np.vstack([found.variances, found.draws]), 0.0)
    relative = np.array([len(effect) > 1 and "system" in effect for effect in effects])
    numbers = {"clip": float(len(known))}
    if any("speaker" in effect for effect in effects):
        numbers["speaker"] = float(len(set(of_clip)))
    if factor:
        numbers[factor] = float((~np.isnan(values[0])).sum() / len(known))
    of_ranking = {}
    if ("system",) in effects:
        true = rows[:, effects.index(("system",))]
        errors = rows * kept * relative
        for name, number in numbers.items():
            if name == "speaker":
                continue
            # More levels reduce these effects; more clips come with more speakers.
            with_it = np.array([name in of or (name == "clip" and "speaker" in of) for of in effects])
            of_ranking[name] = _more(true, errors[:, with_it].sum(axis=1), errors[:, ~with_it].sum(axis=1), number)
        absolute = rows * kept * [effect != ("system",) for effect in effects]
        coefficients = _reliability(true, errors.sum(axis=1)), _reliability(true, absolute.sum(axis=1))
    else:
        coefficients = UNDEFINED, UNDEFINED
    total = rows.sum(axis=1)
    shares = rows / np.where(total > 0, total, np.nan)[:, None]
    return Study(
        factor=factor,
        systems=list(systems),
        levels=numbers,
        shares=[
            Share(effect, _estimate(shares[:, number]), float(found.variances[number]))
            for number, effect in enumerate(effects)
        ],
        generalizability=coefficients[0],
        dependability=coefficients[1],
        most_by={name: most for name, (most, _) in of_ranking.items()},
        needed={name: needed for name, (_, needed) in of_ranking.items()},
        left_out=len(speakers) - len(known),
    )


def _effects(factor: str, kind: Kind, *, several_systems: bool, speakers: bool) -> list[Effect]:
    """Return the effects of a design, the residual last."""
    places: list[Effect] = [*([("speaker",)] if speakers else []), ("clip",)]
    if factor and kind == "crossed":
        places += [(factor,), *((*place, factor) for place in places)]
    elif factor and kind == "raters":
        places += [(factor,), ("clip", factor)]
    elif factor and (kind == "of clips" or not several_systems):
        places.append(("clip", factor))
    effects: list[Effect] = [*([("system",)] if several_systems else []), *places]
    if several_systems:
        effects += [("system", *place) for place in places]
        if factor and kind == "of answers":
            effects.append(("system", "clip", factor))
    return effects


def _kept(levels: Sequence[NDArray[np.generic]]) -> float:
    """Return the sum of squared shares of the scores over the combinations of levels; 1 for no factor."""
    if not levels:
        return 1.0
    counts = np.bincount(joint_codes(levels))
    return float(np.square(counts / counts.sum()).sum())


def _reliability(true: Array, error: Array) -> Estimate:
    total = true + error
    return _estimate(true / np.where(total > 0, total, np.nan))


def _more(true: Array, shrinking: Array, staying: Array, number: float) -> tuple[Estimate, Estimate]:
    """Return the reliability with infinitely many levels of a factor, and how many levels raise it to .9."""
    room = true * (1 - TARGET) / TARGET - staying
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(room > 0, np.ceil(number * shrinking / np.where(room > 0, room, 1.0)), np.inf)
    return _reliability(true, staying), _estimate(np.maximum(needed, 1.0))


def _estimate(rows: Array) -> Estimate:
    """Return an estimate from rows of its value, which comes first, and draws, whose middle 95% is the interval."""
    value, draws = float(rows[0]), rows[1:][~np.isnan(rows[1:])]
    if math.isnan(value) or not len(draws):
        return UNDEFINED
    low, high = np.quantile(draws, [0.025, 0.975], method="inverted_cdf").tolist()
    return Estimate(value, low, high)
