"""Reads labels with numbers in lines and sentences: "happy: 60%", "60% happy and 40% sad"."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from ambi_eval.answers import grammar
from ambi_eval.answers.lexicon import Lexicon
from ambi_eval.answers.objects import Number, Stated, number_of, pick_column

NO_NUMBER = Number(math.nan)
_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_TENS_WORDS = ["ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred"]
_TENS = dict(zip(_TENS_WORDS, range(10, 101, 10), strict=True))
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

# The text that may stand between a label and the number after it.
_AFTER_LABEL = re.compile(
    r"""(?:[\s:;=|~>()\[\]"'.,/█▇▓■#&+\\]|-(?!\d)|(?:is|at|about|around|approx\w*|roughly|nearly|ca|circa|would|be|gets?|has|with"""
    r"""|shares?|probability|likelihood|percentage|proportion|estimated|of|the|an?|votes?|listeners|raters|audio|together|leads|follows|low|medium|moderate|high|mild|slight|strong|very"""
    r"""|[^\x00-\x7f]+)(?![a-z]))*"""
)
# The text that may stand between a number and the label after it.
_BEFORE_LABEL = re.compile(
    r"""(?:[\s:|~()\[\]"'*=\\&-]|(?:of|the|listeners?|raters?|people|them|respondents|participants|annotators|others?|would|will"""
    r"""|say|said|choose|chose|pick|picked|hear|heard|vote|voted|votes?|labell?(?:ed)?|name|named|select|selected|perceive|identify"""
    r"""|call|answer|think|feel|rate|judge|it|its|is|was|as|for|to|sounds?|probability|chance|likelihood|shares?|that|this|voice"""
    r"""|speaker|emotion|an?|remaining|[^\x00-\x7f]+)(?![a-z]))*"""
)
_JOINED_WORD = re.compile(r"[a-z]+\s*(?:/|&|\+|\bor\b|\band\b)\s*$")
_UNITS_WORD = re.compile(
    r"\b(?:votes?|percent|listeners?|raters?|people|of|the|each|\d)\s*(?:,\s*)?(?:and|or|/|&|\+)\s*$"
)
_ITEM = re.compile(r"^[ \t>#-]*\(?(?:\d{1,2}|[a-z])[.)]\s+")
_SENTENCES = re.compile(r"(?<=[.!?;])\s+(?=\D)")
_DOTS = re.compile(r"\.{2,}")
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
class Run:
    """A distribution that a text lists: labels with numbers, until a label gets a second, different number."""

    stated: Stated = field(default_factory=Stated)
    is_final: bool = False
    is_aside: bool = False


@dataclass(slots=True)
class Listed:
    """The labels and numbers in the lines and sentences of a text."""

    runs: list[Run] = field(default_factory=list)  # the listed distributions
    unread: list[float] = field(default_factory=list)  # numbers that belong to no label
    bare: bool = False  # whether a label has no number while others in its sentence have one
    joined: bool = False  # whether several labels have one number together
    vague: bool = False  # whether a number is a range or a bound

    def add(self, label: int, number: Number, lead: str) -> None:
        """Add a label with its number; `lead` is the text before it."""
        final, aside = grammar.FINAL.search(lead) is not None, grammar.is_aside(lead)
        run = self.runs[-1] if self.runs else None
        if (
            run is None
            or (run.is_aside != aside)
            or (label in run.stated.numbers and run.stated.numbers[label].value != number.value)
            or (final and not run.is_final)
        ):
            plain = [run.stated.numbers.get(label, NO_NUMBER).value for run in self.runs if not run.is_aside]
            if not aside and not final and any(earlier == number.value for earlier in plain):
                return  # restated
            run = Run(is_final=final, is_aside=aside)
            self.runs.append(run)
        run.stated.numbers.setdefault(label, number)


def read_lists(plain: str, words: Lexicon) -> Listed:
    """Read the labels with numbers in the lines and sentences of a text."""
    found = Listed()
    lead = ""
    for line in _DOTS.sub(":", plain).split("\n"):
        for sentence in _SENTENCES.split(_ITEM.sub("", line)):
            if _read_sentence(sentence, lead, words, found):
                lead = ""
            elif sentence.strip():
                lead = sentence
    return found


def _read_sentence(sentence: str, lead: str, words: Lexicon, found: Listed) -> bool:
    """Read the labels with numbers of one sentence; return whether it has any."""
    tokens: list[_Token] = []
    each: set[int] = set()  # indices of the tokens before the word "each"
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
        ones = _ONES.index(token["ones"]) if token["ones"] else 0
        return Number((_TENS[token["tens"]] + ones) / 100, is_percent=True)
    many = token["many"]
    times = _ONES.index(many) if many in _ONES else 1
    return Number(times / _PARTS[token["part"]], is_percent=None)


def _numbers_before(sentence: str, tokens: list[_Token], each: set[int], lead: str, found: Listed) -> None:
    """Read "60% happy and 40% sad": each number belongs to the labels after it."""
    numbers = [i for i, token in enumerate(tokens) if token.label is None]
    for i, next_number in zip(numbers, [*numbers[1:], len(tokens)], strict=True):
        number, labels = tokens[i], tokens[i + 1 : next_number]
        if not labels:
            found.unread.append(number.number.value)
        elif len(labels) > 1 and i not in each and number.number.value > 0:
            found.joined = True
        elif i not in each and not _BEFORE_LABEL.fullmatch(sentence, number.end, labels[0].start):
            found.unread.append(number.number.value)
        else:
            after = sentence[labels[-1].end : tokens[next_number].start if next_number < len(tokens) else None]
            found.joined |= re.match(r"\s*(?:/|&|\+|\bor\b)\s*[a-z]", after) is not None
            for token in labels:
                if token.label is not None:
                    found.add(token.label, number.number, lead)


def _numbers_after(sentence: str, tokens: list[_Token], each: set[int], lead: str, found: Listed) -> None:
    """Read "happy: 60%, sad: 40%": each number belongs to the labels before it."""
    rows: list[tuple[int, dict[str, Number]]] = []
    runs = [list(run) for _, run in groupby(enumerate(tokens), key=lambda token: token[1].label is None)]
    if runs[0][0][1].label is None:
        found.unread += [number.number.value for _, number in runs.pop(0)]
    if len(runs) % 2:
        runs.append([])  # no number after the last labels
    for labels, numbers in zip(runs[::2], runs[1::2], strict=True):
        cells: dict[str, Number] = {}
        has_each = False
        end = labels[-1][1].end
        for i, token in numbers:
            if _AFTER_LABEL.fullmatch(sentence, end, token.start):
                cells[str(len(cells))] = token.number
                has_each |= i in each
                end = token.end
            else:
                found.unread.append(token.number.value)
        if not cells:
            found.bare = True
            continue
        start = sentence[: labels[0][1].start]
        if _DENIED.search(start):
            found.joined = True
        if len(labels) > 1 and not has_each and any(number.value > 0 for number in cells.values()):
            if len({token.label for _, token in labels}) > 1:
                found.joined = True
        elif _JOINED_WORD.search(start) and not _UNITS_WORD.search(start) and not has_each:
            found.joined = True
        rows += [(token.label, cells) for _, token in labels if token.label is not None]
    if not rows:
        return
    width = max(len(cells) for _, cells in rows)
    picked = pick_column(rows) if width > 1 else None
    for label, cells in rows:
        found.add(label, picked[label] if picked else cells["0"], lead)
