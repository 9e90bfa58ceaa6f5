"""The conclusions of a funnel in sentences, which claim no more than the intervals support."""

from __future__ import annotations

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.funnel.content import RANDOM, Funnel
from ambi_eval.web.glossary import SIMULATED

# A probe may gain this many bits by chance on few clips: all clips of a fold share one fit, which the intervals ignore.
CHANCE = 0.05
LOST = {
    "projected": "in passing it on to the language model",
    "layers": "inside the language model",
    "exact": "in deciding between the labels",
    "direct": "in saying it",
}
HOLDERS = {
    "encoder": "the encoder",
    "projected": "the projected audio tokens",
    "exact": "the label likelihoods",
    "direct": "the stated shares",
}


def sentences(funnel: Funnel) -> list[str]:
    """Return the sentences about where the model loses information."""
    said = [_holds(funnel), _loss(funnel), _reasons(funnel), _controls(funnel)]
    return ([SIMULATED] if funnel.simulated else []) + [" ".join(part for part in said if part)]


def _holds(funnel: Funnel) -> str:
    """Return the sentence with the bits of each stage of the chain."""
    first = funnel.stages[0]
    verb = "holds" if first.key == "encoder" else "hold"
    text = f"{HOLDERS[first.key]} {verb} {_short(first.gain.value)} bits per vote"
    for step in funnel.steps:
        stage = funnel.stage(step.key)
        holder = HOLDERS.get(stage.key) or f"the {stage.name.replace('language model,', 'language model at')}"
        text += f"{' and' if step is funnel.steps[-1] else ','} {holder} {_short(stage.gain.value)}"
    return f"{text[0].upper()}{text[1:]}."


def _loss(funnel: Funnel) -> str:
    """Return the sentence about the step with the largest loss, as far as the intervals support it."""
    start = funnel.stages[0]
    if not start.gain.low > 1e-6:  # more than rounding
        later = [stage for stage in funnel.stages if stage.key != start.key and stage.gain.low > 0]
        if later:
            return (
                f"No probe can be shown to read anything at the first place, but the {later[0].name} tell more than "
                "nothing: pooled states do not show all that a model hears, so nothing can be said about the loss."
            )
        return "At no place can a bit be shown: the model is deaf to what these raters heard, or the clips are too few."
    if not funnel.total.low > 0:
        return f"No loss on the way can be shown ({_interval(funnel.total)} in all)."
    step = max(funnel.steps, key=lambda each: each.lost.value)
    if not step.lost.low > 0:
        return f"{_interval(funnel.total)} are lost in all, but no single step can be shown to lose any."
    if rivals := [key for key, beyond in step.beyond_others.items() if not beyond.low > 0]:
        lost = {each.key: each.lost.value for each in funnel.steps}
        alike = " or ".join(LOST[key] for key in sorted([step.key, *rivals], key=lambda key: -lost[key]))
        return f"{_interval(funnel.total)} are lost in all; whether most of it is lost {alike} cannot be told."
    return f"Most is lost {LOST[step.key]}: {_interval(step.lost)} of {_short(funnel.total.value)} in all."


def _reasons(funnel: Funnel) -> str:
    """Return the sentence about reasons before the answer; empty if they make no clear difference."""
    more = funnel.reasons
    if more.low > 0 or more.high < 0:
        return f"With reasons first the answers tell {'more' if more.value > 0 else 'less'} ({_interval(more)})."
    return ""


def _controls(funnel: Funnel) -> str:
    """Return a warning if the probe of shuffled votes gains more than chance allows; else an empty string."""
    wrong = [
        each for each in funnel.controls if each.name == RANDOM and min(each.gain.low, each.gain.value - CHANCE) > 0
    ]
    return " ".join(f"WARNING: {RANDOM} should tell 0 bits, and tell {_interval(each.gain)}." for each in wrong)


def _interval(estimate: Estimate) -> str:
    return f"{_short(estimate.value)} bits [{_short(estimate.low)}, {_short(estimate.high)}]"


def _short(bits: float) -> str:
    """Return bits with two decimals: .62, -.02, 1.10, 0."""
    text = f"{bits:.2f}"
    return "0" if float(text) == 0 else text.replace("0.", ".", 1) if abs(bits) < 0.995 else text
