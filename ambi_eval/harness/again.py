"""Asks a model about some clips of a task again, exactly as a run of the harness does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from ambi_eval.answers.candidate import Candidate
from ambi_eval.config.task_settings import TaskSettings
from ambi_eval.harness.task import AmbiguousEmotionTask
from ambi_eval.paths import tasks_dir


class Again(NamedTuple):
    """An answer that the model gave the second time, and the arguments of the request that it answers."""

    answer: Candidate
    arguments: tuple[Any, ...]


def load_task(name: str, overrides: Mapping[str, Any]) -> AmbiguousEmotionTask:
    """Return one of our tasks, without the index of the harness's thousands, which takes longer than a few answers."""
    tasks = TaskManager(include_path=str(tasks_dir()), include_defaults=False, metadata=dict(overrides))
    task: AmbiguousEmotionTask = tasks.load([name])["tasks"][name]
    return task


def answers_again(
    model: LM,
    task: AmbiguousEmotionTask,
    clips: Sequence[str],
    generation: Mapping[str, Any] | None,
    system_instruction: str | None,
) -> dict[str, list[Again]]:
    """Return the answers about some clips, by id, under a run's `--gen_kwargs` and `--system_instruction`."""
    results = simple_evaluate(
        model=model,
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        samples={task.config.task: sorted(task.rows[clip] for clip in clips)},
        gen_kwargs=dict(generation) if generation else None,
        system_instruction=system_instruction,
        apply_chat_template=True,  # as in every run of our models
        bootstrap_iters=0,
        log_samples=True,
    )
    assert results is not None, "there is one process"
    samples = results["samples"][task.config.task]
    return {sample["doc"]["id"]: _answers(sample, task.settings) for sample in samples}


def likelihoods_again(model: LM, asked: Sequence[tuple[tuple[Any, ...], Candidate]]) -> list[float]:
    """Return the log-likelihood (nats) of each answer to its request, the end of the turn included if it has one."""
    arguments = [
        (context, str(answer), {**more, "end_of_turn": answer.finish == "stop"}) for (context, _, more), answer in asked
    ]
    instances = [Instance("loglikelihood", {}, each, number) for number, each in enumerate(arguments)]
    return [likelihood for likelihood, _ in model.loglikelihood(instances, disable_tqdm=True)]


def _answers(sample: Mapping[str, Any], settings: TaskSettings) -> list[Again]:
    requests = list(zip(sample["resps"], sample["arguments"], strict=True))
    if settings.pool != "labels":
        return [Again(answer, arguments) for answers, arguments in requests for answer in answers]
    labels = settings.asked_labels
    return [
        Again(Candidate(labels[k % len(labels)], logprob=likelihood[0]), arguments)
        for k, ((likelihood,), arguments) in enumerate(requests)
    ]
