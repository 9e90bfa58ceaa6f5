"""`ambi_drawn`: leaves out the answers that an adaptive strategy did not need to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.filter import Filter

from ambi_eval.answers.pool import Answers
from ambi_eval.answers.reducers import drawn


class Drawn(Filter):
    """Keeps each clip's drawn answers, in order."""

    def apply(self, resps: Sequence[Sequence[Any]], docs: Sequence[Mapping[str, Any]]) -> list[Answers]:
        """Return the answers about each clip that are not marked `not_drawn`."""
        return [Answers(drawn(answers)) for answers in resps]
