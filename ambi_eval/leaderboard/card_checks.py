"""Looks for statements of a card that cannot be true, or that a reader should know of; no answer is looked at."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta, timezone

from ambi_eval.leaderboard.schema import Card

# Alphabets that have letters which look like Latin letters.
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


def other_weights(card: Card, others: Iterable[tuple[str, Card]]) -> Iterator[str]:
    """Yield a sentence for each way in which other submissions, given by name, contradict a card about the weights."""
    own = card.model
    renamed, changed = [], []
    for name, other in others:
        theirs = other.model
        if own.digest and own.digest == theirs.digest and own.id != theirs.id:
            renamed.append(f"{name} under the name {theirs.id}")
        if (
            own.digest
            and theirs.digest not in (None, own.digest)
            and (own.id, own.revision) == (theirs.id, theirs.revision)
        ):
            changed.append(name)
    if renamed:
        yield f"the same weights are in {_first(renamed)}."
    if changed:
        yield f"other weights have the same name, {own.id}, in {_first(changed)}."


def _first(names: Sequence[str]) -> str:
    return names[0] + (f" (and {len(names) - 1:,} more)" if names[1:] else "")
