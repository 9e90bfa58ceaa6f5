"""From the harness's requests to questions and jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.api.instance import Instance

from ambi_eval.audio import AudioSpan, check_files_exist
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.config.prompts import AUDIO_MARK
from ambi_eval.engines.base import Job
from ambi_eval.errors import AmbiError
from ambi_eval.inference.question import Question, RatingScale
from ambi_eval.inference.stopping import StopRule


def asked_questions(requests: Sequence[Instance]) -> dict[Question, list[int]]:
    """Return one question for each request to generate, with the positions of its answers in the list of requests.

    The repeats of a request are the same object, as the harness clones it.

    Raises:
        AmbiError: If an audio is missing, `<audio>` is not in the prompt once for each, or the settings are impossible.
    """
    positions: dict[int, list[int]] = {}
    for position, request in enumerate(requests):
        positions.setdefault(id(request), []).append(position)
    questions = {_question(requests[each[0]], len(each)): each for each in positions.values()}
    _check_audios(list(questions))
    return questions


def shared_prompts(requests: Sequence[Instance]) -> dict[Job, list[int]]:
    """Return one job for all requests that score continuations of the same prompt, with their positions in the list.

    Raises:
        AmbiError: If an audio is missing, or `<audio>` is not in the prompt once for each.
    """
    positions: dict[tuple[str, tuple[AudioSpan, ...]], list[int]] = {}
    for position, request in enumerate(requests):
        positions.setdefault((request.args[0], _spans(request)), []).append(position)
    jobs = {
        Job(
            prompt,
            spans,
            continuations=[_continuation(requests[position]) for position in each],
            task=str(requests[each[0]].task_name),
        ): each
        for (prompt, spans), each in positions.items()
    }
    _check_audios(list(jobs))
    return jobs


def _question(request: Instance, clones: int) -> Question:
    settings = GenerationSettings.from_kwargs(request.args[1])
    # Padding of data-parallel runs adds clones.
    size, task = min(request.repeats or 1, clones), str(request.task_name)
    if 1 < settings.num_beams < size:
        raise AmbiError(f"{task}: {size} repeats of {settings.num_beams} beams; give num_beams of at least repeats")
    more = _multimodal(request)
    verifier, rule = more.get("verifier"), more.get("stop_rule")
    return Question(
        request.args[0],
        _spans(request),
        settings,
        size,
        RatingScale(verifier["prompt"], tuple(verifier["ratings"])) if verifier else None,
        StopRule.from_dict(**rule) if rule else None,
        task,
    )


def _continuation(request: Instance) -> tuple[str, bool]:
    """Return the text whose likelihood is wanted, and whether the model must end its turn after it."""
    return request.args[1], bool(_multimodal(request).get("end_of_turn"))


def _spans(request: Instance) -> tuple[AudioSpan, ...]:
    return tuple(AudioSpan.from_dict(audio) for audio in _multimodal(request).get("audio", ()))


def _multimodal(request: Instance) -> dict[str, Any]:
    """Return what a request holds besides text; a control may have nothing."""
    return request.args[2] if len(request.args) > 2 else {}


def _check_audios(asked: Sequence[Question | Job]) -> None:
    for each in asked:
        marks = each.prompt.count(AUDIO_MARK)
        if marks != len(each.spans):
            raise AmbiError(
                f"{each.task}: {marks} {AUDIO_MARK} in a prompt with {len(each.spans)} audios; write {AUDIO_MARK} in "
                f"doc_to_text where each audio goes"
            )
    check_files_exist(span for each in asked for span in each.spans)
