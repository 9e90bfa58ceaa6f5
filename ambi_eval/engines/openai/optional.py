"""Fields of a request that a server may refuse, and the consequence of each."""

from __future__ import annotations

import re
from typing import Any

# A field that the server refuses by name is left out from then on, and its consequence is logged once.
OPTIONAL = {
    "logprobs": "answers come without log-probabilities",
    "top_logprobs": "answers come without the log-probabilities of other tokens",
    "n": "each answer takes a request of its own",
    "seed": "samples cannot be drawn again",
    "stop": "answers are cut here, where the server would have stopped",
    "thinking_token_budget": "thinking and answer share one limit of tokens",
    "max_tokens": "max_completion_tokens replaces it",
    "temperature": "the provider fixes the sampling, so answers are drawn from another distribution than asked for",
    "top_p": "the provider fixes the sampling, so answers are drawn from another distribution than asked for",
}


def is_about(error: Any, field: str) -> bool:
    """Return whether an error names a field of the request: in `param`, in quotes, or as the place of the mistake."""
    details = error.body.get("detail") if isinstance(error.body, dict) else None
    places = [each.get("loc", ()) for each in details if isinstance(each, dict)] if isinstance(details, list) else []
    quoted = re.search(f"[\"'`]{field}[\"'`]", error.message)
    return error.param == field or quoted is not None or any(field in place for place in places)
