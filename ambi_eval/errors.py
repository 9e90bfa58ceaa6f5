"""A user's mistake, told in one sentence that names the thing, the value and the fix."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AmbiError(Exception):
    """A mistake that the user can mend: shown as one line, without a traceback, exit code 2.

    A programming error is never an `AmbiError`; it raises as it is.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `", did you mean 'x'?"` for the known name nearest to `name`, or an empty string if none is near."""
    known = list(known)
    near = get_close_matches(name, known, n=1) or [other for other in known if name and other.startswith(name)]
    return f", did you mean '{near[0]}'?" if near else ""
