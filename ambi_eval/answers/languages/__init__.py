"""Answers in Italian, Russian and Thai: known words are replaced by English ones, and the English grammar reads them.

Each language has a table such as `it.txt`, with lines `English words: form, form`; each form is a regular expression.
It contains emotions, too, also those that are no labels of the task. A sentence with a word that is in no table is not
read, so a missing word loses an answer but never invents one.

Russian and Thai sentences need no verb `is`, so there the English words of a subject include it: "voice is".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

LANGUAGES = ("it", "ru", "th")
# Replaces an unknown word in a script that English does not use.
UNKNOWN_WORD = "unknownword"

# Thai writes no blanks between words. A word cannot begin after a vowel that is written before its consonant, and it
# cannot end before a vowel or tone that is written above or below its last consonant.
_THAI_FORM = "(?<![\u0e40-\u0e44]){}(?![\u0e31\u0e34-\u0e3a\u0e47-\u0e4e])"
_LETTERS = {"ru": re.compile("[\u0400-\u04ff]+"), "th": re.compile("[\u0e00-\u0e7f]+")}
# The comma before "that", which does not separate two statements.
_RUSSIAN_COMMA = re.compile(",(?= (?:что|чтобы|будто|как)\\b)")
# The Russian yo is often written as ye, accents mark the stress, and Thai has its own digits.
_THAI_DIGITS = {chr(0x0E50 + digit): str(digit) for digit in range(10)}
_SPELLINGS = str.maketrans({"\u0451": "\u0435", "\u0301": None, **_THAI_DIGITS})


class Spoken(NamedTuple):
    """The language of a task's prompts and answers."""

    language: str = "en"  # its ISO 639-1 code
    words: tuple[tuple[str, str], ...] = ()  # the words for the labels in the prompts, each with its label


ENGLISH = Spoken()


def spoken_in(language: str, label_words: Mapping[str, str]) -> Spoken:
    """Return the language of a task's answers, from the keys `prompt_language` and `label_words` of its settings."""
    return Spoken(language, tuple((word, label) for label, word in label_words.items()))


@lru_cache
def _words(spoken: Spoken) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """Return the table of a language: a pattern with a group for each form, longest first, and their English words."""
    language = spoken.language
    table = Path(__file__).with_name(f"{language}.txt").read_text(encoding="utf-8")
    lines = [line.partition(":") for line in table.splitlines()]
    forms = [(re.escape(_spelled(word.casefold())), label) for word, label in spoken.words]
    forms += [(form.strip(), english.strip()) for english, _, listed in lines for form in listed.split(",")]
    forms.sort(key=lambda form: len(form[0]), reverse=True)
    return re.compile("|".join(f"({_form(form, language)})" for form, _ in forms)), tuple(e for _, e in forms)


def _form(form: str, language: str) -> str:
    if language == "th":
        return _THAI_FORM.format(form)
    # A word that ends with an apostrophe is written together with the next word: l'emozione.
    return rf"(?<![^\W_]){form}" + ("" if form.endswith("'") else r"(?![^\W_])")


def _spelled(text: str) -> str:
    """Return a text with one spelling of each letter."""
    return unicodedata.normalize("NFC", text).replace("\u0e4d\u0e32", "\u0e33").translate(_SPELLINGS)


def in_english(plain: str, spoken: Spoken) -> str:
    """Return a plain text (`lexicon.normalized_answer`) with the known words of a language in English.

    English words stay, and so does a text in a language that has no table.

    >>> in_english("il tono è molto triste", Spoken("it"))
    'the tone is very sad'
    >>> in_english("เสียงฟังดูไม่เศร้า", Spoken("th"))
    'voice is sounds not sad'
    """
    language = spoken.language
    if language not in LANGUAGES:
        return plain
    pattern, words = _words(spoken)
    pad = " {} " if language == "th" else "{}"

    def english(found: re.Match[str]) -> str:
        word = words[found.lastindex - 1] if found.lastindex else ""
        return pad.format(word) if not found[0].endswith("'") else f"{word} "

    text = pattern.sub(english, _RUSSIAN_COMMA.sub("", _spelled(plain)))
    if language in _LETTERS:
        text = _LETTERS[language].sub(pad.format(UNKNOWN_WORD), text)
    # The name of a field has no verb: `{"emotion": ...}`.
    text = re.sub(r" is +(?=[\"':])", " ", text)
    return re.sub(r"(?<=\S) {2,}", " ", text).strip(" ") if language == "th" else text
