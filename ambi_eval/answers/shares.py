"""Reads the distribution over the labels that a text states, and refuses what it would have to guess."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from ambi_eval.answers import grammar
from ambi_eval.answers.label import one_label, read_prose
from ambi_eval.answers.lexicon import EMOTIONS, Answer, Lexicon, Synonyms, lexicon, said
from ambi_eval.answers.objects import Found, Number, Stated, average, find_objects, number_of, pick_column

# Shares whose sum is within this of 1 count as rounded; three times 0.33 is within.
SUM_TOLERANCE = 0.01 + 1e-9


def read_shares(text: str, labels: tuple[str, ...], synonyms: Synonyms = (), cut: bool = False) -> Answer:
    """Read the distribution over the labels that a text states.

    An object is an answer, then a table, then labels with numbers in lines or sentences. Labels that an answer leaves
    out have share 0, if the others sum to 1. A text without numbers is read by `read_label`. Of several different
    answers, the one that the text calls final counts, or the only one that it does not call an example, an alternative
    or the like; else the text is refused. docs/answers.md shows the grammar.

    A distribution over other emotions is never cut down to the labels. Shares of all labels that do not sum to 1 are
    divided by their sum, in a list only if no label or number stays unread.

    Args:
        text: The model's whole answer; it is read from the end of the model's thinking on.
        labels: The task's labels. Case does not matter; blank, `-` and `_` are the same between words.
        synonyms: Other words for the labels, as `freeze_synonyms` returns them.
        cut: Whether the answer ends at the token limit. Then only an object that was closed counts.

    Returns:
        The shares, or the reason why there are none. No text raises.

    >>> read_shares("happy: 75%, sad: 25%", ("angry", "happy", "sad")).shares
    (0.0, 0.75, 0.25)
    """
    return _usual(text, labels) or _read_shares(text, labels, synonyms, cut)


# `json.loads` without what it does around the value: half of its time for an answer of this length.
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
def _read_shares(text: str, labels: tuple[str, ...], synonyms: Synonyms, cut: bool) -> Answer:
    plain = said(text)
    if plain is None:
        return Answer(None, "truncated" if cut else "unfinished")
    if not plain.strip():
        return Answer(None, "truncated" if cut else "empty")
    words = lexicon(labels, synonyms)
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


# ------------------------------------------------------------------------------------------------------- objects

_LISTENER_LEAD = re.compile(rf"\b{grammar.LISTENER}\W*$")
_SENTENCE_END = re.compile(r"[.!?](?=\s)")


_EXAMPLE = re.compile(r"\b(?:examples?|format|form|template|placeholder)\b")


def _lead(text: str) -> str:
    """Return the sentence that leads to what follows a text: its last one.

    A sentence on a line of its own leads on where it ends with a colon, or calls what follows an example.
    """
    before, _, line = text.rpartition("\n")
    if line.strip(" \"'("):
        return _SENTENCE_END.split(line)[-1]
    lead = _SENTENCE_END.split(before.rstrip().rpartition("\n")[2])[-1]
    return lead if lead.endswith(":") or _EXAMPLE.search(lead) else ""


def _is_aside(lead: str) -> bool:
    if grammar.NOT_SAID.search(lead):
        return True
    return bool(grammar.ASIDE.search(grammar.OWN_GUESS.sub("", lead))) and not grammar.OWN_ANSWER.search(lead)


def _of_objects(plain: str, objects: list[Found], words: Lexicon) -> Answer:
    """Read the answer out of the objects of a text."""
    end = 0
    candidates: list[tuple[str, Found, Stated]] = []  # what leads to an object, the object, what it states
    for found in objects:
        if found.stated is not None:
            candidates.append((_lead(plain[end : found.start]), found, found.stated))
        end = max(end, found.end)
    candidates = [each for each in candidates if not _says_nothing(each[2])] or candidates
    if len(candidates) > 1:
        candidates = [each for each in candidates if each[1].is_closed] or candidates
    main = [each for each in candidates if not _is_aside(each[0])]
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
    """Return the list by which a text corrects the object before it, if it does."""
    final = [run.stated for run in _lists(rest, words).runs if run.is_final and not run.is_aside]
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
    """Whether an object only gives 0 to all labels (the form, copied), or numbers to other things."""
    if stated.label is not None or stated.several:
        return False
    return not stated.numbers or all(number.value == 0 for number in stated.numbers.values())


def _answer(stated: Stated, words: Lexicon, *, unread: bool = False, bare: bool = False) -> Answer:
    """Return the distribution of what was stated, or why it is none.

    Args:
        stated: What was stated.
        words: The labels.
        unread: Whether numbers stay unread around it.
        bare: Whether labels without a number stand around it.
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


# ------------------------------------------------------------------------------------------- lists and sentences

_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_TENS = dict(
    zip(
        ["ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred"],
        range(10, 101, 10),
        strict=True,
    )
)
_PARTS = {"half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "tenth": 10}
_WORD_NUMBER = (
    rf"(?P<tens>{'|'.join(_TENS)})(?:[ -](?P<ones>{'|'.join(_ONES[1:10])}))? ?(?:%|percent|per cent)"
    rf"|(?:(?P<many>an?|{'|'.join(_ONES[1:10])})[ -])?(?P<part>{'|'.join(_PARTS)})s?\b"
    r"|(?P<all>all|everyone|everybody)\b(?=[\w ]*\b(?:say|choose|pick|hear|vote|name)\b)"
)
_DIGITS = r"(?:\d+(?:[.,]\d+)?|\.\d+)(?:e[-+]?\d+)?"
_UNIT = (
    r"hz|khz|db|ms|s|secs?|seconds?|minutes?|min|bpm|wpm|words?|syllables?|semitones?|pauses?|years?|times?|x|st|nd|rd|th|k"
    r"|-?year|-?point|stars?|clips?|speakers?|turns?|rising|peaks?"
)
_TOKEN = (
    r"(?P<item>\b\d{{1,2}}[.)](?=\s+\W*{label}))"
    r"|(?P<label>{label})"
    r"|(?P<time>\b\d+:\d\d\b)"
    rf"|(?P<range>{_DIGITS} ?%? ?(?:-|to|or|±|\+/-) ?{_DIGITS} ?%?|(?<![-=])[<>≤≥±] ?{_DIGITS} ?%?"
    rf"|\b(?:at least|at most|more than|less than|under|over|below|above|up to|between) (?:half|an?\b|{_DIGITS}) ?%?)"
    r"|(?P<counted>\b(?:speaker|listener|rater|clip|segment|part|option|person|sentence|rank|top|19|20)"
    r"[ #]*\d{{1,2}}\b)"
    rf"|(?P<doubted>{_DIGITS} ?%? ?\?)"
    rf"|(?P<not_a_share>(?<![\w.]){_DIGITS}(?:[ -](?:{_UNIT})\b|(?:hz|khz|db|ms|s|x|st|nd|rd|th|k)\b)"
    r"|(?:confidence|certainty|arousal|valence|dominance|intensity|total|sum)"
    rf"[^\w\n]{{{{1,6}}}}{_DIGITS} ?%?)"
    rf"|(?P<number>(?<![a-z0-9.])[-+]?{_DIGITS}(?: ?/ ?\d+| (?:out )?of (?:the )?\d+)?"
    r" ?(?:%|percent\b|per cent\b|pct\b)?(?![a-z0-9]))"
    rf"|(?P<words>\b(?:{_WORD_NUMBER}))"
    r"|(?P<each>\beach\b)"
)  # fmt: skip

# What may stand between a label and its number.
_AFTER_LABEL = re.compile(
    r"""(?:[\s:;=|~>()\[\]"'.,/█▇▓■#&+\\]|-(?!\d)|(?:is|at|about|around|approx\w*|roughly|nearly|ca|circa|would|be|gets?|has|with"""
    r"""|shares?|probability|likelihood|percentage|proportion|estimated|of|the|an?|votes?|listeners|raters|audio|together|leads|follows|low|medium|moderate|high|mild|slight|strong|very"""
    r"""|[^\x00-\x7f]+)(?![a-z]))*"""
)
# What may stand between a number and its label.
_BEFORE_LABEL = re.compile(
    r"""(?:[\s:|~()\[\]"'*=\\&-]|(?:of|the|listeners?|raters?|people|them|respondents|participants|annotators|others?|would|will"""
    r"""|say|said|choose|chose|pick|picked|hear|heard|vote|voted|votes?|labell?(?:ed)?|name|named|select|selected|perceive|identify"""
    r"""|call|answer|think|feel|rate|judge|it|its|is|was|as|for|to|sounds?|probability|chance|likelihood|shares?|that|this|voice"""
    r"""|speaker|emotion|an?|remaining|[^\x00-\x7f]+)(?![a-z]))*"""
)
_FILLER = re.compile(r"[^\w]*(?:each|and|both|while|the other|other|about|around|roughly|another|[^\x00-\x7f]+|[^\w])*")
_JOINED_WORD = re.compile(r"[a-z]+\s*(?:/|&|\+|\bor\b|\band\b)\s*$")
_UNITS_WORD = re.compile(
    r"\b(?:votes?|percent|listeners?|raters?|people|of|the|each|\d)\s*(?:,\s*)?(?:and|or|/|&|\+)\s*$"
)
_DENIED = re.compile(r"(?:\b(?:not|non|never|without)|n't)\W*$")


class _Token(NamedTuple):
    """A label or number in a sentence; `label` is None for a number."""

    label: int | None
    number: Number
    start: int
    end: int


@lru_cache(maxsize=256)
def _tokens(label: str) -> re.Pattern[str]:
    return re.compile(_TOKEN.format(label=label), re.MULTILINE)


@dataclass(slots=True)
class _Run:
    """Labels with their numbers, until one of them gets another number."""

    stated: Stated = field(default_factory=Stated)
    is_final: bool = False
    is_aside: bool = False


@dataclass(slots=True)
class _List:
    """What the lines and sentences of a text state."""

    runs: list[_Run] = field(default_factory=list)
    unread: list[float] = field(default_factory=list)
    bare: bool = False  # a label without a number beside those that have one
    joined: bool = False  # several labels with one number
    vague: bool = False  # a number that is a range or a bound

    def add(self, label: int, number: Number, lead: str) -> None:
        """Take a label with its number."""
        final, aside = grammar.FINAL.search(lead) is not None, _is_aside(lead)
        run = self.runs[-1] if self.runs else None
        if (
            run is None
            or (run.is_aside != aside)
            or (label in run.stated.numbers and run.stated.numbers[label].value != number.value)
            or (final and not run.is_final)
        ):
            if run and not aside and not final:
                for earlier in self.runs:
                    if not earlier.is_aside and earlier.stated.numbers.get(label, NO_NUMBER).value == number.value:
                        return  # restated
            run = _Run(is_final=final, is_aside=aside)
            self.runs.append(run)
        run.stated.numbers.setdefault(label, number)


NO_NUMBER = Number(math.nan)


def _of_prose(plain: str, words: Lexicon) -> Answer:
    """Read the answer of a text without objects."""
    table = _of_tables(plain, words) or _of_listeners(plain, words)
    if table:
        return _answer(table, words)
    found = _lists(plain, words)
    main = [run for run in found.runs if not run.is_aside]
    unread = any(number > 0 for number in found.unread)
    if found.joined:
        return Answer(None, "ambiguous_label")
    if not found.runs and found.unread and len(plain.split()) == 2 * len(found.unread):
        found = _lists(plain.replace("\n", " "), words)  # labels and numbers on lines of their own
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


def _lists(plain: str, words: Lexicon) -> _List:
    """Read the labels with numbers in the lines and sentences of a text."""
    found = _List()
    lead = ""
    for line in _DOTS.sub(":", plain).split("\n"):
        for sentence in _SENTENCES.split(_ITEM.sub("", line)):
            if _read_sentence(sentence, lead, words, found):
                lead = ""
            elif sentence.strip():
                lead = sentence
    return found


_ITEM = re.compile(r"^[ \t>#-]*\(?(?:\d{1,2}|[a-z])[.)]\s+")
_SENTENCES = re.compile(r"(?<=[.!?;])\s+(?=\D)")
_DOTS = re.compile(r"\.{2,}")
_PERCENT = re.compile(r"\b\d+(?:\.\d+)? ?(?:%|percent\b)?")
_OTHER_SCALE = re.compile(r"\b(?:logits?|log|odds|z-scores?|rank\w*|ratings?|intensit\w+|scale|stars?)\b")
_MIXED = re.compile(
    r"\b(?:mostly|mainly|largely|primarily|predominantly|partly|partially|somewhat|most|majority|mix\w*|blend|some|hint)\b"
)

# "neutral (very likely), happy (unlikely)": grades of several labels are no shares.
_GRADED = re.compile(
    r"\([^()]*\b(?:un)?(?:likely|probable)\)|\b(?:very|most|less) (?:un)?likely\b[^.!?\n]*\bunlikely\b"
)


def _of_label(plain: str, words: Lexicon, found: _List) -> Answer:
    """Read a text that gives no label a number: the label that it asserts has all."""
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


def _read_sentence(sentence: str, lead: str, words: Lexicon, found: _List) -> bool:
    """Read the labels with numbers of one sentence; return whether it has any."""
    tokens: list[_Token] = []
    each: set[int] = set()  # the numbers of tokens that "each" stands behind
    for token in _tokens(words.label.pattern).finditer(sentence):
        kind = token.lastgroup
        if token["label"] is not None:
            name = token["label"].replace("-", " ")
            tokens.append(_Token(words.names[" ".join(name.split())], NO_NUMBER, token.start(), token.end()))
        elif token["range"] is not None or token["doubted"] is not None:
            found.vague = True
        elif token["number"] is not None:
            tokens.append(_Token(None, number_of(token[0]), token.start(), token.end()))
        elif token["words"] is not None:
            tokens.append(_Token(None, _word_number(token), token.start(), token.end()))
        elif kind == "each" and tokens and tokens[-1].label is None:
            each.add(len(tokens) - 1)
    numbers = [token for token in tokens if token.label is None]
    if len(numbers) == len(tokens) or not numbers:
        found.unread += [token.number.value for token in numbers]
        return False
    first = lead + "\n" + sentence[: tokens[0].start]
    named = next(i for i, token in enumerate(tokens) if token.label is not None)
    number_first = (
        named > 0
        and tokens[-1].label is not None
        and (
            _BEFORE_LABEL.fullmatch(sentence, tokens[named - 1].end, tokens[named].start) is not None
            or named - 1 in each
        )
    )
    before = len(found.runs), len(found.unread)
    (_numbers_before if number_first else _numbers_after)(sentence, tokens, each, first, found)
    return (len(found.runs), len(found.unread)) != before


def _word_number(token: re.Match[str]) -> Number:
    if token["all"]:
        return Number(1.0, is_percent=None)
    if token["tens"]:
        return Number(
            (_TENS[token["tens"]] + (_ONES.index(token["ones"]) if token["ones"] else 0)) / 100, is_percent=True
        )
    many = token["many"]
    times = _ONES.index(many) if many in _ONES else 1
    return Number(times / _PARTS[token["part"]], is_percent=None)


def _numbers_before(sentence: str, tokens: list[_Token], each: set[int], lead: str, found: _List) -> None:
    """Read "60% happy and 40% sad": each number belongs to the label behind it."""
    i = 0
    while i < len(tokens):
        token = tokens[i]
        group = []
        j = i + 1
        while j < len(tokens) and tokens[j].label is not None:
            group.append(tokens[j])
            j += 1
        i_next = max(j, i + 1)
        if not group:
            found.unread.append(token.number.value)
        elif len(group) > 1 and i not in each and token.number.value > 0:
            found.joined = True
        elif i not in each and not _BEFORE_LABEL.fullmatch(sentence, token.end, group[0].start):
            found.unread.append(token.number.value)
        else:
            after = sentence[group[-1].end : tokens[j].start if j < len(tokens) else len(sentence)]
            found.joined |= re.match(r"\s*(?:/|&|\+|\bor\b)\s*[a-z]", after) is not None
            for each_label in group:
                if each_label.label is not None:
                    found.add(each_label.label, token.number, lead)
        i = i_next


def _numbers_after(sentence: str, tokens: list[_Token], each: set[int], lead: str, found: _List) -> None:
    """Read "happy: 60%, sad: 40%": each number belongs to the label before it."""
    i = 0
    rows: list[tuple[int, dict[str, Number]]] = []
    group: list[_Token] = []
    while i < len(tokens):
        token = tokens[i]
        if token.label is None:
            found.unread.append(token.number.value)
            i += 1
            continue
        group.append(token)
        i += 1
        if i < len(tokens) and tokens[i].label is not None:
            continue
        cells: dict[str, Number] = {}
        has_each = False
        end = token.end
        while i < len(tokens) and tokens[i].label is None:
            if _AFTER_LABEL.fullmatch(sentence, end, tokens[i].start):
                cells[str(len(cells))] = tokens[i].number
                has_each |= i in each
                end = tokens[i].end
            else:
                found.unread.append(tokens[i].number.value)
            i += 1
        if not cells:
            found.bare = True
            group = []
            continue
        start = sentence[: group[0].start]
        if _DENIED.search(start):
            found.joined = True
        if len(group) > 1 and not has_each and any(number.value > 0 for number in cells.values()):
            if len({one.label for one in group}) > 1:
                found.joined = True
        elif _JOINED_WORD.search(start) and not _UNITS_WORD.search(start) and not has_each:
            found.joined = True
        for one in group:
            if one.label is not None:
                rows.append((one.label, cells))
        group = []
    if not rows:
        return
    width = max(len(cells) for _, cells in rows)
    picked = pick_column(rows) if width > 1 else None
    for label, cells in rows:
        found.add(label, picked[label] if picked else cells["0"], lead)


# -------------------------------------------------------------------------------------------------------- tables

_LISTENER_LINE = re.compile(rf"^\W*{grammar.LISTENER}\s*[:=.-]\s*(.*)$")


def _of_listeners(plain: str, words: Lexicon) -> Stated | None:
    """Read lines that each give the label of one listener."""
    votes = []
    for line in plain.split("\n"):
        if match := _LISTENER_LINE.match(line):
            label = words.find(match[1].strip())
            if label is None:
                return None
            votes.append(label)
    if len(votes) < 2 or len(words.label.findall(plain)) > len(votes):
        return None
    return Stated({label: Number(votes.count(label) / len(votes)) for label in set(votes)})


def _of_tables(plain: str, words: Lexicon) -> Stated | None:
    """Read a table: rows of cells between bars, `&`, tabs or commas, with the labels in a column or in a row."""
    rows = [cells for line in plain.split("\n") if len(cells := _cells(line)) > 1]
    if len(rows) < 2:
        return None
    labels = [[words.find(cell) for cell in row] for row in rows]
    header = next((row for row, found in zip(rows, labels, strict=True) if not any(f is not None for f in found)), [])
    for row, found in zip(rows, labels, strict=True):
        across = {i: label for i, label in enumerate(found) if label is not None}
        if len(set(across.values())) > 1:
            values = [
                r
                for r in rows
                if r is not row and len(r) == len(row) and all(not math.isnan(number_of(r[i]).value) for i in across)
            ]
            if len(values) == 1:
                return Stated({label: number_of(values[0][i]) for i, label in across.items()})
            return Stated(several=True) if values else None
    columns: list[tuple[int, dict[str, Number]]] = []
    others: dict[str, Number] = {}
    conflict = False
    for row, found in zip(rows, labels, strict=True):
        named = [label for label in found if label is not None]
        # A sentence before the table may stand in its first line.
        heads = header[-len(row) :] if len(header) >= len(row) else [""] * len(row)
        numbers = {
            (heads[i] if heads[i].strip() else str(i)): number
            for i, cell in enumerate(row)
            if found[i] is None and not math.isnan((number := number_of(cell)).value)
        }
        if len(named) == 1:
            conflict |= named[0] in {label for label, _ in columns}
            columns.append((named[0], numbers))
        elif (
            numbers
            and any(n.value > 0 for n in numbers.values())
            and not re.match(r"\W*(?:total|sum)\b", " ".join(row))
        ):
            if any(words.label.search(cell) for cell in row):
                return Stated(several=True)
            others[" ".join(row)] = max(numbers.values())
    if len(columns) < 2:
        return None
    if not any(numbers for _, numbers in columns):
        return Stated(several=True)
    picked = pick_column(columns)
    if picked is None:
        return Stated(several=True)
    return Stated(picked, others=others, conflict=conflict)


def _cells(line: str) -> list[str]:
    """Return the cells of a table's row; one cell or none if the line is no row."""
    if "|" in line:
        return [cell.strip() for cell in line.strip().strip("|").split("|")]
    if "&" in line:
        return [cell.strip() for cell in line.split("&")]
    return []
