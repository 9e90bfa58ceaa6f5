"""When an adaptive strategy has drawn enough answers about a clip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import betainc

from ambi_eval.answers.languages import spoken_in
from ambi_eval.answers.lexicon import freeze_synonyms
from ambi_eval.answers.pool import Reader


@dataclass(frozen=True)
class StopRule:
    """Stop when the most frequent label is the majority label with at least this confidence.

    The most frequent label has n1 answers, the second one n2. Under a uniform prior, the first label's share of these
    has the posterior Beta(n1 + 1, n2 + 1). The confidence is the posterior probability that this share exceeds 1/2: the
    Beta criterion of Aggarwal et al. 2023, Let's Sample Step by Step, arXiv 2305.11860.
    """

    reader: Reader  # reads the label that an answer names
    confidence: float  # confidence at which drawing stops, 0.5 to 1
    round: int  # number of answers between two checks of the rule

    @classmethod
    def from_dict(
        cls,
        labels: Sequence[str],
        synonyms: Mapping[str, Sequence[str]],
        confidence: float,
        round: int,
        prompt_language: str = "en",
        label_words: Mapping[str, str] | None = None,
    ) -> StopRule:
        """Return the rule that a request describes."""
        spoken = spoken_in(prompt_language, label_words or {})
        return cls(Reader(tuple(labels), "label", freeze_synonyms(labels, synonyms), spoken), confidence, round)

    def settled(self, answers: Sequence[str]) -> bool:
        """Return whether these answers are enough; answers that name no label do not count."""
        pool, _ = self.reader.read(answers)
        votes = Counter(map(tuple, pool.shares[pool.valid].tolist())).most_common(2)
        first, second = ([count for _, count in votes] + [0, 0])[:2]
        return majority_confidence(first, second) >= self.confidence


def majority_confidence(first: int, second: int) -> float:
    """Return the posterior probability that the label with `first` votes is more likely than the one with `second`.

    >>> round(majority_confidence(4, 0), 4)
    0.9688
    >>> majority_confidence(3, 3)
    0.5
    """
    return float(1 - betainc(first + 1, second + 1, 0.5))
