"""What a funnel may claim, and what it may not, as a table of funnels and sentences."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.funnel.content import RANDOM, VERSION, Funnel, NamedGain, Stage, Step
from ambi_eval.funnel.sentence import sentences

NAMES = {
    "encoder": "audio encoder",
    "projected": "projected audio tokens",
    "layers": "language model, layer 3",
    "exact": "label likelihoods",
    "direct": "stated shares",
}


def near(value, half=0.05):
    return Estimate(value, value - half, value + half)


def funnel_of(*bits, half=0.05, reasons=None, controls=(), simulated=False, first=0):
    """Return a funnel whose stages hold these bits, each interval so wide; the stages from `first` on."""
    keys = list(NAMES)[first:]
    lost = dict(zip(keys[1:], (a - b for a, b in pairwise(bits)), strict=True))
    steps = [
        Step(key, near(value, half), {k: near(value - v, half) for k, v in lost.items() if k != key})
        for key, value in lost.items()
    ]
    return Funnel(
        version=VERSION,
        model="m",
        digest="d",
        corpus="c",
        simulated=simulated,
        labels=["a", "b"],
        clips=10,
        clusters=5,
        cluster="speaker",
        stages=[Stage(key, NAMES[key], near(value, half)) for key, value in zip(keys, bits, strict=True)],
        steps=steps,
        total=near(bits[0] - bits[-1], half),
        reasons=reasons or near(0),
        depth=[],
        references=[],
        controls=controls,
        notes=[],
    )


@pytest.mark.parametrize(
    ("funnel", "said"),
    [
        (
            funnel_of(0.62, 0.61, 0.55, 0.53, 0.31),
            "The encoder holds .62 bits per vote, the projected audio tokens .61, the language model at layer 3 .55, "
            "the label likelihoods .53 and the stated shares .31. "
            "Most is lost in saying it: .22 bits [.17, .27] of .31 in all.",
        ),
        (funnel_of(0.6, 0.2, 0.19, 0.18, 0.17), "Most is lost in passing it on to the language model"),
        (funnel_of(0.6, 0.59, 0.1, 0.09, 0.08), "Most is lost inside the language model"),
        (funnel_of(0.6, 0.6, 0.58, 0.1, 0.08), "Most is lost in deciding between the labels"),
        # Two steps lose alike: which one loses more is not claimed.
        (
            funnel_of(0.6, 0.59, 0.58, 0.4, 0.2),
            "whether most of it is lost in saying it or in deciding between the labels cannot be told.",
        ),
        # The same means as the first row, but wide intervals.
        (funnel_of(0.62, 0.61, 0.55, 0.53, 0.31, half=0.4), "No loss on the way can be shown (.31 bits [-.09, .71]"),
        (funnel_of(0.62, 0.61, 0.6, 0.6, 0.59), "No loss on the way can be shown (.03 bits [-.02, .08] in all)."),
        (funnel_of(0.6, 0.56, 0.52, 0.48, 0.44), "no single step can be shown to lose any"),
        (funnel_of(0.0, 0.0, 0.01, 0.0, 0.0), "At no place can a bit be shown"),
        (
            funnel_of(0.0, 0.0, 0.3, 0.3, 0.2),
            "No probe can be shown to read anything at the first place, but the language model, layer 3",
        ),
        (funnel_of(0.61, 0.55, 0.53, 0.2, first=1), "The projected audio tokens hold .61 bits per vote, the language"),
        (funnel_of(0.6, 0.6, 0.6, 0.6, 0.3, reasons=near(0.1)), "With reasons first the answers tell more (.10 bits"),
        (funnel_of(0.6, 0.6, 0.6, 0.6, 0.3, reasons=near(-0.1)), "With reasons first the answers tell less"),
        (
            funnel_of(0.6, 0.6, 0.6, 0.6, 0.3, controls=[NamedGain(RANDOM, near(0.15), 9)]),
            "WARNING: votes dealt at random",
        ),
    ],
)
def test_the_sentence_says_what_the_intervals_allow(funnel, said):
    (line,) = sentences(funnel)
    assert said in line


@pytest.mark.parametrize("half", [0.15, 0.4, math.nan])
def test_where_intervals_overlap_no_step_is_blamed(half):
    line = sentences(funnel_of(0.62, 0.61, 0.55, 0.43, 0.31, half=half))[0]
    assert "Most is lost" not in line


def test_nothing_is_said_of_reasons_or_controls_that_show_nothing():
    line = sentences(funnel_of(0.6, 0.6, 0.6, 0.6, 0.3, controls=[NamedGain("who speaks", near(0.3), 9)]))[0]
    assert "reasons" not in line
    assert "WARNING" not in line


@pytest.mark.parametrize("gain", [near(0.04, 0.01), near(0.2, 0.3), near(-0.2)])
def test_a_control_within_chance_is_no_warning(gain):
    funnel = funnel_of(0.6, 0.6, 0.6, 0.6, 0.3, controls=[NamedGain(RANDOM, gain, 9)])
    assert "WARNING" not in sentences(funnel)[0]


def test_simulated_raters_come_first():
    assert sentences(replace(funnel_of(0.6, 0.6, 0.6, 0.6, 0.3), simulated=True))[0].startswith("SIMULATED RATERS")
