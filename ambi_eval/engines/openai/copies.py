"""Finds out whether a server draws each of the n answers to a request, or draws one and copies it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ambi_eval.answers.candidate import Candidate
from ambi_eval.engines.base import Job

logger = logging.getLogger(__name__)

# After so many clips that say the same, the server is taken to copy, or the model to be sure of its answers.
ENOUGH_CLIPS = 3


@dataclass
class _Doubt:
    """Equal answers to one request."""

    text: str  # the answer
    awaited: set[int]  # the numbers of the answers that are drawn again one by one
    rest: dict[int, Candidate]  # the other answers, which are held back if the first one of these is equal, too
    differs: bool = False  # whether one of these was another answer


class Copies:
    """Sifts the samples of requests for several answers.

    Different answers to one request show that the server draws each. Equal answers may be copies, or the model may be
    sure. So one of them is kept, and the others are drawn again by requests of their own. If these are equal, too, for
    several clips, then only one answer of each further clip is drawn again, until one differs; the others are held back
    until a request brings different answers, or the run ends.

    Attributes:
        draws: Whether a request has brought different answers.
        copied: The clips with equal answers to one request, and different ones to requests of their own.
        sure: The clips with equal answers to both.
        held: The answers that are held back, with their jobs.
    """

    def __init__(self, server: str) -> None:
        """Set up for a server, under the name that messages give it."""
        self.server = server
        self.draws = False
        self.copied = self.sure = 0
        self.held: list[tuple[Job, dict[int, Candidate]]] = []
        self._told = ""
        self._doubts: dict[tuple[Job, int], _Doubt] = {}

    def take_held(self) -> list[tuple[Job, dict[int, Candidate]]]:
        """Return the answers that are held back; none is held back then."""
        held, self.held = self.held, []
        return held

    @property
    def found(self) -> bool:
        """Whether the server copies, so that each answer needs a request of its own."""
        return self.copied >= ENOUGH_CLIPS and not self.draws

    def sift(self, job: Job, answers: Mapping[int, Candidate]) -> tuple[Mapping[int, Candidate], Sequence[int]]:
        """Return the samples among the answers of a reply, and the numbers of those to draw one by one.

        What a content filter withheld is not asked for again.
        """
        if len(answers) == 1:
            ((number, answer),) = answers.items()
            doubt = self._doubts.pop((job, number), None)
            return self._settled(job, doubt, number, answer) if doubt else (answers, ())
        self.draws |= len(set(answers.values())) > 1
        if self.draws or all(answer.finish == "content_filter" for answer in answers.values()):
            return answers, ()
        first, *others = answers
        few = self.sure >= ENOUGH_CLIPS and not self.copied
        checked = others[:1] if few else others
        which = "from here on, one answer of each such clip is" if few else "each of the others is"
        if which != self._told or not few:
            what = "%s gives %d equal answers to one request (n), which may be copies: %s asked for again by itself%s"
            kept = "; the others are stored when some differ, or at the end, and lost if the run is killed before"
            logger.warning(what, self.server, len(answers), which, kept if few else "")
        self._told = which
        doubt = _Doubt(answers[first], set(checked), {number: answers[number] for number in others[len(checked) :]})
        self._doubts |= {(job, number): doubt for number in checked}
        return {first: answers[first]}, checked

    def _settled(
        self, job: Job, doubt: _Doubt, number: int, answer: Candidate
    ) -> tuple[Mapping[int, Candidate], Sequence[int]]:
        """Return what `sift` returns for an answer that was drawn again."""
        doubt.awaited.discard(number)
        doubt.differs |= answer != doubt.text
        if not doubt.awaited:
            self.copied += doubt.differs
            self.sure += not doubt.differs
            if doubt.differs and self.copied == ENOUGH_CLIPS and not self.draws:
                logger.warning("%s copies one answer n times: each answer takes a request of its own", self.server)
        if doubt.differs:
            return {number: answer}, list(doubt.rest)
        if doubt.rest:
            self.held.append((job, doubt.rest))
        return {number: answer}, ()
