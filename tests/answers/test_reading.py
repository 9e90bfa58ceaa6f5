"""What a careful person reads in an answer is read, and nothing else is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.answer_cases import LABELS, NAMED, NO_LABEL, NOT_READ, OTHER_LABELS, REFUSALS, SHARES

from ambi_eval.answers.label import read_label
from ambi_eval.answers.lexicon import Answer
from ambi_eval.answers.shares import read_shares

READERS = {"shares": read_shares, "label": read_label}


def cases(table):
    return [(kind, case) for kind, found in table.items() for case in found]


def agrees(answer: Answer, expected: dict[str, float] | None, labels: tuple[str, ...] = LABELS) -> bool:
    """Whether an answer was read as a careful person reads it, each share within half a percent."""
    if expected is None or answer.shares is None:
        return expected is None and answer.shares is None
    total = sum(expected.values())
    return answer.shares == pytest.approx([expected.get(label, 0.0) / total for label in labels], abs=0.006)


@pytest.mark.parametrize(("kind", "case"), cases(SHARES))
def test_a_distribution_is_read_as_a_careful_person_reads_it(kind, case):
    text, expected = case
    answer = read_shares(text, LABELS)
    assert agrees(answer, expected), (kind, answer)


@pytest.mark.parametrize(("kind", "case"), cases(NAMED))
def test_a_label_is_read_where_it_is_asserted(kind, case):
    text, label = case
    assert agrees(read_label(text, LABELS), {label: 1}), kind


@pytest.mark.parametrize(("kind", "text"), cases(NO_LABEL))
def test_a_label_is_not_read_where_it_is_not_asserted(kind, text):
    assert read_label(text, LABELS).shares is None, kind


@pytest.mark.parametrize(("readout", "labels", "text", "expected"), OTHER_LABELS)
def test_other_labels_are_read_alike(readout, labels, text, expected):
    assert agrees(READERS[readout](text, labels), expected, labels)


@pytest.mark.parametrize("readout", READERS)
@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_or_small_talk_is_no_vote_and_called_refused(readout, text):
    assert READERS[readout](text, LABELS) == Answer(None, "refused")


@pytest.mark.parametrize(("readout", "text"), NOT_READ)
def test_what_the_grammar_does_not_hold_is_refused_and_not_guessed(readout, text):
    assert READERS[readout](text, LABELS).shares is None


AROUND = {
    "a courtesy before": "Sure! {}",
    "an announcement": "Okay, here is my answer:\n\n{}",
    "an offer before": "I'd be happy to help. {}",
    "an offer after": "{}\n\nLet me know if you need anything else!",
    "a note after": "{}\n\nNote: the audio is short (2.5 s).",
    "thinking": "<think>\nIt could be angry or happy: 0.9.\n</think>\n\n{}",
    "a special token": "{}<|im_end|>",
    "blanks": "  {}  \n",
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_what_models_say_around_an_answer_makes_none_wrong_and_loses_at_most_two_in_a_hundred(around):
    every = [("shares", text, expected) for _, (text, expected) in cases(SHARES)]
    every += [("label", text, {label: 1}) for _, (text, label) in cases(NAMED)]
    every += [("label", text, None) for _, text in cases(NO_LABEL)]
    answers = [(READERS[readout](around.format(text), LABELS), expected) for readout, text, expected in every]
    lost = [answer for answer, expected in answers if expected and answer.shares is None]
    assert [answer for answer, expected in answers if answer.shares is not None and not agrees(answer, expected)] == []
    assert len(lost) <= 0.02 * len(every)


def test_of_the_collected_answers_none_is_read_wrongly_and_nine_in_ten_are_read():
    data = os.environ.get("AMBI_TEST_DATA")
    path = Path(data or "") / ".." / "cases" / "answers.jsonl"
    if not data or not path.is_file():
        pytest.skip("no cases/answers.jsonl beside the folder that AMBI_TEST_DATA names")
    readable, read, wrong = 0, 0, []
    for line in path.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        labels = tuple(case["labels"])
        answer = READERS[case["readout"]](case["text"], labels)
        readable += case["expected"] is not None
        read += answer.shares is not None and case["expected"] is not None
        if answer.shares is not None and not agrees(answer, case["expected"], labels):
            wrong.append(case["name"])
    assert wrong == []
    assert read >= 0.9 * readable


@pytest.mark.parametrize(
    "text", ["happy", "Answer: happy", "The voice sounds happy", "happy, because the voi", "{", ""]
)
@pytest.mark.parametrize("readout", READERS)
def test_of_a_cut_answer_what_may_go_on_does_not_count(readout, text):
    assert READERS[readout](text, LABELS, (), True) == Answer(None, "truncated")


@pytest.mark.parametrize(
    "text", ["Happy.\nThe pitch is", "Answer: happy\nSince the", '{"emotion": "happy"}\nThe', "**Happy**\n\nIt"]
)
@pytest.mark.parametrize("readout", READERS)
def test_of_a_cut_answer_a_concluded_label_counts(readout, text):
    answer = READERS[readout](text, LABELS, (), True)
    if readout == "shares" and "{" not in text:
        assert answer == Answer(None, "truncated")
    else:
        assert agrees(answer, {"happy": 1})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"happy": 0.6, "sad": 0.4}\n\nThe pitch', {"happy": 0.6, "sad": 0.4}),
        ('{"happy": 0.6, "sad": 0.4}\n{"happy": 0.1, "sa', {"happy": 0.6, "sad": 0.4}),
        ('{"happy": 0.6, "sad": 0.4', None),
        ("happy: 0.6\nsad: 0.4", None),
        ("happy: 60%, sad: 40%, neu", None),
        ("<think>happy: 1, sad", None),
    ],
)
def test_of_a_cut_distribution_only_a_closed_object_counts(text, expected):
    answer = read_shares(text, LABELS, (), True)
    assert agrees(answer, expected)
    assert expected or answer.reason == "truncated"
