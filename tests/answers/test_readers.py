# ruff: noqa: RUF001 (models typeset their answers)
from __future__ import annotations

import json
import math
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ambi_eval.answers.candidate import Candidate
from ambi_eval.answers.label import read_label
from ambi_eval.answers.lexicon import Answer, Reason, freeze_synonyms
from ambi_eval.answers.shares import SUM_TOLERANCE, read_shares
from ambi_eval.errors import AmbiError

LABELS = ("angry", "happy", "neutral", "sad")
HAPPY_60_SAD_40 = (0.0, 0.6, 0.0, 0.4)


def one_hot(label, labels=LABELS):
    return tuple(float(other == label) for other in labels)


STATED = [
    # Objects
    '{"happy": 0.6, "sad": 0.4}',
    '{"angry": 0, "happy": 0.60, "neutral": 0.0, "sad": 4e-1}',
    '{"HAPPY": 60, "Sad": 40}',
    '{"happy": "60%", "sad": "40 %"}',
    '{"happy":0.6,"sad":0.4}',
    '{\n  "happy": 0.6,\n  "sad": 0.4\n}',
    "{'happy': 0.6, 'sad': .4,}",
    "{happy: 0.6, sad: 0.4}",
    "{happy:0.6,sad:0.4}",
    "{happy: 60 %, sad: 40%}",
    "{“happy”: 0.6, “sad”: 0.4}",
    '"{\\"happy\\": 0.6, \\"sad\\": 0.4}"',
    '```json\n{"happy": 0.6, "sad": 0.4}\n```',
    '{"distribution": {"happy": 0.6, "sad": 0.4}}',
    '{"emotions": {"happy": 0.6, "sad": 0.4}, "confidence": 0.9}',
    '{"happy": 0.6, "evidence": {"pitch": 220}, "sad": 0.4}',
    '{"happy": 0.6, "sad": 0.4, "total": 1.0}',
    '{"happy": 0.6, "sad": 0.4, "reason": "the pitch {220 Hz} says: sad: 0.9"}',
    "{'reason': 'it\\'s sad: 0.9', 'happy': 0.6, 'sad': 0.4}",
    '{{"happy": 0.6, "sad": 0.4}}',
    '{"happy": 0.6, "sad": 0.4}}}',
    '{"happy": 0.6, "sad": 0.4, "fear": 0, "valence": -0.2}',
    # Lists, tables and sentences
    "happy: 60%, sad: 40%",
    "Happy: 60 percent; sad: 40 percent.",
    "happy = 0.6\nsad = 0.4",
    "happy: 0.6\n\nsad: 0.4",
    "happy 60 sad 40",
    "happy (60%), sad (40%)",
    "P(happy) = 0.6, P(sad) = 0.4",
    "Happy – 60%, Sad — 40%",
    "happy → 0.6, sad → 0.4",
    "happy：60％，sad：40％",
    "Happy is about 60% and sad is around 40%.",
    "60% happy and 40% sad",
    "- **Happy**: 60%\n- **Sad**: 40%",
    "* **Happy:** 0.6 (high pitch)\n* **Sad:** 0.4 (slow pace)",
    "1. Happy: 60%\n2. Sad: 40%",
    "| Emotion | Share |\n|:---|---:|\n| happy | 0.6 |\n| sad | 0.4 |\n| Total | 1.0 |",
    # The last complete answer
    'Perhaps angry: 0.9, but no: {"happy": 0.6, "sad": 0.4}',
    '{"happy": 0.00, "sad": 0.00} is the form. {"happy": 0.6, "sad": 0.4}',
    '{"angry": 0.5, "sad": 0.5}\nOn reflection:\n{"happy": 0.6, "sad": 0.4}',
    '{"happy": 0.6, "sad": 0.4}\nAgain: {"happy": 0.1, "sad": ',
    '{"happy": 0.6, "sad": 0.4}\n\nHappy (60%) for the pitch. Sad (0.4) for the pace.',
    "First I thought happy: 0.9, sad: 0.1. Final answer: happy: 0.6, sad: 0.4",
    "- Happy: 0.9\n- Sad: 0.1\n\nRather:\n\n- Happy: 0.6\n- Sad: 0.4",
    "The pitch is 220 Hz at 65 dB. Happy: 0.6, sad: 0.4",
    '<think>{"angry": 1}</think>{"happy": 0.6, "sad": 0.4}',
    'The prompt opened it. {"angry": 1}</think>\nhappy: 60%, sad: 40%',
]


@pytest.mark.parametrize("text", STATED)
def test_a_stated_distribution_is_read(text):
    answer = read_shares(text, LABELS)
    assert answer.reason is None
    assert answer.stated_sum == pytest.approx(1, abs=SUM_TOLERANCE)
    assert answer.shares == pytest.approx(HAPPY_60_SAD_40, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "expected", "stated_sum"),
    [
        ('{"angry": 0, "happy": 0.3, "neutral": 0, "sad": 0.1}', (0, 0.75, 0, 0.25), 0.4),
        ('{"angry": 0, "happy": 1.2, "neutral": 0, "sad": 0.4}', (0, 0.75, 0, 0.25), 1.6),
        ("happy: 3 votes, sad: 1 vote", (0, 0.75, 0, 0.25), 4),
        ("happy: 75%, sad: 27%", (0, 75 / 102, 0, 27 / 102), 1.02),
        ("happy: 74%, sad: 25%", (0, 74 / 99, 0, 25 / 99), 0.99),
        ("happy: 75, sad: 26", (0, 75 / 101, 0, 26 / 101), 1.01),
        ('{"angry": 0.33, "happy": 0.33, "sad": 0.33}', (1 / 3, 1 / 3, 0, 1 / 3), 0.99),
        ("happy: 1, sad: 99", (0, 0.01, 0, 0.99), 1),
        ("1. Angry: 0\n2. Happy: 0.6\n3. Neutral: 0\n4. Sad: 0.2", (0, 0.75, 0, 0.25), 0.8),
        ('{"happy": 0.333, "sad": 0.667}\nHappy (33.3%) for the pitch.', (0, 0.333, 0, 0.667), 1),
    ],
)
def test_shares_are_divided_by_their_sum_which_is_kept(text, expected, stated_sum):
    answer = read_shares(text, LABELS)
    assert answer.shares == pytest.approx(expected)
    assert answer.stated_sum == pytest.approx(stated_sum)


REFUSED_SHARES = {
    "empty": ["", " \n", "<think>sad</think>  "],
    "unfinished": ["<think>happy: 1", '{"happy": 0.6, "sad": 0.', '{"happy": 0.6,'],
    "refused": ["I cannot say how many would say happy.", "Happy to help!"],
    "no_label": ["I hear 2 speakers.", "fear: 70%, joy: 30%"],
    "not_asserted": ["happy?", "It could be happy.", 'An example of the form: {"happy": 1.0}', "It might be sad."],
    "no_share": ["I am 80% sure it is happy.", "mostly happy", "happy: 1, neutral: 2, sad: 3, angry: 4"],
    "ambiguous_label": [
        "happy or sad", "Happy and sad: 50%.", "happy/sad: 0.5, neutral: 0.5", '{"happy/sad": 0.5, "neutral": 0.5}',
        "not happy: 0.4, sad: 0.6", "happy: nan, sad: 1",
    ],
    "negated": ["not happy", "happy, definitely not"],
    "unknown_label": [
        '{"happy": 0.5, "fear": 0.5}', '{"happy": 1.0, "fear": 0.5}', '{"fear": 0.7, "joy": 0.3}',
        '{"very happy": 0.7, "sad": 0.3}',
    ],
    "conflicting_shares": [
        '{"happy": 0.6, "happy": 0.5}', "happy: 0.6, sad: 0.4\nhappy: 0.7, sad: 0.3", '{"happy": 1}\n{"sad": 1}',
        '{"angry": 0.5, "sad": 0.5}. In fact happy: 0.6, sad: 0.4',
    ],
    "incomplete_shares": [
        '{"happy": 0.8}', '{"happy": {"share": 0.6}}',
        "happy: 0.5, sad: 0.3, fear: 0.2", "- happy: 50%\n- sad: 30%\n- fear: 20%",
        "neutral: 70%, the rest is spread",
    ],
    "not_a_number": [
        '{"happy": NaN, "sad": 1}', '{"happy": Infinity}', '{"happy": 1e400}', '{"happy": 1e308, "sad": 1e308}',
        '{"happy": "high", "sad": 0.4}', "happy: 60%, sad: >30%",
    ],
    "negative_share": ['{"happy": -0.1, "sad": 1.1}', "happy: -0.2, sad: 1.2", "happy: −20%, sad: 120%"],
    "mixed_units": ['{"happy": "60%", "sad": 0.4}', "happy: 60%, sad: 40", '{"happy": 60, "sad": 0.4}'],
    "zero_sum": ['{"happy": 0, "sad": 0}', "happy: 0%"],
}  # fmt: skip


def cases(table):
    return [(key, text) for key, texts in table.items() for text in texts]


@pytest.mark.parametrize(("reason", "text"), cases(REFUSED_SHARES))
def test_what_states_no_distribution_is_refused_with_the_reason(reason, text):
    assert read_shares(text, LABELS) == Answer(None, reason)


def test_every_reason_is_given_by_some_text():
    assert {*REFUSED_SHARES, "truncated"} == set(get_args(Reason))


NAMED = {
    "happy": [
        "happy", "Happy.", " HAPPY!\n", "**Happy**", "_happy_", '"happy"', "“Happy”", "`happy`", "ｈａｐｐｙ",
        "\\boxed{happy}", "happy<|im_end|>", "<think>angry</think>happy", "The emotion is happy.", "Answer: happy",
        "**Emotion:** Happy", '{"emotion": "happy"}', "{'emotion': 'happy', 'reason': 'not sad'}",
        '{"reason": "angry at first", "emotion": "happy"}', '{"happy": true, "sad": false}',
        # Beside labels that are denied
        "happy (not sad)", "happy, not sad", "happy rather than sad", "Not sad but happy.",
        "It is not sad. It is happy.", "The voice isn't sad; it's happy", "sad? happy.", "nothing but happy",
        "Happy is what I hear, not sad.", "Happy is what I hear (not sad).", "It is happy. Sad? Never.",
        # Reasons first
        "The pitch suggests angry or happy. Answer: happy", "Angry? The pace says so.\n\nAnswer:\n\nhappy",
        "It could be angry.\nFinal answer: happy. It is not sad.", "The answer is not sad.\nThe answer is happy.",
        "It sounds angry or sad, hence the emotion is happy.", "A loud, angry voice.\n<answer>happy</answer>",
        "The pitch suggests angry or sad.\nThe emotion is happy.", "It sounds angry at first\n\nHappy",
        "The loud voice suggests angry.\n**Happy**.\nThat is my choice.",
    ],
    "sad": ["unhappy, so sad", "sad sad sad"],
    "neutral": ["Neutral. The voice shows no strong emotion.", "neutral, with no strong emotion"],
}  # fmt: skip


@pytest.mark.parametrize(("label", "text"), cases(NAMED))
def test_a_named_label_is_read(label, text):
    assert read_label(text, LABELS) == Answer(one_hot(label))


REFUSED_LABEL = {
    "empty": ["", "<think>happy</think>"],
    "unfinished": ["<think>happy"],
    "no_label": ["unhappy", "non-happy", "happy-sad"],
    "ambiguous_label": [
        "happy or sad", "happy/sad", "sad but happy", "not only happy but also sad", "Either happy or\nsad",
        "It could be:\n- Happy\n- Sad", "It could be:\n\n1. Happy\n\n2. Sad", "- Happy\n\n- Sad",
        "Answer: happy or sad",
        "Happy\n\nThe tone could suggest angry, too.", '{"happy": 0.6, "sad": 0.4}',
    ],
    "refused": ["I cannot tell."],
    "not_asserted": [
        "It may be happy. Answer: none",
        "happy?", "I dont think it sounds happy", "It sounds happy. But it is not happy.",
        "It sounds happy. Final answer: not happy",
    ],
    "negated": [
        "not happy", "It isn’t happy.", "not\nhappy", "neither angry nor sad",
        "not angry, happy, or sad", "anything but happy", "Happy: no", "Happy is unlikely.",
        "Happy can be ruled out", "happy, definitely not", "happy, I think not\nnot sad",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("reason", "text"), cases(REFUSED_LABEL))
def test_what_names_no_single_label_is_refused_with_the_reason(reason, text):
    assert read_label(text, LABELS) == Answer(None, reason)


@pytest.mark.parametrize(("label", "text"), [case for case in cases(NAMED) if "true" not in case[1]])
def test_a_label_without_numbers_is_a_whole_distribution(label, text):
    assert read_shares(text, LABELS) == Answer(one_hot(label))


NESTED = ("happy", "very happy", "low", "low-arousal", "no emotion")


@pytest.mark.parametrize("form", ["{}", "It is {}.", '{{"{}": 1}}', "{}: 100%", "100% {}"])
@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Happy", "happy"),
        ("Very happy", "very happy"),
        ("very_happy", "very happy"),
        ("very-happy", "very happy"),
        ("Low", "low"),
        ("Low arousal", "low-arousal"),
        ("No emotion", "no emotion"),
    ],
)
def test_the_longest_label_that_fits_is_read(form, text, label):
    assert read_shares(form.format(text), NESTED).shares == one_hot(label, NESTED)
    assert read_label(form.format(text), NESTED).shares == one_hot(label, NESTED)


@pytest.mark.parametrize("text", ["straße", "STRASSE", "Straße"])
def test_case_is_folded_as_unicode_says(text):
    assert read_label(text, ("Straße", "Weg")).shares == (1.0, 0.0)


SYNONYMS = freeze_synonyms(LABELS, {"happy": ["joy", "Joyful"], "angry": ["mad"]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Joyful.", (0, 1, 0, 0)),
        ('{"JOY": 0.6, "sad": 0.4}', HAPPY_60_SAD_40),
        ("mad: 25%, joy: 75%", (0.25, 0.75, 0, 0)),
        ("Joy: 0.9, sad: 0.1. Final: happy: 0.6, sad: 0.4", HAPPY_60_SAD_40),
    ],
)
def test_a_synonym_reads_as_its_label(text, expected):
    assert read_shares(text, LABELS, SYNONYMS).shares == pytest.approx(expected)


@pytest.mark.parametrize("text", ['{"happy": 0.3, "joy": 0.3, "sad": 0.4}', "happy: 30%\njoy: 20%\nsad: 40%"])
def test_shares_for_a_label_and_for_its_synonym_conflict(text):
    assert read_shares(text, LABELS, SYNONYMS).reason == "conflicting_shares"


@pytest.mark.parametrize(
    ("labels", "synonyms", "message"),
    [
        (LABELS, {"hapy": ["joy"]}, "'hapy' is not one of the labels .*, did you mean 'happy'?"),
        (LABELS, {False: ["joy"]}, "False is not one of the labels"),
        (LABELS, {"happy": "joy"}, "'happy' needs a list of words in quotes, got 'joy'"),
        (LABELS, {"happy": ["joy", True]}, "'happy' needs a list of words in quotes"),
        (LABELS, {"happy": None}, "'happy' needs a list of words in quotes, got None"),
        (LABELS, {"happy": ["down"], "sad": ["Down"]}, "'Down' stands for the labels 'happy' and 'sad'"),
        (LABELS, {"happy": ["Sad"]}, "'sad' stands for the labels 'happy' and 'sad'"),
        (("very happy", "Very-Happy"), {}, "'Very-Happy' stands for the labels 'very happy' and 'Very-Happy'"),
        (LABELS, {"happy": [" "]}, "label 'happy' has a name without any word in it"),
    ],
)
def test_synonyms_that_cannot_be_told_apart_are_refused(labels, synonyms, message):
    with pytest.raises(AmbiError, match=message):
        freeze_synonyms(labels, synonyms)


def test_a_candidate_is_read_like_its_text_and_only_once():
    assert read_shares(Candidate("happy: 100%", logprob=-1.0), LABELS) is read_shares("happy: 100%", LABELS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "junk",
    ["{", "}", "{}", '{"', "{'a':", "[", '\\"', "1", "1.", "1%", "- ", "\n", "\n ", "?", "happy ", "happy(",
     "sad no\nhappy no\n", "very ", "not ", "rul ", "far ", "lack", "answer ", "\nthe ", "<think>x</think>"],
)  # fmt: skip
def test_200_kilobytes_of_anything_before_the_answer_are_read_through(junk):
    text = junk * (200_000 // len(junk)) + "\n" + '{"happy": 0.6, "sad": 0.4}'
    assert read_shares(text, LABELS).shares == pytest.approx(HAPPY_60_SAD_40)
    assert read_label(text, LABELS).shares is None


FORMATS = {
    "JSON": json.dumps,
    "indented JSON": lambda shares: json.dumps(shares, indent=2),
    "nested JSON": lambda shares: json.dumps({"distribution": shares}),
    "Python": repr,
    "fence": lambda shares: f"```json\n{json.dumps(shares)}\n```",
    "percent strings": lambda shares: json.dumps({label: f"{100 * share:.2f}%" for label, share in shares.items()}),
    "percent list": lambda shares: ", ".join(f"{label}: {100 * share:.2f}%" for label, share in shares.items()),
    "percent first": lambda shares: ", ".join(f"{100 * share:.2f}% {label}" for label, share in shares.items()),
    "equations": lambda shares: "\n".join(f"{label} = {share}" for label, share in shares.items()),
    "bullets": lambda shares: "\n".join(f"- **{label.title()}**: {share:.4f}" for label, share in shares.items()),
    "numbers": lambda shares: "\n".join(f"{i}. {x}: {shares[x]:.4f}" for i, x in enumerate(shares, start=1)),
    "table": lambda shares: "| Emotion | Share |\n|---|---|\n" + "".join(f"| {x} | {shares[x]} |\n" for x in shares),
    "upper case": lambda shares: json.dumps(shares).upper(),
}
PROSE = st.lists(
    st.sampled_from(
        ["The voice", "is high", "and quick,", "which suggests", "some tension.", "Not so",
         "the loudness:", "it's flat", "(in my view)", "Answer:", "\n", "\n\n", "- ", "**Pitch**", "isn't it?"]
    )
).map(" ".join)  # fmt: skip


@st.composite
def distributions(draw):
    weights = draw(st.lists(st.integers(0, 50), min_size=len(LABELS), max_size=len(LABELS)).filter(any))
    return {label: round(weight / sum(weights), 4) for label, weight in zip(LABELS, weights, strict=True)}


@given(distributions(), st.sampled_from(sorted(FORMATS)), PROSE)
def test_any_distribution_in_any_format_comes_back_whatever_prose_stands_before_it(shares, form, prose):
    stated = FORMATS[form](shares)
    answer = read_shares(stated, LABELS)
    assert answer.shares == pytest.approx(tuple(shares.values()), abs=2e-4)
    assert answer.stated_sum == pytest.approx(1, abs=1e-3)
    assert read_shares(f"{prose}\n{stated}", LABELS) == answer


@given(st.fixed_dictionaries(dict.fromkeys(LABELS, st.floats(0, 1))), st.sampled_from([None, 0, 4]))
def test_a_json_object_is_read_as_the_json_module_reads_it(shares, indent):
    text = json.dumps(shares, indent=indent)
    read = json.loads(text)
    total = sum(read.values())
    expected = [read.get(label, 0.0) / total for label in LABELS] if total else None
    assert read_shares(text, LABELS).shares == (expected and pytest.approx(expected))


PIECES = st.lists(
    st.sampled_from(
        ["happy", "Sad", "angry", "neutral", "not", ":", " ", ", ", ". ", "\n", "{", "}", '"', "0.6", "40%", "-1",
         "1e400", "nan", "or", "Answer:", "is", "?", "<think>", "</think>", "fear", "|", "("]
    )
).map("".join)  # fmt: skip


@given(st.one_of(st.text(), PIECES))
@example('{"happy": 5e-324, "sad": 5e-324}')
@example('{"happy": ' + "9" * 10_000 + "}")
def test_any_text_gives_either_a_distribution_or_a_reason(text):
    for parse in (read_shares, read_label):
        answer = parse(text, LABELS)
        assert (answer.shares is None) == (answer.reason in get_args(Reason))
        if answer.shares is not None:
            assert len(answer.shares) == len(LABELS)
            assert min(answer.shares) >= 0
            assert math.fsum(answer.shares) == pytest.approx(1, abs=1e-9)


@given(PIECES, st.permutations(range(len(LABELS))))
def test_the_order_of_the_labels_only_orders_the_shares(text, order):
    for parse in (read_shares, read_label):
        straight = parse(text, LABELS)
        permuted = parse(text, tuple(LABELS[i] for i in order))
        expected = None if straight.shares is None else tuple(straight.shares[i] for i in order)
        assert permuted == Answer(expected, straight.reason, straight.stated_sum)


DENIALS = st.sampled_from(
    ["not {}", "It isn't {}", "it isnt {}", "neither {} nor {}", "not {}, {} or {}", "no {} voice", "never {}",
     "non-{}", "un{}", "{} is not what I hear", "{} seems unlikely", "{}: no", "{} can be ruled out", "hardly {}",
     "far from {}", "without {}", "anything but {}", "I cannot hear {} or {}", "I doubt that it is {}", "{}?",
     "the opposite of {}", "not really {} at all", "{}, I think not"]
)  # fmt: skip


@given(st.lists(DENIALS, min_size=1, max_size=4), st.randoms(), st.sampled_from([". ", "; ", "\n", ", and "]))
def test_a_text_that_only_denies_labels_yields_none(denials, random, joint):
    text = joint.join(denial.format(*random.choices(LABELS, k=3)) for denial in denials)
    assert read_label(text, LABELS).shares is None
    assert read_shares(text, LABELS).shares is None


@given(st.lists(st.integers(0, 100), min_size=4, max_size=4), st.permutations(["angry", "happy", "neutral", "sad"]))
def test_the_usual_answer_is_read_in_the_fast_way_as_in_the_slow_one(hundredths, order):
    labels = ("angry", "happy", "neutral", "sad")
    text = "{" + ", ".join(f'"{label}": {n / 100:.2f}' for label, n in zip(order, hundredths, strict=True)) + "}"
    assert read_shares(text, labels) == read_shares(f" {text}", labels)


@pytest.mark.parametrize(
    "text",
    [
        '{"angry": 0.5, "angry": 0.5, "happy": 0.5, "sad": 0}',
        '{"angry": true, "happy": 0, "neutral": 0, "sad": 0}',
        '{"angry": 1e400, "happy": 0, "neutral": 0, "sad": 0}',
        '{"angry": 1, "happy": 0, "neutral": 0, "sad": -0.0}',
        '{"angry": 0.25, "happy": 0.25, "neutral": 0.25, "sad": 0.26}',
        '{"angry": 1, "happy": 0, "neutral": 0, "sad": 0} no, {"sad": 1}',
        "{" * 4 + ":" * 4,
    ],
)
def test_what_only_looks_usual_is_read_as_anything_else(text):
    labels = ("angry", "happy", "neutral", "sad")
    assert read_shares(text, labels) == read_shares(f" {text}", labels)
