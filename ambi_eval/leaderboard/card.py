"""Scores for a model card, in the form of the Hugging Face Hub (`.eval_results` YAML)."""

from __future__ import annotations

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard.verify import Verdict
from ambi_eval.metrics import HEADLINE


def eval_results_yaml(verdict: Verdict, dataset: str) -> str:
    """Return the divergence of every task and pipeline as YAML for the folder `.eval_results/` of a model.

    `dataset` is the benchmark's repository on the Hub, whose `eval.yaml` names our tasks.

    Raises:
        AmbiError: If the submission did not pass.
    """
    if verdict.problems or verdict.card is None:
        raise AmbiError(f"{verdict.name} did not pass: {verdict.problems[0]}")
    entries = [
        EvalResultEntry(
            dataset_id=dataset,
            task_id=name,
            value=round(value, 6),
            date=verdict.card.date,
            notes=f"{HEADLINE} (0 is best), pipeline {pipeline}, N = {verdict.card.tasks[name].n}, {findings.status}",
        )
        for name, findings in verdict.tasks.items()
        for pipeline, claims in verdict.claims[name].items()
        if (value := claims.get(HEADLINE)) is not None
    ]
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
