"""Reads the distribution over the labels that a text states; unclear texts give none."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache

from ambi_eval.answers import grammar
from ambi_eval.answers.label import one_label, read_prose
from ambi_eval.answers.languages import ENGLISH, Spoken, in_english
from ambi_eval.answers.lexicon import EMOTIONS, Answer, Lexicon, Synonyms, lexicon, normalized_answer
from ambi_eval.answers.lists import Listed, read_lists
from ambi_eval.answers.objects import Found, Stated, average, find_objects
from ambi_eval.answers.tables import read_listeners, read_table

# Shares whose sum differs from 1 by at most this are rounded: 0.33 three times, for example.
SUM_TOLERANCE = 0.01 + 1e-9


def read_shares(
    text: str, labels: tuple[str, ...], synonyms: Synonyms = (), cut: bool = False, spoken: Spoken = ENGLISH
) -> Answer:
    """Read the distribution over the labels that a text states.

    Objects are read first, then tables, then labels with numbers in lines or sentences. A text without numbers is read
    by `read_label`. Labels that an answer leaves out have share 0, if the others sum to 1. Of several different
    answers, the one that the text calls final counts, or the only one that the text does not call an example, an
    alternative or the like; otherwise none counts. docs/answers.md shows the grammar.

    A distribution that includes other emotions is not read. Shares of all labels that do not sum to 1 are divided by
    their sum; in a list, only if every label and number was read.

    Args:
        text: The model's whole answer; its thinking is skipped.
        labels: The task's labels. Case does not matter; blank, `-` and `_` are the same between words.
        synonyms: Other words for the labels, as `freeze_synonyms` returns them.
        cut: Whether the answer was cut at the token limit. Then only a closed object counts.
        spoken: The language of the answer, besides English.

    Returns:
        The shares, or the reason why there are none. No text raises an error.

    >>> read_shares("happy: 75%, sad: 25%", ("angry", "happy", "sad")).shares
    (0.0, 0.75, 0.25)
    """
    return _usual(text, labels) or _read_shares(text, labels, synonyms, cut, spoken)


# `json.loads` without its checks around the value, which take half of its time for an answer of this length.
_read_json = json.JSONDecoder().raw_decode


def _usual(text: str, labels: tuple[str, ...]) -> Answer | None:
    """Read the usual answer, a JSON object of all labels from 0 to 1 and nothing else, in a fraction of the time."""
    text = text.strip()
    if not text.startswith("{") or text.count(":") != len(labels):
        return None
    try:
        stated, end = _read_json(text)
        numbers = [stated[label] for label in labels]
    except (ValueError, KeyError, RecursionError):
        return None
    if end != len(text) or not {int, float}.issuperset(map(type, numbers)) or min(numbers) < 0 or max(numbers) > 1:
        return None
    total = sum(sorted(numbers))
    if not total > 0:  # also NaN
        return None
    return Answer(tuple([number / total for number in numbers]), None, total)


@lru_cache(maxsize=1 << 15)
def _read_shares(text: str, labels: tuple[str, ...], synonyms: Synonyms, cut: bool, spoken: Spoken) -> Answer:
    plain = normalized_answer(text)
    if plain is None or not plain.strip():
        return Answer(None, "truncated" if cut else "unfinished" if plain is None else "empty")
    plain, words = in_english(plain, spoken), lexicon(labels, synonyms)
    objects = [found for found in find_objects(plain, words) if found.is_closed or not cut]
    if any(found.stated for found in objects):
        answer = _of_objects(plain, objects, words)
        if answer.shares is not None or answer.reason != "no_label":
            return answer
    if cut:
        return Answer(None, "truncated")
    if objects:
        plain = plain[: objects[0].start] + "\n" + plain[objects[-1].end :]
    return _of_prose(plain, words)


_LISTENER_LEAD = re.compile(rf"\b{grammar.LISTENER}\W*$")
_SENTENCE_END = re.compile(r"[.!?](?=\s)")
_EXAMPLE = re.compile(r"\b(?:examples?|format|form|template|placeholder)\b")


def _lead(text: str) -> str:
    """Return the last sentence of a text, which may introduce an object after the text.

    A sentence on a line of its own introduces it only if it ends with a colon or mentions an example.
    """
    before, _, line = text.rpartition("\n")
    if line.strip(" \"'("):
        return _SENTENCE_END.split(line)[-1]
    lead = _SENTENCE_END.split(before.rstrip().rpartition("\n")[2])[-1]
    return lead if lead.endswith(":") or _EXAMPLE.search(lead) else ""


def _of_objects(plain: str, objects: list[Found], words: Lexicon) -> Answer:
    end = 0
    candidates: list[tuple[str, Found, Stated]] = []  # the sentence before an object, the object, what it states
    for found in objects:
        if found.stated is not None:
            candidates.append((_lead(plain[end : found.start]), found, found.stated))
        end = max(end, found.end)
    candidates = [each for each in candidates if not _says_nothing(each[2])] or candidates
    if len(candidates) > 1:
        candidates = [each for each in candidates if each[1].is_closed] or candidates
    main = [each for each in candidates if not grammar.is_aside(each[0])]
    if not main:
        return Answer(None, "not_asserted")
    if grammar.UNHEARD.search(plain[: main[0][1].start]):
        return Answer(None, "refused")
    chosen = main[0][2]
    if not all(stated is chosen or chosen.same(stated) for _, _, stated in main):
        if all(_LISTENER_LEAD.search(lead) for lead, _, _ in main):
            chosen = average([stated for _, _, stated in main])
        elif grammar.FINAL.search(main[-1][0]):
            chosen = main[-1][2]
        else:
            return Answer(None, "conflicting_shares")
    corrected = _corrected(plain[end:], words)
    if corrected and not corrected.same(chosen):
        return Answer(None, "conflicting_shares")
    if not main[0][1].is_closed and len(chosen.numbers) < words.size:
        return Answer(None, "unfinished")
    return _answer(chosen, words)


def _corrected(rest: str, words: Lexicon) -> Stated | None:
    """Return the list with which a text corrects the object before it; None if it does not."""
    final = [run.stated for run in read_lists(rest, words).runs if run.is_final and not run.is_aside]
    if final:
        return final[-1]
    for sentence in re.split(r"(?<=[.!?])\s|\n", rest):
        if _CORRECTS.search(sentence) and words.label.search(sentence) and re.search(r"\d", sentence):
            return Stated(several=True)
    return None


_CORRECTS = re.compile(
    r"\b(?:correct(?:ed|ion)|revis\w+|actually|updat\w+|on reflection|wait|adjusted|should be|i meant)\b"
)


def _says_nothing(stated: Stated) -> bool:
    """Return whether an object gives 0 to all its labels, as in a copied form, or has numbers without labels."""
    if stated.label is not None or stated.several:
        return False
    return not stated.numbers or all(number.value == 0 for number in stated.numbers.values())


def _answer(stated: Stated, words: Lexicon, *, unread: bool = False, bare: bool = False) -> Answer:
    """Return the stated distribution, or the reason why there is none.

    Beside an object, list or table there may be `unread` numbers, or labels without a number (`bare`).
    """
    if stated.several:
        return Answer(None, "ambiguous_label")
    if stated.label is not None:
        return one_label(stated.label, words.size)
    if not stated.numbers:
        return Answer(None, "unknown_label" if stated.others else "no_label")
    if stated.conflict:
        return Answer(None, "conflicting_shares")
    numbers = list(stated.numbers.values())
    values = sorted(number.value for number in numbers)  # sorted: the order of the labels must not move a digit
    total = sum(values)
    if not math.isfinite(total):
        return Answer(None, "not_a_number")
    if values[0] < 0:
        return Answer(None, "negative_share")
    if total == 0:
        return Answer(None, "zero_sum")
    units = {number.is_percent for number in numbers if number.value > 0 and number.is_percent is not None} or {False}
    fractions = [value for value in values if 0 < value < 1]
    whole = 100.0 if total > 50 and True not in units else 1.0
    if len(units) != 1 or (
        fractions and values[-1] > 1 and abs(total / 100 - 1) > 0.02 and True not in units and values[-1] > 2
    ):
        return Answer(None, "mixed_units")
    stated_sum = total / whole
    rescaled = abs(stated_sum - 1) > SUM_TOLERANCE
    others = sum(number.value for number in stated.others.values())
    if others and (rescaled or len(numbers) < words.size or stated.others.keys() & EMOTIONS):
        return Answer(None, "unknown_label")
    if rescaled:
        counts = len(values) > 1 and all(value == int(value) for value in values) and total <= 50 and True not in units
        counts = counts and not all(value % 5 == 0 for value in values)
        if any(number.is_fraction for number in numbers):
            return Answer(None, "conflicting_shares")
        if counts and len(values) > 2 and values == list(range(1, len(values) + 1)):
            return Answer(None, "no_share")  # ranks
        if len(numbers) < words.size and not (counts and total > 1) and not 1 < stated_sum < 1.1:
            return Answer(None, "incomplete_shares")
        if unread:
            return Answer(None, "unknown_label")
        if bare:
            return Answer(None, "ambiguous_label")
    shares = {label: number.value / total for label, number in stated.numbers.items()}
    return Answer(tuple([shares.get(label, 0.0) for label in range(words.size)]), None, stated_sum)


_PERCENT = re.compile(r"\b\d+(?:\.\d+)? ?(?:%|percent\b)?")
_OTHER_SCALE = re.compile(r"\b(?:logits?|log|odds|z-scores?|rank\w*|ratings?|intensit\w+|scale|stars?)\b")
_MIXED = re.compile(
    r"\b(?:mostly|mainly|largely|primarily|predominantly|partly|partially|somewhat|most|majority|mix\w*|blend|some|hint)\b"
)

# "neutral (very likely), happy (unlikely)": grades of several labels are no shares.
_GRADED = re.compile(
    r"\([^()]*\b(?:un)?(?:likely|probable)\)|\b(?:very|most|less) (?:un)?likely\b[^.!?\n]*\bunlikely\b"
)


def _of_prose(plain: str, words: Lexicon) -> Answer:
    table = read_table(plain, words) or read_listeners(plain, words)
    if table:
        return _answer(table, words)
    found = read_lists(plain, words)
    main = [run for run in found.runs if not run.is_aside]
    unread = any(number > 0 for number in found.unread)
    if found.joined:
        return Answer(None, "ambiguous_label")
    if not found.runs and found.unread and len(plain.split()) == 2 * len(found.unread):
        found = read_lists(plain.replace("\n", " "), words)  # labels and numbers on lines of their own
        main = found.runs
    if not main:
        if found.runs:
            return Answer(None, "not_asserted")
        return _of_label(plain, words, found)
    if found.vague:
        return Answer(None, "not_a_number")
    chosen = main[0]
    if len(main) > 1:
        if not main[-1].is_final:
            return Answer(None, "conflicting_shares")
        chosen = main[-1]
    if grammar.UNHEARD.search(plain):
        return Answer(None, "refused")
    if len(chosen.stated.numbers) == 1 and read_prose(_PERCENT.sub(" ", plain), words).shares is None:
        return Answer(None, "not_asserted")  # "I'd be 100% happy to help"
    total = chosen.stated.total
    unread = unread and not all(abs(number - total) < 1e-9 for number in found.unread if number > 0)
    unread |= _OTHER_SCALE.search(plain) is not None
    return _answer(chosen.stated, words, unread=unread, bare=found.bare)


def _of_label(plain: str, words: Lexicon, found: Listed) -> Answer:
    """Read a text in which no label has a number: the label that it asserts gets share 1."""
    answer = read_prose(plain, words)
    if answer.shares is None:
        if found.unread and not grammar.REFUSAL.search(plain):
            return Answer(None, "no_share" if words.label.search(plain) else "no_label")
        return answer
    if (
        found.vague
        or _MIXED.search(plain)
        or _GRADED.search(plain)
        or any(0 < number < 1 or 1 < number < 100 for number in found.unread)
    ):
        return Answer(None, "no_share")
    return answer
