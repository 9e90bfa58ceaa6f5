"""Runs of `lm_eval` in Python: `ambi_eval.load` reads them, `ambi_eval.evaluate` makes one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ambi_eval.analysis.systems import SystemScores, score_file
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.other_votes import target_votes
from ambi_eval.errors import counted
from ambi_eval.harness.evaluation import evaluate_tasks
from ambi_eval.harness.results import Run, TaskRun, read_runs
from ambi_eval.report import page, verdict
from ambi_eval.report.build import build, by_clips, notices
from ambi_eval.report.content import Content

logger = logging.getLogger(__name__)


class Runs:
    """Runs that were read from disk.

    Attributes:
        runs: Each results file with its tasks.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        """Keep the runs."""
        self.runs = list(runs)
        self._content: Content | None = None

    def __repr__(self) -> str:
        """Return the models and how many tasks each run has."""
        return f"Runs({', '.join(f'{run.model}: ' + counted(len(run.tasks), 'task') for run in self.runs)})"

    def to_pandas(self) -> pd.DataFrame:
        """Return one row for each clip of each system (a pipeline of a task of a run).

        The columns are `model`, `task`, `pipeline`, `control`, `id`, `speaker`, `votes` and `predicted` (a dict of
        label to number; `predicted` is None where no answer could be read), `answers` (a list of texts; for
        `exact`, of labels with their log-likelihoods), `tokens`, and each metric that the run logged, such as
        `jsd_bits`.
        """
        return pd.DataFrame([row for run in self.runs for task in run.tasks.values() for row in _rows(run, task)])

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the page that `ambi-eval report` writes, and return its path.

        Raises:
            AmbiError: If the file cannot be written.
        """
        page.write_page(self._built, Path(path))
        return Path(path)

    @property
    def verdict(self) -> str:
        """The sentences on top of the page."""
        return verdict.in_terminal(verdict.verdicts(self._built))

    @property
    def _built(self) -> Content:
        if self._content is None:
            self._content = build(self.runs)
        return self._content


def load(*paths: str | Path) -> Runs:
    """Return the runs that `lm_eval --log_samples --output_path` left in these folders, the newest of each.

    What a run has warned of is logged as a warning, with its file: another model that answered, missing clips, cut
    audio, equal answers.

    Raises:
        AmbiError: If a folder holds no run of our tasks, or a broken one.

    Example:
        >>> runs = load("runs/demo")  # doctest: +SKIP
        >>> runs.to_pandas().groupby(["task", "pipeline"])["jsd_bits"].mean()  # doctest: +SKIP
    """
    runs = [run for path in paths for run in read_runs(Path(path))]
    for run in runs:
        told = chain.from_iterable(chain(*notices(asked, {})) for asked in by_clips([run]))
        for sentence in dict.fromkeys(told):
            logger.warning("%s: %s", run.file, sentence)
    return Runs(runs)


def evaluate(
    model: str,
    tasks: str | Sequence[str],
    model_args: str | Mapping[str, Any] | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    output_path: str | Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Evaluate a model and return the harness's results: `lm_eval.simple_evaluate` with our tasks in it.

    Args:
        model: `hf-audio`, `openai-audio`, or any other model of the harness.
        tasks: One or several tasks, groups or tags, such as `ambi_demo_sc`.
        model_args: As `--model_args`.
        metadata: As `--metadata`: `{"control": "silence"}`, for example.
        output_path: The folder to write results and samples to, for `load`; None writes nothing.
        options: Further arguments of `lm_eval.simple_evaluate`: `limit`, `batch_size`, `gen_kwargs` ...

    Returns:
        With `results` (scores by task), `samples` (what the harness logs of each clip) and `configs`.

    Raises:
        AmbiError: For a mistake in what is asked for, before the model is loaded.
    """
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    return evaluate_tasks(model, names, model_args or "", metadata or {}, output_path, options)


def score(
    predictions: str | Path | Mapping[str, Mapping[str, float] | None],
    corpus: str,
    *,
    allow_partial: bool = False,
    acoustic: bool = False,
) -> SystemScores:
    """Return the scores of any system's predictions, with the references beside them, as `ambi-eval score` does.

    Args:
        predictions: By clip id, a share for each label (None: no valid answer); or the path of a file of them.
        corpus: A corpus of ours, or the path of a task's YAML.
        allow_partial: Whether to score what is there if clips are missing or unknown.
        acoustic: Whether to listen to the clips for the acoustic reference.

    Raises:
        AmbiError: If the predictions or the corpus cannot be read, or do not fit each other.

    Example:
        >>> score({"clip_1": {"sad": 1.0}}, "crema_d").overall["jsd_bits"].value  # doctest: +SKIP
    """
    settings = load_corpus(corpus)
    given = Path(predictions) if isinstance(predictions, str | Path) else predictions
    return score_file(given, target_votes(settings), settings, allow_partial=allow_partial, acoustic=acoustic)


def _rows(run: Run, task: TaskRun) -> Iterator[dict[str, Any]]:
    labels = task.settings.labels
    for pipeline in task.pipelines.values():
        for number, clip in enumerate(task.selection.clips):
            p = pipeline.p[number]
            yield {
                "model": run.full_name,  # two checkpoints may be in folders of one name
                "task": task.name,
                "pipeline": pipeline.name,
                "control": task.settings.control,
                "id": clip.id,
                "speaker": clip.speaker,
                "votes": dict(zip(labels, task.votes[number].tolist(), strict=True)),
                "predicted": None if np.isnan(p).any() else dict(zip(labels, p.tolist(), strict=True)),
                "answers": task.shown_answers(number),
                "tokens": task.tokens[number],
                **({"thinking_tokens": task.thinking[number]} if task.thinking.any() else {}),
                **{name: values[number] for name, values in sorted(pipeline.logged.items())},
            }
