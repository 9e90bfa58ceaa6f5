"""Tables in the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Return the console for tables; into a file or a pipe goes their whole width."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 130, markup=False, highlight=False)


def print_tables(content: Any) -> None:
    """Print a table of rich, or a group of them."""
    console().print(content)
