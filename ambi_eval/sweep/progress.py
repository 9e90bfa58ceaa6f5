"""Shows the progress of a sweep: a live table in a terminal, elsewhere a line for each run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ambi_eval.errors import counted
from ambi_eval.sweep.grid import Cell, by_group
from ambi_eval.sweep.jobs import Event
from ambi_eval.web.format import short

# Outside a terminal, a running cell prints at most one line in this many seconds.
LINE_SECONDS = 60.0


class Progress(AbstractContextManager["Progress"]):
    """Adds up the events of the jobs, and shows the result.

    Attributes:
        failures: Why the last try of a cell failed, by the cell's name; without cells that succeeded later.
        waiting: What a cell waits for, by the cell's name: a service that has not answered its batch yet.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        skipped: Sequence[Cell],
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin; `skipped` are the cells that were done before, and `clock` returns the time in seconds."""
        self.cells = {cell.name: cell for cell in cells}
        self.skipped = {cell.name for cell in skipped}
        self.done = set(self.skipped)
        self.failures: dict[str, str] = {}
        self.waiting: dict[str, str] = {}
        self.parts: dict[str, dict[str, float]] = {name: {} for name in self.cells}
        self.running: dict[str, tuple[str, float]] = {}
        self.console = console
        self.clock = clock
        self.began = self.line_at = clock()
        self.live = Live(get_renderable=self.table, console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Progress:
        """Show the table, if there is a terminal."""
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the live table."""
        self.live.stop()

    def show(self, event: Event, weight: float) -> None:
        """Add an event; `weight` is the job's share of the work on its cells."""
        if event.kind == "ended":
            lost = self.running.pop(event.job, None)
            if event.reason:
                if lost:
                    self.failures[lost[0]] = event.reason
                self._line(f"{event.job}: {event.reason}")
            return
        self.parts[event.cell][event.job] = event.fraction * weight
        self.running[event.job] = (event.cell, event.answers_per_second)
        if event.kind in ("done", "waits", "failed"):
            del self.running[event.job]
        whole = event.job == self.cells[event.cell].group
        if event.kind == "failed":
            self._line(f"{event.cell} failed: {event.reason}" + ("" if whole else f" ({event.job})"))
            self.failures[event.cell] = event.reason
        elif event.kind == "waits":
            self._line(f"{event.cell} waits: {event.reason}")
            self.waiting[event.cell] = event.reason
        elif event.kind == "done" and whole:
            self.done.add(event.cell)
            self.failures.pop(event.cell, None)
            self.waiting.pop(event.cell, None)
            scores = ", ".join(f"{pipeline} {short(score)}" for pipeline, score in event.jsd.items())
            clips = counted(self.cells[event.cell].clips, "clip")
            self._line(f"{len(self.done)}/{len(self.cells)} {event.cell}: {clips}" + f"; JSD: {scores}" * bool(scores))
        elif event.kind == "progress" and self.clock() - self.line_at > LINE_SECONDS and not self.console.is_terminal:
            self._line(self.summary())

    def summary(self) -> str:
        """Return one line: cells, clips, answers per second, and the time left."""
        fractions = {name: self._fraction(name) for name in self.cells}
        clips = sum(self.cells[name].clips * fraction for name, fraction in fractions.items())
        speed = sum(speed for _, speed in self.running.values())
        return (
            f"{len(self.done)} of {counted(len(self.cells), 'run')}, {clips:,.0f} of "
            f"{counted(sum(cell.clips for cell in self.cells.values()), 'clip')}, {len(self.failures)} failed, "
            f"{speed:,.1f} answers/s, {self._time_left()}"
        )

    def table(self) -> Table:
        """Return a table with a row for each model, corpus and seed."""
        table = Table(title=self.summary(), title_justify="left")
        table.add_column("model, corpus, seed")
        table.add_column("now")
        for heading in ("runs", "failed", "clips", "answers/s"):
            table.add_column(heading, justify="right")
        for group, cells in by_group(list(self.cells.values())).items():
            names = {cell.name for cell in cells}
            now = [(name, speed) for name, speed in self.running.values() if name in names]
            clips = sum(cell.clips * self._fraction(cell.name) for cell in cells)
            table.add_row(
                group,
                ", ".join(sorted({name.partition("/")[2] for name, _ in now})),
                f"{len(names & self.done)}/{len(names)}",
                str(len(names & self.failures.keys()) or ""),
                f"{clips:,.0f}/{sum(cell.clips for cell in cells):,}",
                f"{sum(speed for _, speed in now):,.1f}" if now else "",
            )
        return table

    def _fraction(self, name: str) -> float:
        return 1.0 if name in self.done else min(1.0, sum(self.parts[name].values()))

    def _time_left(self) -> str:
        work = {name: _work(cell) for name, cell in self.cells.items() if name not in self.skipped}
        done = sum(amount * self._fraction(name) for name, amount in work.items())
        left = sum(work.values()) - done
        if not done:
            return "time left unknown"
        return f"{timedelta(seconds=round((self.clock() - self.began) * left / done))} left"

    def _line(self, text: str) -> None:
        self.line_at = self.clock()
        self.console.print(text, soft_wrap=True)


def _work(cell: Cell) -> int:
    """Return the work of a cell in tokens, at most: one for each clip that is read, and those of all new answers."""
    return cell.clips + cell.answers * cell.max_tokens
