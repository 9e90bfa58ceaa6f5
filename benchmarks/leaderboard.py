"""How long the leaderboard takes to verify and build many submissions: synthetic ones, each with answers of its own.

    python benchmarks/leaderboard.py [SUBMISSIONS]

Every copy of the shipped `sc` submission gets half of its answers anew, so that none is a near-duplicate, and claims
that fit.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from ambi_eval.answers.candidate import Candidate
from ambi_eval.leaderboard.rescore import scoring_task
from ambi_eval.leaderboard.site import build
from ambi_eval.leaderboard.submission import read_submission, write_submission

TASK = "ambi_demo_sc"
SHIPPED = Path(__file__).parent.parent / "leaderboard" / "submissions"


def synthesise(folder: Path, count: int) -> None:
    """Write so many submissions."""
    source = read_submission(next(SHIPPED.glob("*_ambi-tiny-sc")))
    task = scoring_task(TASK)
    labels = task.settings.labels
    for number in range(count):
        rng = random.Random(number)
        pools = {
            clip: [_changed(answer, rng.choice(labels)) if rng.random() < 0.5 else answer for answer in pool]
            for clip, pool in source.pools[TASK].items()
        }
        claims = {TASK: {name: dict(found.metrics) for name, found in task.score_answers(pools).items()}}
        card = source.card.model_copy(update={"name": f"system {number}"})
        write_submission(folder / f"2026-01-31_synthetic-{number}", card, claims, {TASK: pools})


def _changed(answer: Candidate, text: str) -> Candidate:
    return Candidate(text, answer.logprob, answer.n_tokens, answer.finish, answer.number)


def main() -> None:
    """Print the seconds."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    folder = Path(tempfile.mkdtemp())
    os.environ["AMBI_DATA"] = str(folder / "data")
    try:
        synthesise(folder / "submissions", count)
        start, start_cpu = time.perf_counter(), time.process_time()
        site = build(folder / "submissions", folder / "site", folder / "verified.json")
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        size = sum(path.stat().st_size for path in (folder / "site").rglob("*.*")) / 1e6
        built = f"{len(site.shown)} of {count} submissions verified and built"
        print(f"{built} in {seconds:.1f} s ({cpu:.1f} s of processor time), {size:.1f} MB")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
