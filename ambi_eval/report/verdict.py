"""The verdict: what the scores of a model mean, in a few sentences, for the page, the terminal and a sweep.

No sentence claims more than its interval shows. Two scores are compared only if they come from the same raters on the
same clips.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.references.held_out import HeldOut
from ambi_eval.analysis.significance import Comparison
from ambi_eval.analysis.systems import SystemScores
from ambi_eval.report.content import Content, Section, System, counterpart
from ambi_eval.web.format import short, with_interval
from ambi_eval.web.glossary import CONTROLS, SIMULATED

SIGNIFICANT = 0.05
# If the upper end of a number of raters is more than this many times the lower end, only the lower end is stated.
WIDE = 10
HALF_PANEL = "half a panel of raters"
PRIOR = "the prior, which hears nothing"
# Strategies that count as the plain one, in order of preference.
PLAIN = ("direct", "cot", "exact")


@dataclass(frozen=True)
class Gain:
    """The gain of a sampling strategy from N answers instead of one.

    Attributes:
        first: The divergence with one answer.
        last: The divergence with N answers.
        sampler_first: The divergence of one draw from the raters' own shares.
        sampler_last: The divergence of the histogram of N such draws.
        limit: Name and divergence of the system (`exact`) to which the answers tend; None if it did not run.
    """

    strategy: str
    size: int
    first: float
    last: float
    sampler_first: float
    sampler_last: float
    limit: tuple[str, float] | None = None


@dataclass(frozen=True)
class Standing:
    """The results on which the verdict on one model is based.

    Attributes:
        score: Its divergence from the votes.
        worth: The number of raters that it is worth (`worth_raters`); None if unknown.
        held_out: The system, the prior and half a panel against the same raters; None if panels cannot be halved.
        prior: The divergence of the prior from the votes; None if unknown.
        plain: Name and divergence of the plain strategy of the same model; None if that is the system itself.
        lead: The divergence of the plain strategy minus that of the system, on the same clips; None as for `plain`.
        control: What the model heard instead of the clip, and its divergence then; None without such a run.
        control_loss: The divergence under the control minus that on the real clips; None as for `control`.
        control_of: The strategy that ran under the control, if it is not that of `name`; else empty.
        gain: The gain from more answers; None without a sampling strategy.
    """

    name: str
    score: Estimate
    worth: Estimate | None = None
    held_out: HeldOut | None = None
    prior: Estimate | None = None
    plain: tuple[str, Estimate] | None = None
    lead: Comparison | None = None
    control: tuple[str, Estimate] | None = None
    control_loss: Comparison | None = None
    control_of: str = ""
    gain: Gain | None = None


def verdict(standing: Standing) -> str:
    """Return the verdict on a model on one corpus."""
    parts = [
        f"{standing.name} is off the raters' votes by {with_interval(standing.score)} bits (JSD, 0 is perfect).",
        against_references(standing),
        worth(standing),
        against_plain(standing),
        listening(standing),
        sampling(standing.gain),
    ]
    return " ".join(part for part in parts if part)


def in_terminal(lines: Sequence[str]) -> str:
    """Return lines wrapped at 80 columns."""
    return "\n".join(textwrap.fill(line, 80) for line in lines)


def verdicts(content: Content) -> list[str]:
    """Return the warnings and verdicts of every corpus of a report."""
    return [line for each in content.sections for line in (*section_warnings(each), *of_models(each))]


def of_models(section: Section) -> list[str]:
    """Return the verdict on each model, and which of several is better."""
    return [*(verdict(standing_of(section, best)) for best in section.best), *between_models(section)]


def between_models(section: Section) -> list[str]:
    """Return the comparison of the best model with each other one, by their best strategies; empty for one model."""
    first, *others = section.best
    said: dict[bool, list[str]] = {}
    for other in others:
        if other.against_best:
            difference = with_interval(other.against_best.difference)
            line = f"{_title(other)} (difference {difference}, corrected for all pairs)"
            said.setdefault(surely(other.against_best), []).append(line)
    parts = {True: f"{_title(first)} is better than", False: f"Nothing shows that {_title(first)} is better than"}
    lines = [f"{begins} {' and '.join(said[clear])}." for clear, begins in parts.items() if clear in said]
    return [" ".join(lines)] if lines else []


def _title(system: System) -> str:
    return f"{system.model} with {system.name}" if system.name else system.model


def section_warnings(section: Section) -> list[str]:
    """Return the warnings of one corpus."""
    return warnings(section.simulated, section.partial, section.other_models, section.cautions)


def warnings(
    simulated: bool, partial: Sequence[str], other_models: Sequence[str] = (), cautions: Sequence[str] = ()
) -> list[str]:
    """Return the warnings that come before any score, as `Section` has them, each with what it is."""
    return [
        *([SIMULATED] if simulated else []),
        *(f"ANOTHER MODEL: {sentence}" for sentence in other_models),
        *(f"PARTIAL: {sentence}" for sentence in partial),
        *(f"CAUTION: {sentence}" for sentence in cautions),
    ]


def of_file(name: str, system: SystemScores, simulated: bool) -> list[str]:
    """Return the warnings and the verdict on a file of predictions."""
    standing = Standing(
        name=name,
        score=system.overall["jsd_bits"],
        worth=system.overall["worth_raters"],
        held_out=system.held_out[0] if system.held_out else None,
        prior=system.baselines.overall["prior"]["jsd_bits"],
    )
    partial = [note.removeprefix("PARTIAL: ") for note in system.notes if note.startswith("PARTIAL: ")]
    return [*warnings(simulated, partial), verdict(standing)]


def standing_of(section: Section, best: System) -> Standing:
    """Return the results of the best strategy of a model."""
    own = [system for system in section.systems if system.model == best.model]
    plain = next((s for name in PLAIN for s in own if s.name.split(" ")[0] == name and s != best), None)
    control = _control(section, best)
    return Standing(
        name=_title(best),
        score=best.scores["jsd_bits"],
        worth=best.scores.get("worth_raters"),
        held_out=best.held_out[0] if best.held_out else None,
        prior=section.references["prior"].scores["jsd_bits"],
        plain=(plain.name, plain.scores["jsd_bits"]) if plain else None,
        lead=plain.against_best if plain and best is section.systems[0] else None,
        control=(control.control, control.scores["jsd_bits"]) if control else None,
        control_loss=control.against_best if control else None,
        control_of=control.strategy if control and counterpart(control, section.systems) is not best else "",
        gain=_gain(section, own),
    )


def _control(section: Section, best: System) -> System | None:
    """Return the control of the model that tells most about listening, if possible one of the best strategy."""
    own = [system for system in section.controls if system.model == best.model and system.against_best]
    own.sort(key=lambda each: (counterpart(each, section.systems) is not best, [*CONTROLS].index(each.control)))
    return own[0] if own else None


def _gain(section: Section, own: Sequence[System]) -> Gain | None:
    people = section.samplers.get("people", {}).get("jsd_bits", {})
    for system in own:
        curve: Mapping[int, Estimate] = system.curves.get("jsd_bits", {})
        # `sc dist` is a histogram of answers that name one label each, as that of the sampler is.
        if system.name.startswith("sc dist") and len(curve) > 1 and curve.keys() <= people.keys():
            first, last = min(curve), max(curve)
            ends = (curve[first].value, curve[last].value, people[first].value, people[last].value)
            limits = [s for s in own if s.full_name == system.asymptote]
            limit = (limits[0].name, limits[0].scores["jsd_bits"].value) if limits else None
            return Gain(system.name, last, *ends, limit)
    return None


def against_references(standing: Standing) -> str:
    """Return the comparison with people and prior, against the same raters if possible."""
    found = standing.held_out
    if found is None:
        if standing.prior is None:
            return ""
        return f"The prior, which hears nothing, has {short(standing.prior.value)}."
    compared = (HALF_PANEL, found.human, found.model_minus_human), (PRIOR, found.prior, found.model_minus_prior)
    verbs = {
        "less": "it is nearer to the votes than",
        "more": "it is further from the votes than",
        "open": "nothing shows that it differs from",
    }
    said: dict[str, list[str]] = {}
    for who, score, difference in compared:
        said.setdefault(direction(difference), []).append(f"{who} ({short(score.value)})")
    parts = "; ".join(f"{verbs[way]} {' and '.join(names)}" for way, names in said.items())
    return f"Judged by the same raters ({short(found.model.value)}), {parts}."


def direction(difference: Estimate) -> str:
    """Return `less` or `more` where the 95% interval of a difference excludes 0, else `open`."""
    if difference.high < 0:
        return "less"
    return "more" if difference.low > 0 else "open"


def worth(standing: Standing) -> str:
    """Return the sentence on how many raters the system is worth; empty if that is not surely more than one."""
    of = standing.worth
    if of is None or not of.low > 1:  # `not` covers NaN
        return ""
    if of.high <= WIDE * of.low and of.value > 0:
        return f"It is worth about {of.value:.1f} raters [{of.low:.1f}, {of.high:.1f}]."
    return f"It is worth at least {of.low:.1f} raters."


def against_plain(standing: Standing) -> str:
    """Return whether the best strategy is significantly better than the plain one of the same model."""
    if standing.plain is None or standing.lead is None:
        return ""
    name, score = standing.plain
    if surely(standing.lead) and standing.lead.difference.value > 0:
        by = with_interval(standing.lead.difference)
        return f"That is better than {name} ({short(score.value)}) by {by}."
    return f"Its lead over {name} ({short(score.value)}) may be chance."


def surely(comparison: Comparison) -> bool:
    """Return whether a difference is significant by both its interval and the corrected test."""
    return direction(comparison.difference) != "open" and comparison.p_corrected <= SIGNIFICANT


def listening(standing: Standing) -> str:
    """Return the result of the control; empty if none ran."""
    if standing.control is None or standing.control_loss is None:
        return ""
    control, score = standing.control
    said = f"Under the control '{control}' {standing.control_of or 'it'} is off by {short(score.value)}"
    if surely(standing.control_loss) and standing.control_loss.difference.value > 0:
        return f"{said}: its predictions depend on the voice."
    return f"{said}: nothing shows that it needs the voice."


def sampling(gain: Gain | None) -> str:
    """Return whether more answers gain more than the finer histogram that every sampler has."""
    if gain is None or not gain.first > gain.last:
        return ""
    own, sampler = gain.first - gain.last, gain.sampler_first - gain.sampler_last
    told = f"{gain.size} answers instead of one take {gain.strategy} from {short(gain.first)} to {short(gain.last)}"
    if gain.limit is not None:
        name, value = gain.limit
        return f"{told}: they tend to {name} ({short(value)}), which draws none."
    if own <= sampler:
        return f"{told}: what any sampler gains (draws from the raters' own votes: {short(sampler)})."
    return f"{told}; draws from the raters' own votes gain {short(sampler)}."


def winner(first: str, second: str, comparison: Comparison) -> str:
    """Return which of two systems is better, if the difference (first minus second) is significant."""
    difference = with_interval(comparison.difference)
    if not surely(comparison):
        return f"Neither {first} nor {second} is shown to be better: the difference is {difference}."
    better, worse = (first, second) if comparison.difference.value < 0 else (second, first)
    return f"{better} is better than {worse}: the difference is {difference}."
