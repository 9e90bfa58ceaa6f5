"""The command `ambi-eval sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ambi_eval.errors import AmbiError, NotYetError, counted
from ambi_eval.harness.ending import end_at_ctrl_c
from ambi_eval.paths import check_can_write
from ambi_eval.web import terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from ambi_eval.sweep.grid import Cell
    from ambi_eval.sweep.progress import Progress
    from ambi_eval.sweep.scheduler import Runner


def sweep(
    grid: Annotated[Path, typer.Argument(help="What to run: models, corpora, strategies, seeds.", metavar="GRID.yaml")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for results, answers and report.")],
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="One process after another here, or Ray, on any number of machines.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster, or `auto` for this machine's; else a new one.")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Processes of a model that share the clips (--engine ray).")] = 1,
    corpora: Annotated[str | None, typer.Option(help="Only these corpora of the grid, with commas between.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and what it would cost.")] = False,
    probe: Annotated[
        int | None, typer.Option(min=1, help="With --dry-run: measure tokens on this many clips of each run.")
    ] = None,
) -> None:
    """Run a grid of models, corpora, strategies and seeds; what is done already is skipped."""
    from ambi_eval.sweep.grid import read_grid
    from ambi_eval.sweep.overview import cost_table, finished_runs, probed_tokens, scores_table

    if engine == "local" and (address or replicas > 1):
        raise AmbiError("--address and --replicas go with --engine ray")
    if probe is not None and not dry_run:
        raise AmbiError("--probe goes with --dry-run")
    out = out.absolute()
    end_at_ctrl_c(lambda: f"every answer so far is kept in {out / 'stores'}")
    check_can_write(out, "give another --out")
    chosen = [name.strip() for name in corpora.split(",")] if corpora is not None else None
    cells = read_grid(grid, corpora=chosen, published=dry_run)
    console = terminal.console()
    if dry_run:
        tokens = None
        if probe is not None:
            probes = read_grid(grid, limit=probe, corpora=chosen)
            _run(probes, out / "probe", _runner(engine, address, probes), console, replicas)
            tokens = probed_tokens(probes, out / "probe")
        console.print(cost_table(cells, out, tokens))
        return
    progress = _run(cells, out, _runner(engine, address, cells), console, replicas)
    if runs := finished_runs(cells, out):
        from ambi_eval.report import page, verdict
        from ambi_eval.report.build import build

        content = build(runs)
        page.write_page(content, out / "report.html")
        for section in content.sections:
            console.print(scores_table(section))
        typer.echo("\n" + verdict.in_terminal(verdict.verdicts(content)))
        typer.echo(f"wrote {out / 'report.html'}")
    for name, reason in progress.failures.items():
        typer.echo(f"{name} failed twice: {reason}; its log: {out / name / 'log.txt'}", err=True)
    for name, reason in progress.waiting.items():
        typer.echo(f"{name} is not ready: {reason}", err=True)
    if progress.failures:
        raise typer.Exit(1)
    if progress.waiting:
        raise typer.Exit(NotYetError.exit_code)


def _runner(name: str, address: str | None, cells: Sequence[Cell]) -> Runner:
    from ambi_eval.sweep.cluster import RayRunner
    from ambi_eval.sweep.local import LocalRunner

    models = {cell.model_name: cell.model for cell in cells}
    return RayRunner(models, address) if name == "ray" else LocalRunner()


def _run(cells: Sequence[Cell], out: Path, runner: Runner, console: Console, replicas: int) -> Progress:
    from ambi_eval.sweep.jobs import results_file
    from ambi_eval.sweep.progress import Progress
    from ambi_eval.sweep.scheduler import run_cells

    skipped = [cell for cell in cells if results_file(out, cell)]
    typer.echo(f"{counted(len(cells), 'run')}, {len(skipped)} of them done before")
    try:
        with Progress(cells, skipped, console) as progress:
            run_cells(cells, out, runner, progress, replicas)
    finally:
        runner.close()
    return progress
