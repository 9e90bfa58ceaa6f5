"""The words for a task's labels, and the normalization of a model's text before they are searched in it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple
from unicodedata import normalize

from ambi_eval.errors import AmbiError, did_you_mean

Reason = Literal[
    "empty",  # no text, or none after the model's thinking
    "unfinished",  # the text ends within the model's thinking or within an object
    "truncated",  # the answer was cut at the token limit, and nothing in it is complete
    "refused",  # a refusal, small talk or a question back
    "no_label",  # no label is named
    "not_asserted",  # labels are named, but nothing says that the speaker sounds so
    "negated",  # labels are named only to be denied
    "ambiguous_label",  # several labels are named, and nothing says how much of each
    "no_share",  # labels and numbers, but no number that belongs to a label
    "unknown_label",  # a share for something that is not a label
    "conflicting_shares",  # two shares for one label, or several answers and nothing says which one is meant
    "incomplete_shares",  # labels without a share, and the others do not sum to 1
    "not_a_number",  # a share that is not a finite number
    "negative_share",
    "mixed_units",  # some shares in per cent and others not
    "zero_sum",  # all shares are 0
]
Synonyms = tuple[tuple[str, tuple[str, ...]], ...]


class Answer(NamedTuple):
    """The result of reading a text."""

    # One share per label, in the labels' order, each in 0..1, with the sum 1; None if the text is unclear.
    shares: tuple[float, ...] | None
    reason: Reason | None = None  # why there are no shares; None if there are
    # The sum of the stated shares before normalization (percentages are divided by 100); None if the text names one
    # label, or has no shares.
    stated_sum: float | None = None


def freeze_synonyms(labels: Sequence[str], synonyms: Mapping[str, Sequence[str]]) -> Synonyms:
    """Check a task's labels and their synonyms, and return the synonyms in the hashable form that readers take.

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
            owner = owners.setdefault(name_of(word), label)
            if owner != label:
                raise AmbiError(f"'{word}' stands for the labels '{owner}' and '{label}'; leave it with one of them")
    if "" in owners:
        raise AmbiError(f"label '{owners['']}' has a name without any word in it; rename it")
    return tuple((label, tuple(words)) for label, words in synonyms.items())


# Nouns and adjectives of one emotion. A label stands for its whole family, unless another label is in it, too.
FAMILIES = (
    "angry anger",
    "happy happiness",
    "sad sadness",
    "neutral neutrality",
    "fear fearful",
    "disgust disgusted",
    "surprise surprised",
    "contempt contemptuous",
    "calm calmness",
    "excited excitement",
    "frustrated frustration",
    "bored boredom",
    "anxious anxiety",
    "joy joyful joyous",
    "amused amusement",
    "proud pride",
    "relieved relief",
)
EMOTIONS = frozenset(word for family in FAMILIES for word in family.split())


class Lexicon(NamedTuple):
    """The words for a task's labels."""

    names: dict[str, int]  # the index of the label that each word or phrase stands for
    # Pattern that finds these words; it tries the longest first, so "low arousal" is not read as "low".
    label: re.Pattern[str]
    size: int  # number of labels

    def find(self, phrase: str) -> int | None:
        """Return the label that a whole phrase stands for; emoji and punctuation around it are ignored."""
        return self.names.get(_EDGES.sub("", phrase).replace("-", " "))


_EDGES = re.compile(r"^[\W\d]+|\W+$")


@lru_cache(maxsize=256)
def lexicon(labels: tuple[str, ...], synonyms: Synonyms) -> Lexicon:
    """Return the lexicon of labels: their words, their synonyms, and other forms of both."""
    names = {name_of(label): index for index, label in enumerate(labels)}
    names |= {name_of(word): labels.index(label) for label, words in synonyms for word in words}
    for family in map(str.split, FAMILIES):
        owners = {names[word] for word in family if word in names}
        if len(owners) == 1:
            names |= dict.fromkeys(family, *owners)
    words = [r"[\s_-]+".join(map(re.escape, name.split())) for name in sorted(names, key=len, reverse=True)]
    # A label must not touch Latin letters; other scripts often have no blank beside a label.
    pattern = rf"(?<![a-z0-9])(?<![a-z]-)(?:{'|'.join(words)})(?!-?[a-z0-9])"
    return Lexicon(names, re.compile(pattern), len(labels))


def name_of(label: str) -> str:
    """Return a label, synonym or key in the form in which names are compared."""
    return " ".join(_fold(label).replace("-", " ").replace("_", " ").split())


# Typography in ASCII: an en dash is a hyphen or minus, an em dash a colon; full-width forms and the punctuation of
# other scripts are their ASCII counterparts.
_PLAIN = str.maketrans(
    {
        **dict(zip(range(0xFF01, 0xFF5F), map(chr, range(0x21, 0x7F)), strict=True)),
        **dict.fromkeys((0x2018, 0x2019, 0x201A), "'"),
        **dict.fromkeys(map(ord, "“”„«»「」『』《》【】〈〉"), '"'),
        **dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2212), "-"),
        **dict.fromkeys(map(ord, "—→⇒➔"), ":"),
        **dict.fromkeys((0x2248, 0x223C), "~"),
        **dict.fromkeys(map(ord, "\u00a0\u202f\u3000\t"), " "),
        **dict.fromkeys(map(ord, "、،"), ", "),
        **dict.fromkeys(map(ord, "؛"), ": "),
        **dict.fromkeys(map(ord, "。"), ". "),
        **dict.fromkeys(map(ord, "✗✘❌✖"), " not "),
        **dict.fromkeys(map(ord, "\r\u200b\u200d\ufeff\ufe0f"), ""),
    }
)  # fmt: skip


def _fold(text: str) -> str:
    return (text if text.isascii() else normalize("NFC", text).translate(_PLAIN)).casefold()


_THINKING = re.compile(
    r"[<\[](?P<close>/?)(?:think(?:ing)?|thought|reasoning|reflection|scratchpad)[>\]]|<\|channel\|>final<\|message\|>"
)
_TOKENS = re.compile(r"<\|[^|<>\n]*\|>|</?s>|<(?:start|end)_of_turn>|<(?:eos|bos|pad)>")
_ANSWER_TAGS = re.compile(r"<(/?)(?:final_)?(?:answer|emotion|label|response|output|result)>")
_LATEX = (
    (re.compile(r"\\d?frac\{([^{}\n]*)\}\{([^{}\n]*)\}"), r"\1/\2"),
    (re.compile(r"\\(?:text\w*|math\w+|emph|operatorname)\{([^{}\n]*)\}"), r"\1"),
    (re.compile(r"_\{([^{}\n]*)\}"), r" \1"),
    (re.compile(r"\\(?:begin|end)\{[^{}\n]*\}(?:\{[^{}\n]*\})?"), "\n"),
    (re.compile(r"\\boxed\{((?:[^{}\n\\]|\\[{}]|\{[^{}\n]*\})*)\}"), r"\nanswer: \1\n"),
    (re.compile(r"\\(?=[{}%$#_&])"), ""),
    (re.compile(r"\\\\"), "\n"),
    (re.compile(r"\\[()\[\],;! ]|\\(?:quad|qquad|left|right|displaystyle)\b|\$"), " "),
)  # fmt: skip
_COMMENT = re.compile(r"/\*.*?\*/|<!--.*?-->", re.DOTALL)
_HTML = (
    (re.compile(r"<t[dh]>"), "|"),
    (re.compile(r"</?(?:tr|br|p|li|div|pre|h\d)\s*/?>"), "\n"),
    (re.compile(r"</?(?:t\w+|[uo]l|b|i|em|u|strong|span|code|html|body)>"), ""),
    (re.compile(r"</[a-z]\w*>"), "\n"),
    (re.compile(r"<([a-z][\w ]*)>"), r"\1: "),
)
_FENCE = re.compile(r"(?:```|~~~)[a-z0-9]*")
_STRUCK = re.compile(r"~~[^~\n]*~~|\[ \][^\n]*")
_MARKUP = str.maketrans("_", " ", "*`")


def normalized_answer(text: str) -> str | None:
    """Return the text after the model's thinking (None if it ends within it), in lower case and without markup."""
    text = _fold(text)
    if '"' in text[:1]:
        try:
            inner = json.loads(text)
            text = inner if isinstance(inner, str) else text
        except (ValueError, RecursionError):
            pass
    if "<" in text or "[" in text:
        position, thinks = 0, False
        for tag in _THINKING.finditer(text):
            thinks = tag["close"] == ""  # None: the tag of another form, after which the answer begins
            position = position if thinks else tag.end()
        if thinks:
            return None
        text = text[position:]
        text = _ANSWER_TAGS.sub(lambda tag: "\n" if tag[1] else "\nanswer: ", _TOKENS.sub("", text))
    if "</" in text or "<br" in text:
        for pattern, replacement in _HTML:
            text = pattern.sub(replacement, text)
    if "&" in text and ";" in text:
        text = html.unescape(text)
    if "\\" in text:
        # Escaped quotes are inside strings, which are not read.
        text = text.replace('\\"', "").replace("\\'", "")
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    elif "$" in text:
        text = _LATEX[2][0].sub(r" \1", text).replace("$", " ")
    if "/*" in text or "<!--" in text:
        text = _COMMENT.sub(" ", text)
    if "```" in text or "~~~" in text:
        text = _FENCE.sub("\n", text)
    if "~~" in text or "[ ]" in text:
        text = _STRUCK.sub("", text)
    return text.translate(_MARKUP)
