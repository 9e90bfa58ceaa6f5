"""The key of an answer, which seeds its sampling."""

from __future__ import annotations

import hashlib


def row_key(*parts: object) -> int:
    """Return the 64-bit key of one answer's noise: a hash of all that the answer may depend on."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
