"""Makes a submission from the output folder of a run, with the publishable part of its content only."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ambi_eval.config.task_settings import OVERRIDES
from ambi_eval.engines.base import find_engine
from ambi_eval.errors import AmbiError
from ambi_eval.harness.results import Run, TaskRun, logged_answers, read_runs
from ambi_eval.leaderboard.rescore import task_settings
from ambi_eval.leaderboard.schema import CARD, FOLDER, LONGEST_LINE, Claims, check
from ambi_eval.leaderboard.submission import Pools, write_submission
from ambi_eval.leaderboard.untrusted import printable
from ambi_eval.leaderboard.verify import verify
from ambi_eval.report.build import by_clips, notices


@dataclass(frozen=True)
class Statement:
    """What only the submitter knows, as in `schema.Card`; hardware None stands for what the harness noted."""

    name: str
    license: str
    contact: str
    training_data: Mapping[str, str]
    parameters: int | None = None
    hardware: str | None = None


def pack(path: Path, statement: Statement, out: Path) -> None:
    """Write the submission of one run (its output folder or results file) into `<date>_<model>`, and verify it.

    Raises:
        AmbiError: If the run is damaged or partial, if there are several, if the statement lacks a corpus, or if
            `verify` refuses the submission, which is then deleted.
    """
    if not FOLDER.fullmatch(out.name):
        raise AmbiError(f"{out}: a submission's folder is named <date>_<model>, such as 2026-01-31_qwen2-audio.")
    runs = read_runs(path)
    if len(runs) > 1:
        files = ", ".join(str(run.file) for run in runs[:3])
        raise AmbiError(f"{path} holds {len(runs)} runs: name the results file of one of them ({files} ...).")
    (run,) = runs
    corpora = {task_settings(name).corpus for name in run.tasks}  # refuses tasks that are not ours
    if missing := corpora - statement.training_data.keys():
        raise AmbiError(
            f"say whether the model may have seen {sorted(missing)[0]} in training: "
            f'--training-data {sorted(missing)[0]}="..." (and so for each corpus of the run).'
        )
    claims: Claims = {name: _claims(run.results["results"][name]) for name in run.tasks}
    pools = {name: _pools(run, task) for name, task in run.tasks.items()}
    write_submission(out, check(CARD, _card(run, statement, pools), "the run"), claims, pools)
    verdict = verify(out)
    if verdict.problems:
        shutil.rmtree(out)
        raise AmbiError(f"{path} cannot be submitted, {out} is not written: {verdict.problems[0]}")


def _card(run: Run, statement: Statement, pools: Mapping[str, Pools]) -> dict[str, Any]:
    results, config = run.results, run.results["config"]
    about = config.get("ambi", {})
    others: list[str] = []
    warned = {}
    for asked in chain.from_iterable(by_clips([run])):
        partial, others, cautions = notices([asked], {})
        warned[asked.task.name] = [*partial, *cautions]
    published = find_engine(config["model"]).Arguments.published()
    arguments = {key: value for key, value in (config.get("model_args") or {}).items() if key in published}
    versions = {"lm_eval": results["lm_eval_version"], **about.get("versions", {})}
    tokens = np.sum([task.tokens.sum() for task in run.tasks.values()])
    return {
        "format": 1,
        "name": statement.name,
        "date": datetime.fromtimestamp(results["date"], tz=timezone.utc).strftime("%Y-%m-%d"),
        "model": {
            "id": run.model,
            "revision": arguments.get("revision"),
            "digest": about.get("model_digest"),
            "parameters": statement.parameters,
            "licence": statement.license,
        },
        "backend": {
            "name": config["model"],
            "arguments": arguments,
            "dtype": about.get("dtype"),
            "device": about.get("device"),
            "versions": versions,
            "sampling": about.get("sampling"),
            **({"other_models": _lines(others)} if others else {}),
        },
        "system_instruction": results.get("system_instruction"),
        "tasks": {
            name: {
                "strategy": task.settings.strategy,
                "n": max(map(len, pools[name].values())),
                "overrides": {key: value for key, value in task.settings.metadata.items() if key in OVERRIDES},
                "generation": task.settings.generation_kwargs,
                **({"notices": _lines(warned[name])} if warned[name] else {}),
            }
            for name, task in run.tasks.items()
        },
        "seeds": {
            **{name: config.get(f"{name}_seed") for name in ("random", "numpy", "torch", "fewshot")},
            "sampling": about.get("seed"),
        },
        "hardware": statement.hardware or _hardware(results.get("pretty_env_info", "")),
        "wall_seconds": float(results["total_evaluation_time_seconds"]),
        "tokens": int(tokens) if np.isfinite(tokens) else None,
        "contact": statement.contact,
        "training_data": dict(statement.training_data),
    }


def _lines(sentences: Sequence[str]) -> list[str]:
    """Return sentences as a card takes them; the end of a longer one is left out."""
    return [printable(each if len(each) <= LONGEST_LINE else f"{each:.{LONGEST_LINE - 1}}…") for each in sentences]


def _hardware(environment: str) -> str:
    """Return the GPUs in the harness's description of the machine, or the processor if there are none."""
    gpus = re.findall(r"^GPU \d+: (.+)$", environment, re.MULTILINE)
    if gpus:
        return ", ".join(f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus))
    processor = re.search(r"^(?:Model name|Name): *(.+)$", environment, re.MULTILINE)
    cores = re.search(r"^CPU\(s\): *(\d+)$", environment, re.MULTILINE)
    return f"CPU {processor[1].strip()}" + (f", {cores[1]} cores" if cores else "") if processor else "not noted"


def _claims(results: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    claims: dict[str, dict[str, float | None]] = {}
    for key, value in results.items():
        metric, comma, pipeline = key.partition(",")
        if comma and isinstance(value, int | float):
            claims.setdefault(pipeline, {})[metric] = float(value) if np.isfinite(value) else None
    return claims


def _pools(run: Run, task: TaskRun) -> Pools:
    """Return the answers about each clip, with all that is logged about them."""
    path = run.file.with_name(f"samples_{task.name}_{run.file.stem.removeprefix('results_')}.jsonl")
    first, pools = next(iter(task.pipelines)), {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            sample = json.loads(line)
            if sample["filter"] == first:
                pools[sample["doc"]["id"]] = logged_answers(sample, task.settings)
    return pools
