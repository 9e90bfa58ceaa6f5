"""The rows of a store: the keys of pools, values that SQLite does not change, and checksums."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from ambi_eval.answers.candidate import Candidate, Finish

Row = tuple[Any, ...]


def pool_key(**parts: Any) -> str:
    """Return the key of a pool: the SHA-256 of everything that its answers depend on, in hexadecimal.

    The key is the same in every process and Python version and does not depend on the order of the parts. These are
    plain JSON; the integer 1 and the float 1.0 are different values.

    Raises:
        TypeError: If a part is not plain JSON, such as a tuple, which would read back as a list.
        ValueError: If a float is NaN or infinite.

    >>> pool_key(prompt="Which emotion?", seed=0) == pool_key(seed=0, prompt="Which emotion?")
    True
    """
    return sha256(canonical_json(parts).encode()).hexdigest()


def canonical_json(parts: Mapping[str, Any]) -> str:
    """Return the same text for equal parts, in every process and Python version."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    if json.loads(text) != parts:
        raise TypeError(f"{parts!r} is not plain JSON: reading it back gives {text}")
    return text


def candidate_row(pool: str, k: int, set_size: int | None, candidate: Candidate) -> Row:
    """Return the row of answer `k` of a pool, without provenance; `set_size` is the number of beams, or None."""
    if candidate.finish not in ("stop", "length", "content_filter", None):
        raise ValueError(f"a candidate that ended with '{candidate.finish}' is no answer to keep")
    logprob = None if candidate.logprob is None else stored_float(candidate.logprob)
    made = candidate.n_tokens, candidate.finish, candidate.thinking_tokens
    return pool, k, set_size, stored_text(candidate), logprob, *made


def stored_candidate(
    k: int,
    text: str | bytes,
    logprob: float | str | None,
    n_tokens: int | None,
    finish: Finish | None,
    thought: int | None,
) -> Candidate:
    """Return the answer that a row holds."""
    known = None if logprob is None else float(logprob)
    return Candidate(loaded_text(text), known, n_tokens, finish, k, thinking_tokens=thought)


def stored_text(text: str) -> str | bytes:
    """Return a text in a form that SQLite takes: unchanged, or as bytes if it holds a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return str(text)


def loaded_text(text: str | bytes) -> str:
    """Return the text whose stored form this is (see `stored_text`)."""
    return text if isinstance(text, str) else text.decode("utf-8", "surrogatepass")


def stored_float(value: float) -> float | str:
    """Return a number in a form that SQLite keeps: NaN, which it would store as NULL, becomes the text `nan`."""
    return "nan" if math.isnan(value) else float(value)


def row_checksum(row: Row) -> int:
    """Return the checksum that is stored with a row; a last value of None does not count, as version 1 lacks it."""
    # Not `repr`: which characters it escapes depends on the Unicode version of Python.
    return zlib.crc32(ascii(row if row[-1] is not None else row[:-1]).encode())
