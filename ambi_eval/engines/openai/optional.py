"""The optional fields of a request: a server may refuse them."""

from __future__ import annotations

import re
from typing import Any

# The consequence of each field that is left out, because the server refuses it by name; it is logged once.
OPTIONAL = {
    "logprobs": "answers come without log-probabilities",
    "top_logprobs": "answers come without the log-probabilities of other tokens",
    "n": "each answer takes a request of its own",
    "seed": "samples cannot be drawn again",
    "stop": "answers are cut here, where the server would have stopped",
    "thinking_token_budget": "thinking and answer share one token limit",
    "max_tokens": "max_completion_tokens replaces it",
    "temperature": "the provider fixes the sampling, so answers are drawn from another distribution than asked for",
    "top_p": "the provider fixes the sampling, so answers are drawn from another distribution than asked for",
}


def is_about(error: Any, field: str) -> bool:
    """Return whether an error names a field: in `param`, in quotes, or in the list of places (`loc`) of FastAPI."""
    details = error.body.get("detail") if isinstance(error.body, dict) else None
    places = [each.get("loc", ()) for each in details if isinstance(each, dict)] if isinstance(details, list) else []
    quoted = re.search(f"[\"'`]{field}[\"'`]", error.message)
    return error.param == field or quoted is not None or any(field in place for place in places)
