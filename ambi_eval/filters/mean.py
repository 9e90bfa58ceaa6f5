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
        """Set up.

        Args:
            fallback: What an answer counts as that could not be read: `uniform`, or a label. By default it is left out;
                other papers fill it in, and then failing may pay.
            kwargs: What every pool filter takes.

        Raises:
            AmbiError: If the fallback is no label.
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
