"""The address of a server, and its key, which must appear in no file and no message."""

from __future__ import annotations

import json
import os
import re
from urllib.parse import quote, quote_plus, urlsplit

from ambi_eval.errors import AmbiError

# Shorter keys ("EMPTY", "none") are no secrets, and may be words of an answer.
SHORTEST_SECRET = 8


def server_address(base_url: str) -> str:
    """Return the address of a server, which may hold no key: scheme and host in lower case, no slash at its end."""
    shown = re.sub(r"//[^/@]*@", "//", base_url).partition("?")[0]
    try:
        url = urlsplit(base_url)
        usable = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        usable = False
    if not usable or url.username or url.query or url.fragment or re.search(r"[\s\x00-\x1f]", base_url):
        fix = "give one such as http://localhost:8000/v1, without key or password"
        raise AmbiError(f"base_url={shown!r} is no address of a server; {fix}")
    return url._replace(netloc=url.netloc.lower()).geturl().rstrip("/")


def key_of(variable: str) -> str:
    """Return the key that an environment variable holds; `none` if it is empty."""
    key = os.environ.get(variable) or "none"
    # Libraries for HTTP would print a key that cannot be sent in their error.
    if not all(" " < character <= "~" for character in key):
        what = "a blank, a line break or another character that no key has"
        raise AmbiError(f"the key in {variable} holds {what}; remove it")
    return key


def _forms_of(key: str) -> list[str]:
    """Return the spellings of a key: plain, and escaped as in Python, JSON and addresses; the longest first."""
    if key == "none":
        return []
    forms = {key, repr(key)[1:-1], json.dumps(key)[1:-1], quote(key), quote(key, safe=""), quote_plus(key)}
    return sorted(forms, key=len, reverse=True)


def masked(text: str, key: str) -> str:
    """Return a text in which `[key]` replaces every spelling of the key."""
    for form in _forms_of(key):
        text = text.replace(form, "[key]")
    return text


def without_key(content: bytes, key: str) -> bytes:
    """Return a reply in which `[key]` replaces the key, which some servers repeat."""
    if len(key) < SHORTEST_SECRET:
        return content
    for form in _forms_of(key):
        for written in (json.dumps(form)[1:-1], form):
            content = content.replace(written.encode(), b"[key]")
    return content
