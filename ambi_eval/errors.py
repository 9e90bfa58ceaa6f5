"""A user's mistake, told in one sentence that names the thing, the value and the fix; and helpers that word it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from io import TextIOWrapper

# How alike two names must be, 0 to 1: `gender` is no misspelled `end` (.67).
NEAR = 0.7


class AmbiError(Exception):
    """A mistake that the user can mend: shown as one line, without a traceback, exit code 2.

    A programming error is never an `AmbiError`; it raises as it is.

    Attributes:
        exit_code: What a command that ends with it returns.
        problems: Every mistake that was found, where there are several; the sentence tells the first.
    """

    exit_code = 2

    def __init__(self, sentence: str, problems: Sequence[str] = ()) -> None:
        """Make one from its sentence, and from all sentences where there are several."""
        super().__init__(sentence)
        self.problems = list(problems) or [sentence]

    @classmethod
    def of(cls, problems: Sequence[str]) -> AmbiError:
        """Return the error for one or more mistakes: it tells the first one, and how many others there are."""
        more = f" (and {counted(len(problems) - 1, 'more mistake')})" if problems[1:] else ""
        return cls(f"{problems[0]}{more}", problems)


class NotYetError(AmbiError):
    """Nothing is wrong, but what was asked for is not there yet: the same command later goes on; exit code 4."""

    exit_code = 4


def print_in_any_encoding() -> None:
    """Let a terminal that lacks a character (LC_ALL=C lacks ± and ≥) show `?`; else the command would end there."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `", did you mean 'x'?"` for the known name nearest to `name`, or an empty string if none is near."""
    known = list(known)
    longer = [other for other in known if name and other.startswith(name)]
    near = get_close_matches(name, known, n=1, cutoff=NEAR) or longer
    return f", did you mean '{near[0]}'?" if near else ""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun in the right form; the plural is the noun with an s if none is given.

    >>> counted(1, "clip"), counted(1234, "clip"), counted(2, "reply", "replies")
    ('1 clip', '1,234 clips', '2 replies')
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
