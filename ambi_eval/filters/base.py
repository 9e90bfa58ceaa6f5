"""What the filters share: a clip's answers are read once, and a reducer makes one prediction of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.filter import Filter

from ambi_eval.answers.languages import spoken_in
from ambi_eval.answers.lexicon import freeze_synonyms
from ambi_eval.answers.pool import Reader
from ambi_eval.answers.reducers import Prediction, Reducer, predict


class PoolFilter(Filter):
    """A filter of the harness that makes one `Prediction` of each clip's pool of answers."""

    reducer: Reducer

    def __init__(
        self,
        labels: Sequence[str],
        readout: str,
        synonyms: Mapping[str, Sequence[str]] | None = None,
        prompt_language: str = "en",
        label_words: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep how the task reads an answer, by keys of its settings; the harness's own keys are unused."""
        super().__init__(**kwargs)
        self.label_words = label_words or {}
        spoken = spoken_in(prompt_language, self.label_words)
        self.reader = Reader(tuple(labels), readout, freeze_synonyms(labels, synonyms or {}), spoken)

    def apply(self, resps: Sequence[Sequence[Any]], docs: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Return one prediction per clip."""
        return predict(self.reducer, self.reader.labels, [self.reader.read(answers) for answers in resps])
