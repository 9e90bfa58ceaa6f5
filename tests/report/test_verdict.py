"""The verdict: what it says, and what it may never claim."""

import math
from dataclasses import replace

import pytest

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.references.held_out import HeldOut
from ambi_eval.analysis.significance import Comparison
from ambi_eval.report.verdict import (
    Gain,
    Standing,
    between_models,
    in_terminal,
    of_models,
    section_warnings,
    verdict,
    verdicts,
    warnings,
    winner,
)


def around(value, margin=0.01):
    return Estimate(value, value - margin, value + margin)


def held_out(model, human, prior, margin=0.01):
    return HeldOut(
        clips=10,
        prior=around(prior),
        model=around(model),
        human=around(human),
        model_minus_prior=around(model - prior, margin),
        model_minus_human=around(model - human, margin),
        human_minus_prior=around(human - prior),
        gap_closed=None,
    )


def difference(value, margin=0.01, p=0.001):
    return Comparison(around(value, margin), p, p, 0.0001, 12)


GOOD = Standing("m with exact", around(0.086), held_out=held_out(0.1, 0.167, 0.354))


def test_the_score_comes_first_with_its_interval():
    assert verdict(GOOD).startswith("m with exact is off the raters' votes by 0.086 [0.076, 0.096] bits (JSD, 0 is")


@pytest.mark.parametrize(
    ("found", "said", "never"),
    [
        (held_out(0.1, 0.2, 0.4), "nearer to the votes than half a panel of raters (0.200) and the prior", "further"),
        (held_out(0.3, 0.2, 0.4), "further from the votes than half a panel of raters (0.200)", "half a panel of"
         " raters (0.200) and"),
        (held_out(0.5, 0.2, 0.4), "further from the votes than half a panel of raters (0.200) and the prior", "nearer"),
        (held_out(0.1, 0.105, 0.4), "nothing shows that it differs from half a panel of raters", "than"
         " half a panel"),
        (held_out(0.1, 0.2, 0.4, margin=1), "nothing shows that it differs from half a panel", "nearer"),
    ],
)  # fmt: skip
def test_people_and_prior_are_compared_only_as_far_as_the_interval_goes(found, said, never):
    text = verdict(replace(GOOD, held_out=found))
    assert said in text
    assert never not in text
    assert text.count("Judged by the same raters (") == 1


def test_without_panels_that_can_be_halved_nothing_is_said_of_people():
    text = verdict(replace(GOOD, held_out=None, prior=around(0.354)))
    assert "The prior, which hears nothing, has 0.354." in text
    assert "rater" not in text.replace("raters' votes", "")


@pytest.mark.parametrize(
    ("worth", "said"),
    [
        (Estimate(5.0, 4.0, 6.5), "It is worth about 5.0 raters [4.0, 6.5]."),
        (Estimate(30.0, 10.7, math.inf), "It is worth at least 10.7 raters."),
        (Estimate(-40.0, 10.7, math.inf), "It is worth at least 10.7 raters."),
        (Estimate(18.2, 7.6, 684.8), "It is worth at least 7.6 raters."),
        (Estimate(29.0, -18.0, 76.0), None),
        (Estimate(2.0, 0.9, 4.0), None),
        (Estimate(math.nan, math.nan, math.nan), None),
        (None, None),
    ],
)
def test_worth_in_raters_is_one_sided_where_the_interval_is_open_and_unsaid_where_it_says_nothing(worth, said):
    text = verdict(replace(GOOD, worth=worth))
    assert (said in text) if said else ("worth" not in text)


@pytest.mark.parametrize(
    ("lead", "said"),
    [
        (difference(0.035), "That is better than direct (0.121) by 0.035 [0.025, 0.045]."),
        (difference(0.035, margin=0.04), "Its lead over direct (0.121) may be chance."),
        (difference(0.035, p=0.2), "Its lead over direct (0.121) may be chance."),
    ],
)
def test_a_lead_over_the_plain_strategy_needs_the_interval_and_the_corrected_test(lead, said):
    text = verdict(replace(GOOD, plain=("direct", around(0.121)), lead=lead))
    assert said in text
    assert ("better" in text) == ("That is better" in said)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (difference(0.3), "its predictions depend on the voice."),
        (difference(0.3, p=0.06), "nothing shows that it needs the voice."),
        (difference(-0.3), "nothing shows that it needs the voice."),
    ],
)
def test_that_it_listens_is_said_only_where_a_control_shows_it(loss, said):
    told = verdict(replace(GOOD, control=("shuffle", around(0.4)), control_loss=loss))
    assert f"Under the control 'shuffle' it is off by 0.400: {said}" in told


def test_a_control_of_another_strategy_is_told_by_its_name():
    told = verdict(replace(GOOD, control=("shuffle", around(0.4)), control_loss=difference(0.3), control_of="sc dist"))
    assert "Under the control 'shuffle' sc dist is off by 0.400: its predictions depend" in told


def test_without_a_control_no_word_is_said_about_listening():
    text = verdict(GOOD)
    assert "voice" not in text
    assert "listen" not in text


@pytest.mark.parametrize(
    ("gain", "said", "never"),
    [
        (Gain("sc dist", 20, 0.278, 0.098, 0.197, 0.011), "0.278 to 0.098: what any sampler gains (draws", "; draws"),
        (Gain("sc dist", 20, 0.500, 0.098, 0.197, 0.011), "0.500 to 0.098; draws from the raters' own votes gain 0.186",
         "any sampler"),
        (Gain("sc dist", 20, 0.1, 0.2, 0.197, 0.011), None, "answers instead"),
        (Gain("sc dist", 20, 0.278, 0.098, 0.197, 0.04, ("exact", 0.086)), "0.278 to 0.098: they tend to exact (0.086)",
         "draws from"),
    ],
)  # fmt: skip
def test_a_gain_of_sampling_is_called_so(gain, said, never):
    text = verdict(replace(GOOD, gain=gain))
    assert said is None or said in text
    assert never not in text


def test_warnings_come_before_any_score():
    assert warnings(True, ["12 of 48 clips are scored"]) == [
        "SIMULATED RATERS: synthetic speech, judged by a program. This says nothing about people or models.",
        "PARTIAL: 12 of 48 clips are scored",
    ]
    assert warnings(False, []) == []


@pytest.mark.parametrize(
    ("compared", "said"),
    [
        (difference(-0.1), "A is better than B: the difference is -0.100 [-0.110, -0.090]."),
        (difference(0.1), "B is better than A: the difference is 0.100 [0.090, 0.110]."),
        (difference(0.1, p=0.051), "Neither A nor B is shown to be better: the difference is 0.100 ["),
        (difference(0.001), "Neither A nor B is shown to be better: the difference is 0.001 ["),
    ],
)
def test_who_wins_is_said_only_beyond_chance(compared, said):
    assert winner("A", "B", compared).startswith(said)


def test_a_report_has_a_verdict_for_each_model_from_its_own_numbers(content):
    (section,) = content.sections
    told = verdicts(content)
    assert told == [*section_warnings(section), *of_models(section)]
    assert told.pop() == between_models(section)[0]
    assert [line.split(" with ")[0] for line in told] == [system.model for system in section.best]
    for line, system in zip(told, section.best, strict=True):
        assert f"by {system.scores['jsd_bits'].value:.3f} [" in line
        assert f"Judged by the same raters ({system.held_out[0].model.value:.3f})" in line


def test_the_best_model_is_compared_with_each_other_one_by_the_test_for_all_pairs(content):
    best, other = content.sections[0].best
    clear, open_ = (replace(other, against_best=difference(0.1, p=p)) for p in (0.05, 0.051))
    first, second = (f"{y.model} with {y.name}" for y in (best, other))
    section = replace(content.sections[0], systems=[best, clear, replace(open_, model="third")])
    by = "difference 0.100 [0.090, 0.110], corrected for all pairs"
    assert between_models(section) == [
        f"{first} is better than {second} ({by}). "
        f"Nothing shows that {first} is better than third with {other.name} ({by})."
    ]
    assert between_models(replace(section, systems=[best])) == []


def test_lines_fit_a_terminal(content):
    assert max(map(len, in_terminal(verdicts(content)).splitlines())) <= 80
