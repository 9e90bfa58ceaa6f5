"""What a funnel says in words: no more than its intervals allow."""

from __future__ import annotations

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.funnel.content import RANDOM, Funnel, Step

# So much may be read by chance on few clips: all clips of a fold share one fit, which intervals do not know.
CHANCE = 0.05
LOST = {
    "projected": "in passing it on to the language model",
    "layers": "inside the language model",
    "exact": "in deciding between the labels",
    "direct": "in saying it",
}
HOLDERS = {
    "encoder": "the encoder holds",
    "projected": "the projected audio tokens",
    "exact": "the label likelihoods",
    "direct": "the stated shares",
}


def sentences(funnel: Funnel) -> list[str]:
    """Return what can be said about where a model loses what it heard."""
    said = [_holds(funnel), _loss(funnel), _reasons(funnel), _controls(funnel)]
    warning = "SIMULATED RATERS: synthetic speech, judged by a program. This says nothing about people or models."
    return ([warning] if funnel.simulated else []) + [" ".join(part for part in said if part)]


def _holds(funnel: Funnel) -> str:
    """Return how many bits each stage of the chain holds."""
    parts: list[str] = []
    for key in (_first(funnel), *(step.key for step in funnel.steps)):
        stage = funnel.stage(key)
        holder = HOLDERS.get(key) or f"the {stage.name.replace('language model,', 'language model at')}"
        parts.append(f"{holder} {_bits(stage.gain)}" + (" bits per vote" if not parts else ""))
    text = ", ".join(parts[:-1]) + f" and {parts[-1]}"
    if "holds" not in parts[0]:
        text = text.replace(parts[0], parts[0].replace("tokens ", "tokens hold "), 1)
    return text[0].upper() + text[1:] + "."


def _loss(funnel: Funnel) -> str:
    """Return where most is lost, as far as the intervals tell."""
    start = funnel.stage(_first(funnel))
    if not start.gain.low > 1e-6:  # rounding is no bit
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
        alike = " or ".join(LOST[key] for key in (step.key, *_by_loss(funnel, rivals)))
        return f"{_interval(funnel.total)} are lost in all; whether most of it is lost {alike} cannot be told."
    return f"Most is lost {LOST[step.key]}: {_interval(step.lost)} of {_bits(funnel.total)} in all."


def _by_loss(funnel: Funnel, keys: list[str]) -> list[str]:
    steps: dict[str, Step] = {step.key: step for step in funnel.steps}
    return sorted(keys, key=lambda key: -steps[key].lost.value)


def _reasons(funnel: Funnel) -> str:
    """Return whether reasons before the answer change what it tells."""
    more = funnel.reasons
    if more.low > 0 or more.high < 0:
        return f"With reasons first the answers tell {'more' if more.value > 0 else 'less'} ({_interval(more)})."
    return ""


def _controls(funnel: Funnel) -> str:
    """Return a warning if a probe reads something where there is nothing to read."""
    wrong = [
        each for each in funnel.controls if each.name == RANDOM and min(each.gain.low, each.gain.value - CHANCE) > 0
    ]
    return " ".join(f"WARNING: {RANDOM} should tell 0 bits, and tell {_interval(each.gain)}." for each in wrong)


def _first(funnel: Funnel) -> str:
    return funnel.stages[0].key


def _bits(estimate: Estimate) -> str:
    return _short(estimate.value)


def _interval(estimate: Estimate) -> str:
    return f"{_short(estimate.value)} bits [{_short(estimate.low)}, {_short(estimate.high)}]"


def _short(bits: float) -> str:
    """Return bits with two decimals: .62, -.02, 1.10, 0."""
    text = f"{bits:.2f}"
    return "0" if float(text) == 0 else text.replace("0.", ".", 1) if abs(bits) < 0.995 else text
