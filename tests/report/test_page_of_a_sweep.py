"""The page of a whole sweep: every strategy with its control, the sampled ones under two seeds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ambi_eval.harness.results import read_runs
from ambi_eval.report.build import build
from ambi_eval.report.page import write_page

pytestmark = pytest.mark.slow

SAMPLED = ("sc", "sc_shares", "asc")
STRATEGIES = ("direct", "cot", "bon", "wbon", "almv", "walmv", *SAMPLED, "ens", "exact")


@pytest.fixture(scope="module")
def section_and_file(corpus, lm_eval, tmp_path_factory):
    """The section and the page of 28 runs, those of grids/demo.yaml, made of one run of every strategy.

    A control hears another clip: it has the answers to that clip. Every prediction is moved a little, so that no two
    pipelines and no two seeds predict the same.
    """
    folder = tmp_path_factory.mktemp("sweep")
    for strategy in STRATEGIES:
        text = (corpus / "mine_sc.yaml").read_text().replace("strategy: sc", f"strategy: {strategy}")
        (corpus / f"every_{strategy}.yaml").write_text(text.replace("task: mine_sc", f"task: every_{strategy}"))
    (run,) = read_runs(lm_eval(folder, 0.8, "m", tasks=[f"every_{strategy}" for strategy in STRATEGIES]))
    cells = [
        cell(run, f"every_{strategy}", seed, control)
        for strategy in STRATEGIES
        for seed in ((0, 1) if strategy in SAMPLED else (0,))
        for control in ("none", "shuffle")
    ]
    assert len(cells) == 28
    content = build(cells)
    write_page(content, folder / "report.html")
    return content.sections[0], folder / "report.html"


def cell(run, name, seed, control):
    """The run with one task, as if the model had drawn with a seed and heard what a control plays."""
    task = run.tasks[name]
    clips, labels = task.votes.shape
    heard = np.roll(np.arange(clips), 7 if control == "shuffle" else 0)
    pipelines = {}
    for key, pipeline in task.pipelines.items():
        moved = np.random.default_rng([seed, *f"{name} {key}".encode()]).dirichlet(np.ones(labels), clips)
        pipelines[key] = replace(pipeline, p=0.9 * pipeline.p[heard] + 0.1 * moved[heard])
    task = replace(
        task,
        settings=task.settings.model_copy(update={"control": control}),
        pipelines=pipelines,
        texts=[task.texts[clip] for clip in heard],
    )
    config = {**run.results["config"], "ambi": {"seed": seed, "model_digest": "d", "dtype": "float32"}}
    results = {**run.results, "config": config, "configs": {name: run.results["configs"][name]}}
    return replace(run, results=results, tasks={name: task})


def test_seeds_and_controls_are_no_systems(section_and_file):
    section, _ = section_and_file
    assert {system.name.split()[0] for system in section.systems} == set(STRATEGIES)
    assert len({system.name for system in section.systems}) == len(section.systems) == 20, "each pipeline once"
    assert {control.strategy for control in section.controls} == {system.name for system in section.systems}
    for system in section.systems:
        assert system.seeds == ([0, 1] if system.name.split()[0] in SAMPLED else [0])


def test_the_page_is_small(section_and_file):
    assert section_and_file[1].stat().st_size < 3_000_000


@pytest.mark.parametrize("width", [1400, 390])
def test_the_clips_come_within_twelve_screens_at_most(browser, section_and_file, width):
    browser.open(Path(section_and_file[1]), width)
    assert browser.js("return document.querySelector('#table1').getBoundingClientRect().top") < 12 * 900
    assert browser.js("return document.documentElement.scrollWidth <= window.innerWidth")
