"""What a start costs in processor time: commands without a model, and the stock command until it opens a checkpoint.

    OMP_NUM_THREADS=1 python benchmarks/start.py [--repetitions 5] [--other CHECKOUT] [--rows TEXT]

A checkpoint that is not there ends the stock command at the place where it would be loaded. `first start` has an empty
cache folder, so the harness parses its 14,000 task files. `--other` measures the code of another checkout in turns with
this one: seconds are those of this machine at this moment, ratios travel.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[1]
RUN = [BIN / "lm_eval", "--model", "hf-audio", "--tasks", "ambi_demo_sc", "--model_args"]
UNTIL_THE_MODEL = [*RUN, "pretrained=/no/such/checkpoint,store=none"]
ROWS = {
    "the harness alone: `import lm_eval.__main__`": [sys.executable, "-c", "import lm_eval.__main__"],
    "`ambi-eval --help`": [BIN / "ambi-eval", "--help"],
    "`ambi-eval corpora`": [BIN / "ambi-eval", "corpora"],
    "`ambi-eval check` of a task": [BIN / "ambi-eval", "check", ROOT / "tasks" / "demo" / "ambi_demo_sc.yaml"],
    "`ambi-eval leaderboard verify` of a folder that is not there": [BIN / "ambi-eval", "leaderboard", "verify", "x"],
    "stock command until the model, first start": UNTIL_THE_MODEL,
    "stock command until the model": UNTIL_THE_MODEL,
    "stock command with `ambi-tiny`, whole": [*RUN, "pretrained=ambi-tiny,store=none"],
}


def seconds(command: list[str | Path], environment: dict[str, str], folder: Path) -> float:
    """Return the processor time (user and system) of a command and of the processes that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = list(map(str, command))
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 2):  # 2: the checkpoint that is not there
        sys.exit(f"{words} failed:\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--other", type=Path, help="the checkout to compare with")
    parser.add_argument("--rows", default="", help="measure only the rows whose names hold this text")
    given = parser.parse_args()
    rows = {row: command for row, command in ROWS.items() if given.rows in row}
    sides = {"this": ROOT, **({"other": given.other.absolute()} if given.other else {})}
    taken: dict[tuple[str, str], list[float]] = {(row, side): [] for row in rows for side in sides}
    with TemporaryDirectory() as name:
        for repetition in range(-1, given.repetitions):  # the first round fills the caches and does not count
            for row, command in rows.items():
                for side, checkout in sides.items():
                    cache = Path(name) / (f"first-{side}-{repetition}" if row.endswith("first start") else side)
                    environment = {**os.environ, "PYTHONPATH": str(checkout), "XDG_CACHE_HOME": str(cache)}
                    cost = seconds(command, environment, Path(name))
                    if repetition >= 0:
                        taken[row, side].append(cost)
    head = [f"processor seconds, median of {given.repetitions}", *sides, *["ratio"] * (len(sides) - 1)]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for row in rows:
        medians = [median(taken[row, side]) for side in sides]
        ratio = [f"{medians[0] / medians[1]:.2f}"] if len(medians) == 2 else []
        print(f"| {' | '.join([row, *(f'{each:.2f}' for each in medians), *ratio])} |", flush=True)


if __name__ == "__main__":
    main()
