"""The order of the rooms: who may import whom, how large a room may be, and who may know the harness."""

import ast
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest
from support import ROOT

from ambi_eval.config.task_settings import TaskSettings

PACKAGE = ROOT / "ambi_eval"
# A room imports only rooms that stand before it in this list.
ORDER = [
    *(
        "errors",
        "paths",
        "votes",
        "audio",
        "config",
        "metrics",
        "corpora",
        "answers",
        "filters",
        "costs",
        "batches",
        "sampling",
        "engines",
        "services",
    ),
    *("serving", "inference", "models", "analysis", "harness", "task", "demo", "doctor", "web", "funnel", "report"),
    *("leaderboard", "sweep", "testing", "api", "cli", "__main__"),
]
KNOW_THE_HARNESS = {"filters", "models", "harness", "sweep"}
LARGEST_SHARE = 0.15
MOST_LOOSE_FILES = 6


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if "tasks" in path.relative_to(PACKAGE).parts[:1]:
            continue
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def imports(module: str) -> set[str]:
    """Return the modules that a module imports, anywhere in it, those for type checking included.

    Only the package itself, which hands on names of the api, may name modules for type checking that import it.
    """
    found, tree = set(), ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if module == "ambi_eval" and isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name for name in found if name.split(".")[0] == "ambi_eval"}
    resolved = set()
    for name in ours:
        while name not in MODULES and "." in name:
            name = name.rpartition(".")[0]
        resolved.add(name)
    return (resolved | {name for name in found if name.split(".")[0] == "lm_eval"}) - {module}


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_rooms_above_it(module):
    room = room_of(module)
    if not room:  # the package itself offers a few names lazily
        return
    assert room in ORDER, f"the room {room} has no place in the order"
    allowed = set(ORDER[: ORDER.index(room) + 1])
    below = {name for name in imports(module) if name.startswith("ambi_eval.") and room_of(name) not in allowed}
    assert not below, f"{module} imports from rooms below it"


@pytest.mark.parametrize("module", MODULES)
def test_only_the_rooms_of_the_harness_import_lm_eval(module):
    if room_of(module) not in KNOW_THE_HARNESS:
        assert not {name for name in imports(module) if name.split(".")[0] == "lm_eval"}


def test_no_modules_import_one_another_in_a_circle():
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for name in sorted(imports(module) & MODULES.keys()):
            visit(name)
        path.pop()
        done.add(module)

    for module in MODULES:
        visit(module)


def test_no_room_is_larger_than_the_others_can_bear():
    lines: Counter[str] = Counter()
    for path in PACKAGE.rglob("*"):
        if path.suffix in (".py", ".j2", ".css", ".js"):
            inside = path.relative_to(PACKAGE).parts
            lines[inside[0] if len(inside) > 1 else "loose"] += len(path.read_text(encoding="utf-8").splitlines())
    del lines["tasks"]
    shares = {room: count / lines.total() for room, count in lines.items()}
    assert max(shares.values()) <= LARGEST_SHARE, {room: round(share, 3) for room, share in shares.items()}


def test_few_files_lie_loose_at_the_root_of_the_package():
    loose = sorted(path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__"))
    assert len(loose) <= MOST_LOOSE_FILES, loose


def test_no_configuration_is_read_by_key_outside_its_room():
    read = defaultdict(list)
    for module, path in MODULES.items():
        if room_of(module) == "config":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name | ast.Attribute)
            name = getattr(node.value, "id", getattr(node.value, "attr", "")) if named else ""
            keys = TaskSettings.model_fields.keys() - {"task", "metadata"}
            if name in ("config", "own", "whole") and isinstance(node.slice, ast.Constant) and node.slice.value in keys:
                read[module].append(f"{name}[{node.slice.value!r}]")
    assert not read
