"""Counts what the requests of a run cost, and refuses a request that could exceed the limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

from ambi_eval.config.prices import Price
from ambi_eval.errors import AmbiError


class Request:
    """A request that is under way; the caller sets `cost` to the cost of its reply, None if that is not known."""

    cost: float | None = 0.0


class Budget:
    """Counts the cost of a run from the numbers of tokens in the replies.

    Any number of threads may use it at once. A request is admitted if the sum of three amounts stays within `max_cost`:
    what is spent, the most that the requests under way can cost, and the most that this request can cost. A request
    without a reply, or whose reply does not count its tokens, may be billed, too: the most that it can cost is spent.

    Attributes:
        audio_seconds: Length of the audio of all requests that got a reply, in seconds.
        unanswered: The most that requests without a reply, or whose replies count no tokens, can have cost.
    """

    def __init__(
        self,
        name: str,
        price: Price | None,
        tokens: Mapping[str, int],
        *,
        max_cost: float | None = None,
        batch: bool = False,
    ) -> None:
        """Set up a budget for the model of this name in messages.

        The caller keeps `tokens`, those used so far, up to date: `prompt_tokens`, `audio_tokens` (some of these) and
        `generated_tokens`. Without `max_cost` the run may cost any amount. `batch` says that requests are made in batch
        mode, which may cost less.

        Raises:
            AmbiError: If there is a limit and no price.
        """
        if max_cost is not None and price is None:
            raise AmbiError(
                f"max_cost={max_cost:g}: no price of {name} is known; give input_price= and output_price= (and "
                f"audio_price=), or a file with prices="
            )
        self.name = name
        self.price = price
        self.audio_seconds = 0.0
        self.unanswered = 0.0
        self._tokens = tokens
        self._max_cost = max_cost
        self._batch = batch
        self._under_way = 0.0
        self._excess = 1.0  # the largest ratio of a reply's cost to the most that was expected
        self._lock = Lock()

    @property
    def spent(self) -> float:
        """What the replies so far have cost; 0 if there is no price."""
        return self.cost(*(self._tokens[name] for name in ("prompt_tokens", "audio_tokens", "generated_tokens")))

    @contextmanager
    def spending(self, text: str, audio_seconds: float, generated_tokens: int) -> Iterator[Request]:
        """Admit a request for as long as it is under way; the caller sets its `cost` when the reply is there.

        `text` is all text of the request; `generated_tokens` is the most that all its answers can have, thinking
        included.

        Raises:
            AmbiError: If the run could then cost more than `max_cost`.
        """
        most = self.most(text, audio_seconds, generated_tokens)
        self.reserve(most)
        request = Request()
        try:
            yield request
        except BaseException:
            self.release(most)
            raise
        self.release(most, audio_seconds, request.cost)

    def most(self, text: str, audio_seconds: float, generated_tokens: int) -> float:
        """Return the most that such a request can cost."""
        if self.price is None:
            return 0.0
        return self._excess * self.price.most(text, audio_seconds, generated_tokens, batch=self._batch)

    def cost(self, prompt_tokens: int, audio_tokens: int, generated_tokens: int) -> float:
        """Return the cost of these numbers of tokens; 0 if there is no price."""
        if self.price is None:
            return 0.0
        return self.price.of(prompt_tokens, audio_tokens, generated_tokens, batch=self._batch)

    def reserve(self, most: float) -> None:
        """Admit requests that cost no more than this together.

        Raises:
            AmbiError: If the run could then cost more than `max_cost`.
        """
        with self._lock:
            taken = self.spent + self.unanswered + self._under_way
            if self._max_cost is not None and taken + most > self._max_cost:
                raise AmbiError(
                    f"{self.name}: stopped before max_cost={self._max_cost:g}: {self.spent:.4g} are spent, requests "
                    f"without a reply or a count of tokens may cost {taken - self.spent:.4g}, the next one {most:.4g}; "
                    f"all answers are kept: run the same command with a larger max_cost to go on"
                )
            self._under_way += most

    def release(self, most: float, audio_seconds: float = 0.0, cost: float | None = None) -> None:
        """Note that a request which `reserve` admitted is no longer under way.

        `most` is what was reserved for it, 0 if an earlier run has sent it. Its cost is None if it got no reply, or if
        the tokens are not known.
        """
        with self._lock:
            self._under_way -= most
            self.audio_seconds += audio_seconds
            if cost is None:
                self.unanswered += most
            else:
                self._excess = max(self._excess, self._excess * cost / most if most else 1.0)

    def info(self) -> dict[str, Any]:
        """Return the length of the audio, the cost and the prices as JSON values, for the results."""
        heard = {"audio_seconds": round(self.audio_seconds, 3)}
        if self.price is None:
            return heard
        unanswered = {"cost_unanswered_at_most": round(self.unanswered, 6)} if self.unanswered else {}
        prices = self.price.model_dump(exclude={"host", "audio_tokens_per_second"}, exclude_none=True)
        return {**heard, "cost": round(self.spent, 6), **unanswered, "prices": prices}
