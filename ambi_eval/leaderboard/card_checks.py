"""Looks for statements of a card that cannot be true, or that a reader should know of; no answer is looked at."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone

from ambi_eval.leaderboard.schema import Card

# Alphabets with letters that look like Latin ones.
LOOK_ALIKE = {"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU", "FULLWIDTH", "MATHEMATICAL"}


def impossible(card: Card) -> Iterator[str]:
    """Yield a sentence for each statement that cannot be true."""
    try:
        started = date.fromisoformat(card.date)
    except ValueError:
        yield f"submission.yaml: the date {card.date} does not exist."
        return
    # Somewhere on earth it is a day later than in UTC.
    if started > datetime.now(tz=timezone.utc).date() + timedelta(days=1):
        yield f"submission.yaml: the date {card.date}, on which the run started, is in the future."


def look_alikes(card: Card) -> Iterator[str]:
    """Yield a sentence for each name that mixes Latin letters with letters that look like Latin ones."""
    for what, name in (("name", card.name), ("model's id", card.model.id)):
        alphabets = {letter: unicodedata.name(letter, "").split(" ")[0] for letter in name if letter.isalpha()}
        odd = [letter for letter, alphabet in alphabets.items() if alphabet in LOOK_ALIKE]
        if odd and "LATIN" in alphabets.values():
            names = ", ".join(unicodedata.name(letter).lower() for letter in odd)
            yield f"the {what} has letters that look like Latin ones and are none ({names}), so it may imitate another."


def other_weights(card: Card, other: Card, other_name: str) -> str:
    """Return a sentence if two submissions contradict each other about a model's weights, else an empty text."""
    own, theirs = card.model, other.model
    if own.digest is None or theirs.digest is None:
        return ""
    if own.digest == theirs.digest and own.id != theirs.id:
        return f"{other_name} has the same weights under the name {theirs.id}."
    if own.digest != theirs.digest and (own.id, own.revision) == (theirs.id, theirs.revision):
        return f"{other_name} has other weights under the same name {own.id}."
    return ""
