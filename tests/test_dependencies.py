"""What pyproject.toml declares is what the code imports, no less and no more."""

import ast
import re
import sys
from functools import cache
from importlib.metadata import packages_distributions

import pytest
from support import ROOT

tomllib = pytest.importorskip("tomllib")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = sorted(PROJECT["optional-dependencies"].keys() - {"test", "lint"})
OURS = {"ambi_eval", "support", "decoding"}
# Distributions that no line of ours imports, and what needs them.
NEEDED_BY = {
    "pillow": "transformers, for processors of models that also see",
    "torchvision": "transformers, for processors of models that also see",
    "timm": "transformers, for Gemma 3n",
    "torchaudio": "transformers, for Granite Speech",
    "fastapi": "`transformers serve`",
    "uvicorn": "`transformers serve`",
    "build": "the test that builds the wheel",
    "hatchling": "the test that builds the wheel",
    "pytest-xdist": "`make test`",
    "mkdocs-material": "`make docs`",
    "mkdocstrings": "`make docs`",
    "ipykernel": "the test that executes the notebook",
}
known = cache(packages_distributions)


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*groups):
    """Return the distributions that pyproject.toml names: its dependencies and these extras, with what they include."""
    extras = PROJECT["optional-dependencies"]
    found, waiting = set(), [*PROJECT["dependencies"], *(line for group in groups for line in extras[group])]
    while waiting:
        line = waiting.pop()
        if own := re.match(r"ambi-eval\[(.*)\]", line):
            waiting += [inner for extra in own[1].split(",") for inner in extras[extra]]
        else:
            found.add(normal(re.match(r"[\w.-]+", line)[0]))
    return found


@cache
def imported(folder):
    """Return the distributions whose modules the files below a folder import, each with one of these files."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OURS:
                found.setdefault(normal(known().get(name, [name])[0]), path.relative_to(ROOT).as_posix())
    return found


@pytest.mark.parametrize(
    ("folder", "groups"), [("ambi_eval", (*EXTRAS, "test")), ("tests", ("test",)), ("benchmarks", ("test",))]
)
def test_every_import_is_declared(folder, groups):
    missing = {name: file for name, file in imported(folder).items() if name not in declared(*groups)}
    assert missing == {}


def test_only_the_tests_for_other_peoples_engines_need_what_tests_need():
    beyond = {name: file for name, file in imported("ambi_eval").items() if name not in declared(*EXTRAS)}
    assert {name: file.rpartition("/")[0] for name, file in beyond.items()} == {"pytest": "ambi_eval/testing"}


def test_every_declared_dependency_is_imported_or_needed_by_something_that_is_named():
    used = imported("ambi_eval").keys() | imported("tests").keys()
    assert declared(*EXTRAS, "test") - used == NEEDED_BY.keys() - used != set()
    assert declared() <= imported("ambi_eval").keys()
