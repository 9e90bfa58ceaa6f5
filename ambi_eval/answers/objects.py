"""Finds objects and arrays in a model's text (JSON, JSON5, Python or similar) and reads labels and numbers in them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ambi_eval.answers import grammar
from ambi_eval.answers.lexicon import Lexicon, name_of


class Number(NamedTuple):
    """A stated share: its value (1 is all), whether it is in per cent (None: in words), whether it is a fraction."""

    value: float
    is_percent: bool | None = False
    is_fraction: bool = False


NOT_A_NUMBER = Number(math.nan)
_NUMBER = re.compile(
    r"\s*~?\s*(?P<a>[-+]?(?:\d[\d_]*(?:[.,]\d+)?|\.\d+)(?:e[-+]?\d+)?)(?:\s*(?:/|out of|of)\s*(?P<b>\d+(?:\.\d+)?))?"
    r"\s*(?P<percent>%|percent\b|per cent\b|pct\b)?\s*(?:\(.*\)|votes?|listeners?|raters?|people|points?)?\s*\.?\s*"
)
NOTHING = {"null", "none", "n/a", "-", "nil", "zero", "false"}


def number_of(raw: str) -> Number:
    """Return the share that a text states (`0.6`, `60 %`, `3/5`, `0,6`, `12 votes`, `none`), NaN if it states none."""
    found = _NUMBER.fullmatch(raw) if len(raw) < 80 else None
    if not found:
        bare = raw.strip()
        return Number(0.0) if bare in NOTHING else Number(1.0, is_fraction=True) if bare == "true" else NOT_A_NUMBER
    value = float(found["a"].replace(",", ".").replace("_", ""))
    if found["b"]:
        below = float(found["b"])
        return Number(round(value / below, 12), is_fraction=True) if below > 0 else NOT_A_NUMBER
    if found["percent"]:
        return Number(round(value / 100, 12), is_percent=True)  # 33.3% restates 0.333
    return Number(value)


@dataclass(slots=True)
class Stated:
    """The content of one object, list or table: labels with numbers, or one label."""

    numbers: dict[int, Number] = field(default_factory=dict)  # the number of each label that has one
    conflict: bool = False  # whether a label has two numbers
    others: dict[str, Number] = field(default_factory=dict)  # numbers above 0 of names that are no labels
    label: int | None = None  # the one label that it names; None if it states numbers
    several: bool = False  # whether it has several answers, and it is unclear which one counts

    def same(self, other: Stated) -> bool:
        """Return whether another one states the same."""
        if self.several or other.several:
            return False
        shares = ({label: n.value / (each.total or 1.0) for label, n in each.numbers.items()} for each in (self, other))
        mine, theirs = shares
        apart = (abs(mine.get(label, 0.0) - theirs.get(label, 0.0)) for label in mine.keys() | theirs.keys())
        return self.label == other.label and max(apart, default=0.0) < 1e-6

    @property
    def total(self) -> float:
        """Sum of its numbers."""
        return sum(number.value for number in self.numbers.values())


class Found(NamedTuple):
    """An outermost object in a text: its content (None: no label), its position, and whether it is closed."""

    stated: Stated | None
    start: int
    end: int
    is_closed: bool


_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/|<!--.*?-->|\#[^\n]*)|(?P<string>"[^"\n]*"|'(?:[^'\n]|(?<=\w)'(?=\w))*')"""
    r"""|(?P<open>[{\[(])|(?P<close>[}\])])|(?P<colon>[:=](?!\d*\s*//)|->)|(?P<sep>[,;\n](?!\d)|,(?=\s))"""
    r"""|(?P<scalar>(?:[^\s,;:={}\[\]()"'\#]|[,](?=\d))(?:[^,;:={}\[\]()"'\n\#/]|,(?=\d)|/(?![/*]))*)""",
    re.DOTALL,
)
# If brackets are nested deeper than this, the outermost ones are forgotten.
DEEPEST = 64
_START = re.compile(r"""\{|\[(?=\s*["'{\[(])""")


@dataclass(slots=True)
class _Node:
    """An object or array that is being read."""

    start: int
    bracket: str
    entries: list[tuple[str | None, str | _Part]] = field(default_factory=list)
    key: str | None = None
    value: str | _Part | None = None

    def flush(self) -> None:
        """End the current entry."""
        if self.value is not None:
            self.entries.append((self.key, self.value))
        elif self.key is not None:
            self.entries.append((self.key, ""))
        self.key = self.value = None


@dataclass(slots=True)
class _Part:
    """A closed object or array within another one: its content, and its plain entries."""

    stated: Stated | None
    cells: list[tuple[str | None, str]]


def find_objects(text: str, lexicon: Lexicon) -> list[Found]:
    """Return the objects of a plain text, in order, in time linear in its length."""
    found: list[Found] = []
    position = 0
    while start := _START.search(text, position):
        nodes = [_Node(start.start(), start[0])]
        position = start.end()
        while nodes and (token := _TOKEN.search(text, position)):
            position = token.end()
            top, kind = nodes[-1], token.lastgroup
            if kind == "open":
                if top.value is not None and token[0] != "(":
                    top.flush()
                if len(nodes) == DEEPEST:
                    del nodes[0]
                nodes.append(_Node(token.start(), token[0]))
            elif kind == "close":
                nodes.pop()
                top.flush()
                cells = [(key, value) for key, value in top.entries if isinstance(value, str)]
                part = _Part(_interpret(top.entries, lexicon), cells)
                if not nodes:
                    found.append(Found(part.stated, top.start, position, is_closed=True))
                elif top.bracket != "(" or nodes[-1].value is None:  # else a note after a value: 0.6 (bright)
                    nodes[-1].value = part
            elif kind == "colon":
                if isinstance(top.value, str) and top.key is None:
                    top.key, top.value = top.value, None
            elif kind == "sep":
                if token[0] != "\n" or top.value is not None:
                    top.flush()
            elif kind in ("string", "scalar"):
                word = token[0].strip("\"' ")
                if isinstance(top.value, str) and top.key is None and word.startswith(("- ", "> ")):
                    top.key, top.value = top.value, word[2:]
                    continue
                if top.value is not None:
                    top.flush()
                if top.key is None and top.bracket != "{":  # 0.6,0.4 in an array are two numbers
                    *before, word = word.split(",")
                    top.entries += [(None, each) for each in before]
                top.value = word
        if nodes:  # the text ends within it
            closed = [value for node in nodes for _, value in node.entries if isinstance(value, _Part)]
            if isinstance(nodes[-1].value, _Part):
                closed.append(nodes[-1].value)
            for part in closed:
                if part.stated:
                    found.append(Found(part.stated, nodes[0].start, len(text), is_closed=True))
            last = nodes[-1]
            last.flush()
            found.append(Found(_interpret(last.entries, lexicon), last.start, len(text), is_closed=False))
            return found
    return found


_MAIN_KEYS = re.compile(
    r"\b(?:answer|final|shares?|distributions?|probabilit\w+|estimates?|estimated|predictions?|predicted|mean|emotions?"
    r"|result|votes|scores|percentages?)\b"
)
_ASIDE_KEYS = re.compile(
    r"\b(?:examples?|alternatives?|baseline|uniform|prior|std|sd|stdev|error|margin|lower|upper|min|max|low|high|ci|format"
    r"|template|draft|initial|explanations?|reasons?|reasoning|confidences?|top|random)\b"
)
_LABEL_KEYS = re.compile(
    r"(?:(?:final|main|dominant|primary|predicted|perceived|speaker|overall|top|detected|most likely|the) )*"
    r"(?:emotions?|label|answer|prediction|class|category|vote|choice|result|feeling|sentiment|mood|response|output)"
    r"(?: (?:label|name|class))?"
)
_NAME_KEYS = re.compile(r"(?:.* )?(?:emotion|label|name|category|class|type|feeling)")
_NO_SHARES = re.compile(
    r"(?:.*\b)?"
    + grammar.any_of(
        r"""
        confidence, certainty, arousal, valence, dominance, intensity, strength, rank, index, id, start, end, time, age,
        rating, pitch, entropy, sum, total, n, speakers?, votes, count, listeners?, raters?, duration, activation,
        top\w*, dominant, first, second, \d+ ?(?:-|to) ?\d+
        """
    )
    + r"\b.*"
)
_LISTENER = re.compile(grammar.LISTENER)


def _interpret(entries: Sequence[tuple[str | None, str | _Part]], lexicon: Lexicon) -> Stated | None:
    """Return the content of an object or array; None if it has neither labels nor numbers."""
    if labeled := [(label, value) for key, value in entries if key and (label := lexicon.find(key)) is not None]:
        return _labeled(labeled, entries, lexicon)
    rows = [value for _, value in entries if isinstance(value, _Part)]
    if rows and len(rows) == len(entries) and all(key is None for key, _ in entries):
        return _rows(rows, lexicon)
    if parallel := _parallel(rows, lexicon):
        return parallel
    if inner := [(key or "", value.stated) for key, value in entries if isinstance(value, _Part) and value.stated]:
        return _choose(inner)
    named = [
        label
        for key, value in entries
        if isinstance(value, str)
        and (key is None or _LABEL_KEYS.fullmatch(key))
        and (label := lexicon.find(value)) is not None
    ]
    if not named:
        both = [key for key, _ in entries if key and len(set(labels_in(key, lexicon))) > 1]
        others = _numbers_of_others(entries)
        return Stated(several=True) if both else Stated(others=others) if others else None
    if all(key is None for key, _ in entries) and len(named) == len(entries) > 2 and len(set(named)) < len(named):
        return Stated({label: Number(named.count(label) / len(named)) for label in set(named)})
    if len(set(named)) > 1:
        return Stated(several=True)
    shares = [n for key, n in _numbers_of_others(entries).items() if _SHARE_COLUMN.fullmatch(key)]
    return Stated({named[0]: shares[0]}) if shares else Stated(label=named[0])


def _numbers_of_others(entries: Sequence[tuple[str | None, str | _Part]]) -> dict[str, Number]:
    numbers = [(key, number_of(value)) for key, value in entries if key and isinstance(value, str) and value != "true"]
    return {key: number for key, number in numbers if number.value > 0}


def labels_in(text: str, lexicon: Lexicon) -> Iterator[int]:
    """Yield the label of each word in a plain text that names one."""
    for found in lexicon.label.finditer(text):
        yield lexicon.names[found[0].replace("-", " ")]


def _labeled(
    labeled: Sequence[tuple[int, str | _Part]], entries: Sequence[tuple[str | None, str | _Part]], lexicon: Lexicon
) -> Stated:
    stated = Stated()
    if all(isinstance(value, _Part) for _, value in labeled):
        cells = [(label, _cells(value.cells)) for label, value in labeled if isinstance(value, _Part)]
        stated.numbers = pick_column(cells) or {label: NOT_A_NUMBER for label, _ in labeled}
    else:
        for label, value in labeled:
            number = number_of(value) if isinstance(value, str) else NOT_A_NUMBER
            if label in stated.numbers and stated.numbers[label] != number:
                stated.conflict = True
            stated.numbers[label] = number
    keys = {name_of(key) for key, _ in entries if key is not None and lexicon.find(key) is not None}
    stated.conflict |= len(keys) > len(stated.numbers)  # a label and its synonym
    others = [(key, value) for key, value in entries if key is not None and lexicon.find(key) is None]
    stated.others = {key: n for key, n in _numbers_of_others(others).items() if not _NO_SHARES.fullmatch(key)}
    stated.several = any(len(set(labels_in(key, lexicon))) > 1 for key, _ in others if key)
    return stated


def _cells(entries: Sequence[tuple[str | None, str]]) -> dict[str, Number]:
    numbers = {key or str(i): number_of(value) for i, (key, value) in enumerate(entries)}
    return {key: number for key, number in numbers.items() if not math.isnan(number.value)}


def _rows(rows: Sequence[_Part], lexicon: Lexicon) -> Stated | None:
    """Return the content of an array of objects or pairs: a row for each label, or an answer of each listener."""
    stated = [row.stated for row in rows]
    whole = [each for each in stated if each and each.numbers]
    if len(whole) == len(rows):
        if all(len(each.numbers) == 1 for each in whole) and len(whole) > 1:
            merged = Stated()
            for each in whole:
                ((label, number),) = each.numbers.items()
                merged.conflict |= label in merged.numbers
                merged.numbers[label] = number
                merged.others |= each.others
            return merged
        return average(whole)
    columns: list[tuple[int, dict[str, Number]]] = []
    others: dict[str, Number] = {}
    for row in rows:
        texts = [(key, value) for key, value in row.cells if math.isnan(number_of(value).value)]
        names = [(key, value) for key, value in texts if key is None or _NAME_KEYS.fullmatch(key)]
        labels = {found for _, value in names if (found := lexicon.find(value)) is not None}
        numbers = _cells([(key, value) for key, value in row.cells if (key, value) not in names])
        if len(labels) == 1:
            columns.append((labels.pop(), numbers))
        elif any(number.value > 0 for number in numbers.values()):
            others[names[0][1] if names else "?"] = max(numbers.values())
    if not columns:
        return None
    picked = pick_column(columns)
    if picked is None:
        return Stated(several=True)
    return Stated(picked, others=others, conflict=len({label for label, _ in columns}) < len(columns))


def _parallel(rows: Sequence[_Part], lexicon: Lexicon) -> Stated | None:
    """Return the content of two arrays, one of labels and one of their numbers; None if they are something else."""
    if len(rows) != 2 or not rows[0].cells or len(rows[0].cells) != len(rows[1].cells):
        return None
    labels = [lexicon.find(value) for _, value in rows[0].cells]
    if None in labels or len(set(labels)) < len(labels):
        return None
    numbers = zip(labels, (number_of(cell) for _, cell in rows[1].cells), strict=True)
    return Stated({label: number for label, number in numbers if label is not None})


def _choose(inner: Sequence[tuple[str, Stated]]) -> Stated:
    """Return the content of an object of objects: the one with the key of an answer, or the mean over listeners."""
    if len(inner) > 1 and all(_LISTENER.fullmatch(key) for key, _ in inner):
        return average([stated for _, stated in inner])
    stating = [(key, stated) for key, stated in inner if stated.numbers or stated.label is not None or stated.several]
    named = [stated for key, stated in stating if _MAIN_KEYS.search(key) and not _ASIDE_KEYS.search(key)]
    plain = named or [stated for key, stated in stating if not _ASIDE_KEYS.search(key)]
    if plain and all(stated.same(plain[0]) for stated in plain):
        return plain[0]
    return Stated(several=True) if stating else inner[0][1]


def average(all_stated: Sequence[Stated]) -> Stated:
    """Return the mean of the answers of several listeners; if one is incomplete, only `several` is set."""
    mean: dict[int, float] = {}
    for stated in all_stated:
        total = sum(number.value for number in stated.numbers.values())
        if stated.several or stated.conflict or stated.others or not abs(total - 1) < 0.011:
            return Stated(several=True)
        for label, number in stated.numbers.items():
            mean[label] = mean.get(label, 0.0) + number.value / total / len(all_stated)
    return Stated({label: Number(value) for label, value in mean.items()})


_SHARE_COLUMN = re.compile(
    r"(?:.*\b)?(?:shares?|prob\w*|%|percent\w*|proportion|fraction|mean|estimate|value|likelihood|score)(?:\b.*|$)"
)


def pick_column(rows: Sequence[tuple[int, Mapping[str, Number]]]) -> dict[int, Number] | None:
    """Return the column of shares by label: the one that sums to 1 or 100, else the one with a name such as "share".

    `rows` has the label of each row, with its numbers by column. None if no column or several different ones fit.
    """
    names = list(dict.fromkeys(name for _, cells in rows for name in cells))
    columns = {name: {label: cells.get(name, Number(0.0)) for label, cells in rows} for name in names}
    sums = {name: sum(n.value for n in column.values()) for name, column in columns.items()}
    ranks = list(range(1, len(rows) + 1))
    names = [name for name in names if sorted(n.value for n in columns[name].values()) != ranks or len(ranks) == 1]
    possible = [name for name in names if not _NO_SHARES.fullmatch(name)]
    whole = [name for name in possible if min(abs(sums[name] - 1), abs(sums[name] / 100 - 1)) < 0.011]
    chosen = whole or [name for name in possible if len(names) == 1 or _SHARE_COLUMN.fullmatch(name)]
    if not chosen:
        return None
    first, total = columns[chosen[0]], sums[chosen[0]] or 1.0
    for name in chosen[1:]:
        other = sums[name] or 1.0
        if any(abs(first[label].value / total - n.value / other) > 0.011 for label, n in columns[name].items()):
            return None
    return first
