"""Writes the file of each task (a corpus and a strategy), and the groups: `python -m ambi_eval.config.tasks`.

A new corpus is one `tasks/<corpus>/_<corpus>.yaml`, a new strategy is one `tasks/_strategies/<strategy>.yaml`; this
command writes the other files.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ambi_eval.config.load import corpus_files, read_yaml, strategy_names
from ambi_eval.paths import tasks_dir

HEADER = "# Written by `python -m ambi_eval.config.tasks`."
PAPER_CORPORA = ("crema_d", "iemocap", "msp_podcast")
PAPER_STRATEGIES = ("direct", "cot", "bon", "wbon", "almv", "walmv")
# Strategies that are in no group: protocols of other papers, and those for models that take several audios.
APART = ("aer_llm", "few_shot", "pairs", "voxemo")
# Corpora with simulated raters, which are in no group but their own.
SIMULATED = ("demo",)


def generated_files() -> dict[Path, str]:
    """Return the content of every task file and group file, by its path."""
    strategies = [*PAPER_STRATEGIES, *(name for name in strategy_names() if name not in PAPER_STRATEGIES)]
    files = {}
    for corpus, base in corpus_files().items():
        for strategy in strategies:
            files[base.parent / f"ambi_{corpus}_{strategy}.yaml"] = (
                f"{HEADER}\ninclude: {base.name}\ntask: ambi_{corpus}_{strategy}\ntag: ambi_{strategy}\n"
                f"strategy: {strategy}\n"
            )
        members = [f"ambi_{corpus}_{strategy}" for strategy in strategies if strategy not in APART]
        files[base.parent / f"ambi_{corpus}.yaml"] = _group(f"ambi_{corpus}", members)
    files[tasks_dir() / "ambi.yaml"] = _group(
        "ambi",
        [f"ambi_{corpus}" for corpus in corpus_files() if corpus not in SIMULATED],
        "Every task on people's votes (the demo is not among them: its raters are simulated).",
    )
    files[tasks_dir() / "ambi_open.yaml"] = _group(
        "ambi_open",
        [f"ambi_{name}" for name, base in corpus_files().items() if read_yaml(base).get("metadata", {}).get("open")],
        "Every task on a corpus that needs no signature.",
    )
    files[tasks_dir() / "ambi_paper.yaml"] = _group(
        "ambi_paper",
        [f"ambi_{corpus}_{strategy}" for corpus in PAPER_CORPORA for strategy in PAPER_STRATEGIES],
        "The grid of arXiv 2602.03873: the direct answer and five strategies, with the label sets of its group.",
    )
    return files


def stale_files() -> list[Path]:
    """Return the task and group files that are missing, outdated, or belong to no corpus and strategy."""
    files = generated_files()
    wrong = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    left = [path for path in tasks_dir().rglob("ambi*.yaml") if path not in files]
    return sorted([*wrong, *left])


def _group(name: str, members: Iterable[str], about: str = "") -> str:
    lines = [HEADER, *([f"# {about}"] if about else []), f"group: {name}", "task:"]
    return "\n".join([*lines, *(f"  - {member}" for member in members), "metadata: {version: 1.0}\n"])


def write() -> None:
    """Write every file that is missing or outdated, and remove those that belong to no corpus and strategy."""
    files = generated_files()
    for path in stale_files():
        if path in files:
            path.write_text(files[path], encoding="utf-8")
        else:
            path.unlink()


if __name__ == "__main__":
    write()
