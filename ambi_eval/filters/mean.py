"""`ambi_mean`: the mean of the answers' distributions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ambi_eval.answers import reducers
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.filters.base import PoolFilter

UNIFORM = "uniform"


class Mean(PoolFilter):
    """Every answer that could be read counts the same; with one label per answer, this is the histogram of votes."""

    def __init__(self, fallback: str | None = None, **kwargs: Any) -> None:
        """Take an answer that could not be read as `uniform` or as a label, if there is a fallback; else leave it out.

        Other papers fill it in, and then failing may pay.
        """
        super().__init__(**kwargs)
        labels = self.reader.labels
        if fallback is None:
            self.reducer = reducers.Mean()
        elif fallback == UNIFORM:
            self.reducer = reducers.Mean(np.full(len(labels), 1 / len(labels)))
        elif fallback in labels:
            self.reducer = reducers.Mean(np.eye(len(labels))[labels.index(fallback)])
        else:
            hint = did_you_mean(fallback, labels)
            raise AmbiError(f"fallback is '{fallback}'; it must be {UNIFORM} or one of {', '.join(labels)}{hint}")
