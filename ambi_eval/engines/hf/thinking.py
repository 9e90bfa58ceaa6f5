"""A model that reasons first: where its thinking ends, and how it is ended when its tokens are used up.

Muennighoff et al. 2025 (s1: Simple test-time scaling, arXiv 2501.19393) call the second budget forcing: the tokens that
end the thinking are put in the place of the model's own, and the model goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.hf.batch import Row
from ambi_eval.engines.hf.families import Family
from ambi_eval.errors import AmbiError


class Thinking:
    """Where thinking ends, for one model.

    Attributes:
        end: The tokens that end it; empty for a model that does not think.
    """

    def __init__(self, family: Family, end: str | None) -> None:
        """Set up.

        Args:
            family: The model.
            end: What it writes at the end of its thinking; None if it does not think.
        """
        self.family = family
        self.end_text = end or ""
        self.end: list[int] = family.processor.tokenizer.encode(self.end_text, add_special_tokens=False) if end else []

    def check(self, task: str, settings: GenerationSettings) -> None:
        """Raise an error if a task is to think, but cannot.

        Raises:
            AmbiError: If it is not known how thinking ends, or there is no room for the tokens that end it.
        """
        if settings.max_thinking_toks and not self.end:
            raise AmbiError(
                f"{task}: max_thinking_toks is {settings.max_thinking_toks}, and nobody says where the thinking of the "
                "model ends; give --model_args think_end_token=</think>, or what else the model writes there"
            )
        if 0 < settings.max_thinking_toks < len(self.end):
            raise AmbiError(
                f"{task}: max_thinking_toks is {settings.max_thinking_toks}, and the end of the thinking alone has "
                f"{len(self.end)} tokens; give more"
            )

    def end_where_due(self, rows: Sequence[Row], chosen: Tensor) -> None:
        """Replace the chosen tokens by those that end the thinking, in rows whose budget leaves only these."""
        for number, row in enumerate(rows):
            if row.thinks and row.finish is None:
                left = row.settings.max_thinking_toks - len(row.tokens)
                if left <= len(self.end):
                    chosen[number] = self.end[-left]

    def note(self, row: Row) -> None:
        """Note whether the newest token of a thinking row has ended its thinking, or its turn."""
        if row.tokens[-1] in self.family.end_ids:
            row.finish = "stop"
        if row.finish or len(row.tokens) == row.settings.max_thinking_toks or self._ends(row.tokens):
            row.thinks = False
            row.thought = len(row.tokens), row.logprob

    def length(self, tokens: Sequence[int]) -> int:
        """Return how many of these tokens belong to the thinking, its end included: up to where it ends last."""
        places = range(len(tokens), 0, -1) if self.end else ()
        return next((place for place in places if self._ends(tokens[:place])), 0)

    def _ends(self, tokens: Sequence[int]) -> bool:
        """Whether these tokens end with the end of the thinking, however it is tokenized."""
        if list(tokens[-len(self.end) :]) == self.end:
            return True
        # A token is at least one byte of text. Special tokens have no text here; they are found by their number.
        tail = list(tokens[-len(self.end_text.encode()) - 1 :])
        text, before = self.family.processor.tokenizer.batch_decode([tail, tail[:-1]], skip_special_tokens=True)
        return self.end_text in text and self.end_text not in before
