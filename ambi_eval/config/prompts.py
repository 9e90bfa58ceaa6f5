"""The prompts of a task: the Jinja templates in its YAML, compiled once and rendered for each clip."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import jinja2

from ambi_eval.config.task_settings import TaskSettings
from ambi_eval.errors import AmbiError

AUDIO_MARK = "<audio>"
TEMPLATES = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)


class Prompts:
    """The prompts that a task asks about each clip."""

    def __init__(self, settings: TaskSettings) -> None:
        """Compile the templates of a task; raises AmbiError if one is not a valid Jinja template."""
        self.settings = settings
        self.templates = [self._compiled(text) for text in settings.templates]
        self.example = self._compiled(settings.shots.text) if settings.shots else None
        self.verifier = self._compiled(settings.verifier.prompt) if settings.verifier else None

    def about(self, transcript: str | None, shown: Sequence[Sequence[float]] = ()) -> list[str]:
        """Return the prompts about one clip: for each wording, one for each order of the labels.

        Args:
            transcript: The words of the clip; the prompt holds them only if the task says so.
            shown: The votes on each example before the clip, in the order of the task's labels.

        Raises:
            AmbiError: If a template uses an unknown variable.
        """
        examples = "".join(self._example(votes) for votes in shown)
        labels = self.settings.asked_labels
        orders = [labels[turn:] + labels[:turn] for turn in range(self.settings.rotations)]
        asked = product(self.templates, orders)
        return [examples + self._render(template, transcript, labels=order) for template, order in asked]

    def _example(self, votes: Sequence[float]) -> str:
        """Return the line of an example: with the shares of its votes, or the label that most raters chose."""
        assert self.example is not None
        labels = self.settings.asked_labels
        answer = labels[max(range(len(labels)), key=lambda number: votes[number])]
        if self.settings.readout == "shares":
            stated = ", ".join(f'"{label}": {v / sum(votes):.2f}' for label, v in zip(labels, votes, strict=True))
            answer = f"{{{stated}}}"
        return self._render(self.example, None, answer=answer) + "\n"

    def rating(self, transcript: str | None, candidate: str) -> str:
        """Return the prompt that asks the verifier to rate a candidate answer about one clip."""
        assert self.verifier is not None and self.settings.verifier is not None  # noqa: PT018 - asked of such tasks only
        return self._render(self.verifier, transcript, candidate=candidate, ratings=self.settings.verifier.ratings)

    def _compiled(self, text: str) -> jinja2.Template:
        try:
            return TEMPLATES.from_string(text)
        except jinja2.TemplateSyntaxError as error:
            where = self.settings.where
            raise AmbiError(f"{where}: the prompt is no Jinja template ({error.message}): {text}") from error

    def _render(self, template: jinja2.Template, transcript: str | None, **words: object) -> str:
        settings = self.settings
        given = transcript if settings.reads_transcript else None
        known: dict[str, object] = {"labels": settings.asked_labels, "prompt_words": settings.prompt_words}
        known |= {"transcript": given, "pairs": settings.pairs, **words}
        try:
            prompt = template.render(known)
        except jinja2.UndefinedError as error:
            raise AmbiError(f"{settings.where}: a prompt names what there is not: {error.message}") from error
        return prompt.replace(AUDIO_MARK, "") if settings.control == "transcript" else prompt
