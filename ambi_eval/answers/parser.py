"""Reads the distribution or the label that a model's text states, and refuses what it would have to guess."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple

from ambi_eval.errors import AmbiError, did_you_mean

Reason = Literal[
    "empty",  # no text, or none after the model's thinking
    "unfinished",  # the text ends within its thinking or within an object
    "no_label",  # no label is named
    "no_share",  # labels and numbers, but no number that belongs to a label
    "ambiguous_label",  # several labels are named, and nothing says how much of each
    "negated",  # labels are named only to be denied or asked about
    "unknown_label",  # a share for something that is not a label
    "conflicting_shares",  # a label with two shares, or a later answer that leaves out part of an earlier one
    "not_a_number",  # a share that is not a finite number
    "negative_share",
    "mixed_units",  # some shares in per cent and others not
    "zero_sum",  # all shares are 0
]
Synonyms = tuple[tuple[str, tuple[str, ...]], ...]
SUM_TOLERANCE = 0.01


class Answer(NamedTuple):
    """What a text states.

    Attributes:
        shares: One share per label, in the labels' order, each in 0..1, together 1; None if the text was refused.
        reason: Why the text was refused; None if it was not.
        renormalised: The stated shares summed neither to 1 (within 0.01) nor to 100 (within 1).
    """

    shares: tuple[float, ...] | None
    reason: Reason | None = None
    renormalised: bool = False


def parse_shares(text: str, labels: tuple[str, ...], synonyms: Synonyms = ()) -> Answer:
    """Read the distribution over the labels that a text states.

    An object (JSON or Python style, nested or not) is an answer. Outside of objects, labels with numbers are one answer
    (`happy: 60%`, `| happy | 0.6 |`, `60% happy`) until a line or sentence gives one of them another number and so
    begins the next. The last complete answer counts; labels that it leaves out have share 0. A text without numbers is
    read by `parse_label`.

    A distribution over other emotions is never cut down to the labels: an object with a share for anything else is
    refused. Shares that do not sum to 1 are divided by their sum, in a list only if no label or number stays unread.

    Args:
        text: The model's whole answer; it is read from its last `</think>` on.
        labels: The task's labels. Case does not matter; blank, `-` and `_` are the same between words.
        synonyms: Other words for the labels, as `freeze_synonyms` returns them.

    Returns:
        The shares, or the reason why there are none. No text raises.

    >>> parse_shares("happy: 75%, sad: 25%", ("angry", "happy", "sad")).shares
    (0.0, 0.75, 0.25)
    """
    return _usual(text, labels) or _parse_shares(text, labels, synonyms)


@lru_cache(maxsize=1 << 15)
def _parse_shares(text: str, labels: tuple[str, ...], synonyms: Synonyms) -> Answer:
    said = _said(text)
    if said is None:
        return Answer(None, "unfinished")
    vocabulary = _vocabulary(labels, synonyms)
    reading = _read(said, vocabulary)
    answer = reading.answer
    if len(reading.drafts) > 1 and not (answer and answer.is_object):
        return Answer(None, "unfinished")
    if answer is None and not reading.has_unread_number:
        return parse_label(text, labels, synonyms)
    if answer is None:
        return Answer(None, "no_share" if _mentions(said, vocabulary)[0] else "no_label")
    if answer.reason:
        return Answer(None, answer.reason)

    numbers = answer.numbers.values()
    total = sum(sorted(number.value for number in numbers))  # sorted: the order of the labels must not move a digit
    units = {number.is_percent for number in numbers if number.value > 0}
    if not math.isfinite(total):
        return Answer(None, "not_a_number")
    if any(number.value < 0 for number in numbers):
        return Answer(None, "negative_share")
    if len(units) != 1:
        return Answer(None, "mixed_units" if units else "zero_sum")

    whole = 100.0 if total > 50 else 1.0
    renormalised = abs(total / whole - 1) > SUM_TOLERANCE + 1e-9  # three times 0.33 is within 0.01
    if renormalised and reading.numbered - {number.name for number in numbers}:
        return Answer(None, "conflicting_shares")
    if renormalised and not answer.is_object:
        if reading.has_unread_number:
            return Answer(None, "unknown_label")
        if _affirmed(_mentions(said, vocabulary)[0]) - answer.numbers.keys():
            return Answer(None, "ambiguous_label")
    shares = {label: number.value / total for label, number in answer.numbers.items()}
    return Answer(tuple(shares.get(label, 0.0) for label in range(len(labels))), renormalised=renormalised)


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
    return Answer(tuple([number / total for number in numbers]), None, abs(total - 1) > SUM_TOLERANCE + 1e-9)


# `json.loads` without what it does around the value: half of its time for an answer of this length.
_read_json = json.JSONDecoder().raw_decode


@lru_cache(maxsize=1 << 15)
def parse_label(text: str, labels: tuple[str, ...], synonyms: Synonyms = ()) -> Answer:
    """Read the one label that a text names.

    A label counts where it is named and neither denied nor asked about, as in "not happy", "happy is unlikely" and
    "happy?". The first sentence with labels after the last `Answer:` or `Emotion:` decides; else a last label that has
    a line and a sentence to itself; else the one label that the whole text names and nowhere denies.

    Args:
        text: The model's whole answer; it is read from its last `</think>` on.
        labels: The task's labels; they are found as whole words, the longest first.
        synonyms: Other words for the labels, as `freeze_synonyms` returns them.

    Returns:
        Share 1 on the label, or the reason why there is none. No text raises.

    >>> parse_label("Happy (not sad).", ("angry", "happy", "sad")).shares
    (0.0, 1.0, 0.0)
    """
    said = _said(text)
    if said is None:
        return Answer(None, "unfinished")
    if not said.strip():
        return Answer(None, "empty")
    mentions = _concluding(*_mentions(said, _vocabulary(labels, synonyms)))
    affirmed = _affirmed(mentions)
    if len(affirmed) == 1:
        return Answer(tuple(float(label in affirmed) for label in range(len(labels))))
    return Answer(None, "ambiguous_label" if affirmed else "negated" if mentions else "no_label")


def freeze_synonyms(labels: Sequence[str], synonyms: Mapping[str, Sequence[str]]) -> Synonyms:
    """Check a task's labels and their other words, and return these in the hashable form that the parsers take.

    Raises:
        AmbiError: If a key is not a label, a value is not a list of words, or one word stands for two labels.

    >>> freeze_synonyms(["happy", "sad"], {"happy": ["joy", "joyful"]})
    (('happy', ('joy', 'joyful')),)
    """
    for label, words in synonyms.items():
        if label not in labels:
            near = did_you_mean(str(label), labels)
            raise AmbiError(f"synonyms: {label!r} is not one of the labels {list(labels)}{near}")
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            raise AmbiError(f"synonyms: '{label}' needs a list of words in quotes, got {words!r}")
    owners: dict[str, str] = {}
    for label in labels:
        for word in (label, *synonyms.get(label, ())):
            owner = owners.setdefault(_name(_fold(word)), label)
            if owner != label:
                raise AmbiError(f"'{word}' stands for the labels '{owner}' and '{label}'; leave it with one of them")
    if "" in owners:
        raise AmbiError(f"label '{owners['']}' has a name without any word in it; rename it")
    return tuple((label, tuple(words)) for label, words in synonyms.items())


# Typography in ASCII (an en dash is a hyphen or minus, an em dash a colon), and Markdown's emphasis left out.
_PLAIN = str.maketrans(
    "\u2018\u2019\u201c\u201d\u2013\u2212\u2014\u2192\u2248_\u00a0\u202f" + "".join(map(chr, range(0xFF01, 0xFF5F))),
    "''\"\"--:>~   " + "".join(map(chr, range(0x21, 0x7F))),
    "*`\r\u200b\ufeff",
)


def _fold(text: str) -> str:
    return text.translate(_PLAIN).casefold()


def _said(text: str) -> str | None:
    """Return the folded text after the model's thinking, or None if the text ends within it."""
    said = _fold(text).rpartition("</think>")[2]
    # Escaped quotes stand inside of strings, where nothing is read.
    return None if "<think>" in said else said.replace('\\"', "").replace("\\'", "")


def _name(folded: str) -> str:
    """Return a folded label, synonym or key in the form in which names are compared."""
    return " ".join(folded.replace("-", " ").split())


# No two repetitions compete for the same characters, so that matching takes time linear in the text.
_NUMBER = (
    r"""[-+]?(?:\.?\d(?:[^\s,;|"'()\[\]{}<>]|,(?=\d))*(?<![.:!?])|(?:nan|inf(?:inity)?)\b)(?: ?(?:%|percent\b))?"""
)
_PERCENTAGE = r"\d[\d.]* ?(?:%|percent\b)"
# What may stand between a label and its number. A hyphen right before a digit is a minus.
_SEPARATOR = r"""(?:[ \t:=|~()\[\]"'>]|-(?=[\s>-])|(?:is|at|about|around|approximately|roughly)\b)+"""
_DENIAL = (
    r"(?:n't\b|\b(?:not(?!\s+(?:only|just)\b)|no|nor|neither|never|none|nothing|non|without|cannot|hardly|barely|scarcely"
    r"|rarely|seldom|unlike(?:ly)?|lack\w*|absen\w+|devoid|except(?:ing|ed)?|exclud\w+|rul\w+\s+out|fals\w+|wrong"
    r"|incorrect|doubt\w*|fail\w*|den(?:y|ies|ied)|far\s+from|opposite\s+of|(?:any|every)thing\s+but|all\s+but"
    r"|(?:rather|other)\s+than|instead\s+of|opposed\s+to"
    r"|(?:is|are|was|were|do|does|did|has|have|had|ca|could|would|should|wo|ai)nt)\b)"
)
_CUE = (
    r"""(?:(?<!/)\banswer\b["']?\s*(?:is\b|[:=>])|(?:^[^\w\n]*|["']|\b(?:therefore|thus|hence|overall|so|final)\b,?\s+)"""
    r"""(?:the\s+)?(?:emotion|label)["']?\s*(?:is\b|[:=]))\s*"""
)
# What, right after a label, makes it the one that a later denial is about: "happy is unlikely", "happy: no".
_SUBJECT = re.compile(
    r"""["']?[ \t]*(?:[:=-]|(?:\w+[ \t]+)?(?:is|are|was|were|can|could|may|might|must|will|would|should|do|does|did"""
    r"""|has|seems?|sounds?|appears?|fits?)(?:n't|nt|not)?\b)"""
)
_STRING = r""""[^"\n]*"|'[^'\n]*'"""
_OBJECT = re.compile(
    rf"""(?P<open>{{)|(?P<close>}})|(?P<key>{_STRING}|[^\W\d](?:[\w -]*\w)?)"""
    rf"""(?:[ \t]*[:=][ \t]*(?P<value>{_STRING}|(?:[^\s,{{}}"'\]]|,(?=\d))*(?:[ ]%)?))?"""
)


class _Vocabulary(NamedTuple):
    """The labels by their names, and the patterns that find them."""

    labels: dict[str, int]
    statement: re.Pattern[str]
    mention: re.Pattern[str]


@lru_cache(maxsize=256)
def _vocabulary(labels: tuple[str, ...], synonyms: Synonyms) -> _Vocabulary:
    names = {_name(_fold(label)): index for index, label in enumerate(labels)}
    names |= {_name(_fold(word)): labels.index(label) for label, words in synonyms for word in words}
    # The longest first, so that "low arousal" is not read as "low".
    words = [r"[\s-]+".join(map(re.escape, name.split())) for name in sorted(names, key=len, reverse=True)]
    label = rf"(?<!\w)(?<!\w-)(?:{'|'.join(words)})(?!-?\w)"
    statement = (
        rf"(?P<open>{{)|(?P<end>\n|[.!?;](?=\s))|^[ \t>#-]*\d+[.)](?=\s)|{_DENIAL}[ \t]+{label}"
        rf"|(?P<percentage>{_PERCENTAGE})[ \t]+(?P<counted>{label})"
        rf"|(?P<key>{label}){_SEPARATOR}(?P<value>{_NUMBER})"
        # "0 angry 1 happy 0 sad": these numbers stand before their labels, not after the one before.
        rf"|(?P<number>{_NUMBER})(?:[ \t]+{label}(?![ \t]*[:=|(]))?"
    )
    mention = (
        rf"(?P<cue>{_CUE})|^[^\w\n]*(?P<alone>{label})(?=[^\w\n]*$)|(?P<label>{label})"
        rf"|(?P<retraction>\bnot?[ \t]*(?=[.!?;,)\n]|\Z))|(?P<denial>{_DENIAL})"
        rf"|(?P<contrast>\bbut\b)|(?P<end>\?|[.!;](?!\w)|\n\s*\n)|(?P<pause>[,(])"
    )
    return _Vocabulary(names, re.compile(statement, re.MULTILINE), re.compile(mention, re.MULTILINE))


class _Number(NamedTuple):
    """A stated share: the name it was given to, the share as a fraction, and whether it was written in per cent."""

    name: str
    value: float
    is_percent: bool


def _number(name: str, raw: str) -> _Number:
    """Return the number that is written in `raw`; its value is NaN if there is none."""
    bare = raw.strip("\"' ~")
    digits = bare.removesuffix("percent").removesuffix("%")
    try:
        value = float(digits)
    except ValueError:
        value = math.nan
    return _Number(name, round(value / 100, 12) if digits != bare else value, digits != bare)  # 33.3% restates 0.333


@dataclass(slots=True)
class _Draft:
    """An answer in the making: an object, or lines outside of objects."""

    numbers: dict[int, _Number] = field(default_factory=dict)
    reason: Reason | None = None
    is_object: bool = False

    def agrees(self, label: int, number: _Number) -> bool:
        """Whether the label has no number so far, or this one under the same name."""
        return self.numbers.get(label, number)[:2] == number[:2]


@dataclass(slots=True)
class _Reading:
    """What has been read of a text so far."""

    answer: _Draft | None = None  # the last complete one
    # The line or sentence outside of objects, then the open objects, the innermost last.
    drafts: list[_Draft] = field(default_factory=lambda: [_Draft()])
    numbered: set[str] = field(default_factory=set)  # all names that were given a number
    has_unread_number: bool = False  # outside of the answers

    def take(self, name: str, raw: str, vocabulary: _Vocabulary) -> None:
        """Take what is written beside a name."""
        draft = self.drafts[-1]
        label, number = vocabulary.labels.get(name), _number(name, raw)
        if label is not None:
            draft.reason = draft.reason if draft.agrees(label, number) else "conflicting_shares"
            draft.numbers[label] = number
            self.numbered.add(name)
        elif number.value > 0 and name not in ("sum", "total"):
            draft.reason = "unknown_label"

    def end_line(self) -> None:
        """Let the line restate the answer, add to it or replace it."""
        line, answer = self.drafts[0], self.answer
        if not line.numbers:
            return
        self.drafts[0] = _Draft()
        agrees = answer and all(answer.agrees(label, number) for label, number in line.numbers.items())
        if not answer or not agrees or (answer.is_object and line.numbers.keys() - answer.numbers.keys()):
            self.answer = line
        else:
            answer.numbers = line.numbers | answer.numbers
            answer.reason = answer.reason or line.reason

    def end_object(self) -> None:
        """Let the innermost object replace the answer."""
        closed = self.drafts.pop()
        # An object of other keys alone answers something else; beside or around an answer it is an aside.
        if closed.numbers or (closed.reason and not self.answer):
            self.answer = closed
        self.has_unread_number |= not closed.numbers and closed.reason is not None


def _read(text: str, vocabulary: _Vocabulary) -> _Reading:
    """Read the answers in a folded text, in one pass over its tokens."""
    reading = _Reading()
    position = 0
    while token := (vocabulary.statement if len(reading.drafts) == 1 else _OBJECT).search(text, position):
        position = token.end()
        kind = token.lastgroup
        if kind == "open" or kind == "end":
            reading.end_line()
        if kind == "open":
            reading.drafts.append(_Draft(is_object=True))
        elif kind == "close":
            reading.end_object()
        elif kind == "number":
            reading.has_unread_number = True
        elif kind == "value":
            reading.take(_name(token["key"].strip("\"'")), token["value"], vocabulary)
        elif kind == "counted":
            reading.take(_name(token["counted"]), token["percentage"], vocabulary)
    reading.end_line()
    return reading


@dataclass(slots=True)
class _Mention:
    """A label named in a text; `sentence` is the index of the first mention in its sentence."""

    label: int
    sentence: int
    is_alone: bool  # nothing else stands in its line
    is_denied: bool


def _mentions(text: str, vocabulary: _Vocabulary) -> tuple[list[_Mention], int | None]:
    """Return the labels that a folded text names, and which of them is the first after the last cue ("Answer:").

    A denial reaches to the end of its sentence or to "but", across commas and lines: "not angry, happy or sad".
    """
    mentions: list[_Mention] = []
    subject: _Mention | None = None
    sentence, retracted, cued, denying = 0, 0, None, False
    for token in vocabulary.mention.finditer(text):
        kind = token.lastgroup
        if kind == "label" or kind == "alone":
            mention = _Mention(vocabulary.labels[_name(token[kind])], sentence, kind == "alone", denying)
            mentions.append(mention)
            subject = mention if _SUBJECT.match(text, token.end()) else None
        elif kind == "denial":
            denying = True
            if subject:
                subject.is_denied = True
        else:
            subject = None
            denying = kind == "retraction" or (denying and kind == "pause")
            if kind == "retraction" or token[0] == "?":  # "happy, I think not" and "happy?"
                for mention in mentions[retracted:]:
                    mention.is_denied = True
                retracted = len(mentions)
            if kind == "end" or kind == "cue":
                sentence = retracted = len(mentions)
                cued = sentence if kind == "cue" else cued
    return mentions, cued


def _concluding(mentions: list[_Mention], cued: int | None) -> list[_Mention]:
    """Return the mentions that decide: the first sentence of them after the cue, else a last one alone, else all."""
    if cued is not None:
        return [mention for mention in mentions if mention.sentence == cued]
    last = len(mentions) - 1
    if last > 0 and mentions[last].sentence == last and mentions[last].is_alone and not mentions[last - 1].is_alone:
        return mentions[last:]
    return mentions


def _affirmed(mentions: list[_Mention]) -> set[int]:
    return {m.label for m in mentions if not m.is_denied} - {m.label for m in mentions if m.is_denied}
