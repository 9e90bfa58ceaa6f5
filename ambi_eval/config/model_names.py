"""Names of models: as pages show them, and whether a reply names the model that was asked for."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from ambi_eval.errors import counted

# A name, and at its end the version: a revision, a date, a number of three digits or more, or the word latest.
_VERSIONED = re.compile(r"(.+?)(?:[-:@](latest|\d{4}-\d\d-\d\d|\d\d-\d{4}|\d\d-\d\d|\d{3,8})|@(.+))?")


def folder_name(model: str) -> str:
    """Return a model's name, and of a path to a folder its last part: nobody else has that path.

    >>> folder_name("/home/anna/my-model/"), folder_name("Qwen/Qwen2-Audio-7B-Instruct")
    ('my-model', 'Qwen/Qwen2-Audio-7B-Instruct')
    """
    return Path(model).name or model if model.startswith(("/", "./", "../", "~/")) else model


def is_same_model(named: str, asked: str) -> bool:
    """Return whether two names may mean the same model: either may have a provider before it, and a version after it.

    >>> is_same_model("openai/gpt-4o-2024-08-06", "gpt-4o"), is_same_model("gpt-4o-mini", "gpt-4o")
    (True, False)
    """
    (one, its), (other, others) = (_parts(name.lower()) for name in (named, asked))
    return len(its | others) < 2 and (f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}"))


def _parts(name: str) -> tuple[str, set[str]]:
    """Return a name without its version, and the version, if there is one."""
    found = _VERSIONED.fullmatch(name)
    bare, *version = found.groups() if found else (name,)
    return bare, {*version} - {None, "latest"}


def other_models(info: Mapping[str, Any]) -> list[str]:
    """Return a sentence if another model answered than the one asked for, and one if several versions of it answered.

    The sentences about the verifier, if there is one, follow. `info` is what the model wrote into the results file,
    with the names in the replies of this run (`answered_as`) and the origins of its stored answers.
    """
    verifier = info.get("verifier")
    of_verifier = other_models(verifier) if isinstance(verifier, dict) else []
    asked, stored = str(info.get("model")), Counter[str]()
    for origin, answers in info.get("stored_answers_from", {}).items():
        stored[json.loads(origin).get("answered_as", asked)] += answers
    said = {name: [counted(count, "reply", "replies")] for name, count in info.get("answered_as", {}).items()}
    for name, count in stored.items():
        said.setdefault(name, []).append(counted(count, "stored answer"))
    told = {name: f"'{name}' ({', '.join(counts)})" for name, counts in said.items()}
    fitting = [name for name in told if is_same_model(name, asked)]
    sentences = []
    if others := [shown for name, shown in told.items() if name not in fitting]:
        sentences.append(f"'{asked}' was asked for, but the server named another model: {', '.join(others)}.")
    if not all(is_same_model(one, other) for one, other in combinations(fitting, 2)):
        sentences.append(f"several versions of '{asked}' answered: {', '.join(told[name] for name in fitting)}.")
    return [*sentences, *of_verifier]
