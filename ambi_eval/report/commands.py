"""The commands `ambi-eval report`, `generalizability` and `budget`, which read runs of `lm_eval`."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ambi_eval.errors import AmbiError
from ambi_eval.web.terminal import print_tables

if TYPE_CHECKING:
    from ambi_eval.report.systems import ModelTask

FOLDERS = "Folders that lm_eval --log_samples --output_path wrote."
Runs = Annotated[list[Path], typer.Argument(help=FOLDERS, metavar="RUN...")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Every number of it, as JSON.")]


def report(
    runs: Annotated[list[Path] | None, typer.Argument(help=FOLDERS, metavar="RUN...")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("report.html"),
    json_file: JsonFile = None,
    table_file: Annotated[
        Path | None,
        typer.Option("--table", help="Tables for a paper; the ending .tex (booktabs), .md or .csv says how."),
    ] = None,
    figure_file: Annotated[
        Path | None,
        typer.Option(
            "--figure", help="The first plot of each corpus, for a paper; the ending .pdf, .svg or .png says how."
        ),
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Print the differences of two systems instead: each RUN, RUN:TASK or RUN:TASK:PIPELINE."),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option("--with", help="Predictions, as `score` reads them, to show beside the runs; once a file."),
    ] = None,
) -> None:
    """Show what runs of lm_eval mean: a verdict, and one page of scores, references, curves and clips."""
    from ambi_eval.funnel.content import funnels_in
    from ambi_eval.harness.results import read_runs
    from ambi_eval.report import comparison, page, plots, table, verdict
    from ambi_eval.report.build import build
    from ambi_eval.web import charts
    from ambi_eval.web.pages import write_json

    if (compare is None) == (not runs):
        raise AmbiError("ambi-eval report: name the folders of runs, or two systems with --compare A B.")
    if table_file is not None:
        table.writer(table_file)  # refuses an ending before anything is computed
    if figure_file is not None:
        charts.figure_format(figure_file)
    if compare is not None:
        if beside or table_file or figure_file:
            raise AmbiError(
                "ambi-eval report: --with, --table and --figure go with folders of runs, not with --compare."
            )
        sides = [comparison.find(named) for named in compare]
        pairs = comparison.compare_runs(*sides)
        print_tables(comparison.table(pairs))
        both = {side.run.file.resolve(): side.run for side in sides}
        typer.echo(verdict.in_terminal(verdict.verdicts(build(list(both.values())))))
        if json_file is not None:
            write_json(pairs, json_file)
        return
    funnels = [each for path in runs or () for each in funnels_in(path)]
    content = build([run for path in runs or () for run in read_runs(path)], beside or (), funnels)
    page.write_page(content, out)
    typer.echo(verdict.in_terminal(verdict.verdicts(content)))
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
    if json_file is not None:
        write_json(content, json_file)
    if table_file is not None:
        table.write_tables(content, table_file)
        typer.echo(f"wrote {table_file}")
    if figure_file is not None:
        for place, section in enumerate(content.sections, start=1):
            several = f"-{place}" if len(content.sections) > 1 else ""
            path = figure_file.with_stem(figure_file.stem + several)
            charts.write_figure(plots.number_line(section), path)
            typer.echo(f"wrote {path}")


def _tasks(paths: list[Path]) -> list[list[ModelTask]]:
    """Return the tasks of runs, grouped by their clips, and print the warnings that come before any score."""
    from ambi_eval.harness.results import read_runs
    from ambi_eval.report.build import by_clips, notices
    from ambi_eval.report.verdict import warnings

    groups = by_clips([run for path in paths for run in read_runs(path)])
    told = (warnings(asked[0].task.selection.simulated, *notices(asked, {})) for asked in groups)
    for line in dict.fromkeys(chain.from_iterable(told)):
        typer.echo(line, err=True)
    return groups


def generalizability(runs: Runs, json_file: JsonFile = None) -> None:
    """Show how sure a ranking is: what scores vary with, and how many clips, wordings or seeds would make it sure."""
    from ambi_eval.report import ranking
    from ambi_eval.web.pages import write_json

    found = ranking.rankings(_tasks(runs))
    print_tables(ranking.in_terminal(found))
    if json_file is not None:
        write_json(found, json_file)


def budget(runs: Runs, json_file: JsonFile = None) -> None:
    """Show what quality costs (tokens, audio, FLOPs, time), which systems are best at it, and what more answers buy."""
    from ambi_eval.report import budget as of_budget
    from ambi_eval.report.systems import variants, without_copies
    from ambi_eval.web.pages import write_json

    found = {}
    for asked in _tasks(runs):
        corpus = asked[0].task.settings.clips_name
        found[corpus] = of_budget.budget(without_copies(variants(asked)))
        print_tables(of_budget.in_terminal(corpus, found[corpus]))
    if json_file is not None:
        write_json(found, json_file)
