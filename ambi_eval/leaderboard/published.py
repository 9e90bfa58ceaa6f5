"""Numbers that others published, with their source; pages show them apart from our own scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from ambi_eval.config.settings import Settings
from ambi_eval.leaderboard.schema import Line, Name, check
from ambi_eval.leaderboard.untrusted import read_yaml

PUBLISHED = "published.yaml"


class Published(Settings):
    """One published number.

    Attributes:
        metric: The measure, in the source's words.
        split: Clips and labels that it was measured on, as far as the source says.
        checked: `source` if the number was read there, `second-hand` if others report it.
    """

    corpus: Name
    system: Line
    metric: Line
    value: float
    split: Line
    source: Line
    checked: Annotated[str, Field(pattern="^(source|second-hand)$")]


PUBLISHED_LIST: TypeAdapter[list[Published]] = TypeAdapter(list[Published])


def read_published(path: Path) -> list[Published]:
    """Return the published numbers, none without a file; an `AmbiError` if the file does not fit the schema."""
    if not path.is_file():
        return []
    found: list[Published] = check(PUBLISHED_LIST, read_yaml(path), path.name)
    return found
