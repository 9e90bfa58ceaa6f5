import io

import pytest
from rich.console import Console

from ambi_eval.sweep.jobs import Event
from ambi_eval.sweep.progress import Progress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def shown(grid):
    """A progress of three runs of 10 clips, the first of them done before; its clock, and what it writes."""

    def show(terminal=False):
        cells = grid(strategies=["direct", "sc", "exact"], limit=10)
        written, clock = io.StringIO(), Clock()
        console = Console(file=written, force_terminal=terminal, width=130)
        return cells, Progress(cells, cells[:1], console, clock), clock, written

    return show


def test_clips_and_speed_are_those_of_all_jobs_together(shown):
    cells, progress, _, _ = shown()
    for share in (0, 1):
        job = f"{cells[1].group}.share-{share}-of-2"
        progress.show(Event(job, "started", cells[1].name), 0.5)
        progress.show(Event(job, "progress", cells[1].name, fraction=0.4, answers_per_second=3.0), 0.5)
    assert progress.summary().startswith("1 of 3 runs, 14 of 30 clips, 0 failed, 6.0 answers/s")


def test_the_time_left_goes_by_the_work_that_was_done_in_this_sweep(shown):
    cells, progress, clock, _ = shown()
    assert progress.summary().endswith("time left unknown")
    clock.now = 60.0
    # Half of 200 answers of at most 16 tokens; the ten clips of the last run are only read.
    progress.show(Event(cells[1].group, "progress", cells[1].name, fraction=0.5), 1.0)
    assert progress.summary().endswith("0:01:00 left")
    progress.show(Event(cells[1].group, "done", cells[1].name, fraction=1.0), 1.0)
    progress.show(Event(cells[2].group, "done", cells[2].name, fraction=1.0), 1.0)
    assert progress.summary() == "3 of 3 runs, 30 of 30 clips, 0 failed, 0.0 answers/s, 0:00:00 left"


def test_a_run_that_fails_and_then_succeeds_has_not_failed(shown):
    cells, progress, _, written = shown()
    progress.show(Event(cells[1].group, "failed", cells[1].name, reason="OSError: disk full"), 1.0)
    assert progress.failures == {cells[1].name: "OSError: disk full"}
    scores = {"dist": 0.0981, "vote": 0.151}
    progress.show(Event(cells[1].group, "done", cells[1].name, fraction=1.0, jsd=scores), 1.0)
    assert progress.failures == {}
    assert written.getvalue().splitlines() == [
        "tiny/ambi_demo_sc.seed-0 failed: OSError: disk full",
        "2/3 tiny/ambi_demo_sc.seed-0: 10 clips; JSD: dist 0.098, vote 0.151",
    ]


def test_a_run_that_waits_has_not_failed(shown):
    cells, progress, _, written = shown()
    progress.show(Event(cells[1].group, "waits", cells[1].name, reason="its batch is under way"), 1.0)
    assert (progress.failures, progress.waiting) == ({}, {cells[1].name: "its batch is under way"})
    assert written.getvalue() == "tiny/ambi_demo_sc.seed-0 waits: its batch is under way\n"


def test_a_lost_process_fails_the_run_it_was_at(shown):
    cells, progress, _, written = shown()
    progress.show(Event(cells[1].group, "started", cells[1].name), 1.0)
    progress.show(Event(cells[1].group, "ended", reason="its process ended with exit code -9"), 1.0)
    assert progress.failures == {cells[1].name: "its process ended with exit code -9"}
    assert written.getvalue() == "tiny.demo.seed-0: its process ended with exit code -9\n"


def test_a_share_that_is_done_is_not_yet_the_run(shown):
    cells, progress, _, written = shown()
    progress.show(Event(f"{cells[1].group}.share-0-of-2", "done", cells[1].name, fraction=1.0), 0.5)
    assert progress.summary().startswith("1 of 3 runs, 15 of 30 clips")
    assert written.getvalue() == ""


def test_outside_a_terminal_there_is_a_line_a_minute(shown):
    cells, progress, clock, written = shown()
    with progress:
        for second in range(150):
            clock.now = float(second)
            progress.show(Event(cells[1].group, "progress", cells[1].name, fraction=second / 150), 1.0)
    lines = written.getvalue().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("1 of 3 runs") for line in lines)


def test_in_a_terminal_there_is_a_table(shown):
    cells, progress, _, written = shown(terminal=True)
    with progress:
        progress.show(Event(cells[1].group, "progress", cells[1].name, fraction=0.5, answers_per_second=7.25), 1.0)
        progress.live.refresh()
    row = next(line for line in written.getvalue().splitlines() if "tiny.demo.seed-0" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "tiny.demo.seed-0",
        "ambi_demo_sc.seed-0",
        "1/3",
        "",
        "15/30",
        "7.2",
    ]
