"""Turns the harness's requests into questions and jobs."""

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
    """Return one question for each different request to generate, with its positions in the list of requests.

    The repeats of a request are the same object several times in the list.
    """
    positions: dict[int, list[int]] = {}
    for position, request in enumerate(requests):
        positions.setdefault(id(request), []).append(position)
    questions = {_question(requests[each[0]], len(each)): each for each in positions.values()}
    _check_audios(list(questions))
    return questions


def shared_prompts(requests: Sequence[Instance]) -> dict[Job, list[int]]:
    """Return one job for all likelihood requests about the same prompt, with their positions among the requests."""
    positions: dict[tuple[str, tuple[AudioSpan, ...]], list[int]] = {}
    for position, request in enumerate(requests):
        positions.setdefault((request.args[0], _spans(request)), []).append(position)
    jobs = {}
    for (prompt, spans), each in positions.items():
        wanted = [(requests[k].args[1], bool(_multimodal(requests[k]).get("end_of_turn"))) for k in each]
        jobs[Job(prompt, spans, continuations=wanted, task=str(requests[each[0]].task_name))] = each
    _check_audios(list(jobs))
    return jobs


def _question(request: Instance, clones: int) -> Question:
    settings = GenerationSettings.read(request.args[1], "generation_kwargs")
    # In a data-parallel run the harness adds clones, so that all processes have equally many requests.
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


def _spans(request: Instance) -> tuple[AudioSpan, ...]:
    return tuple(AudioSpan.from_dict(audio) for audio in _multimodal(request).get("audio", ()))


def _multimodal(request: Instance) -> dict[str, Any]:
    """Return the audio and the options of a request; requests of other tasks have none."""
    return request.args[2] if len(request.args) > 2 else {}


def _check_audios(asked: Sequence[Question | Job]) -> None:
    for each in asked:
        marks = each.prompt.count(AUDIO_MARK)
        if marks != len(each.spans):
            fix = f"write {AUDIO_MARK} in doc_to_text at the place of each audio"
            raise AmbiError(f"{each.task}: {marks} {AUDIO_MARK} in a prompt with {len(each.spans)} audios; {fix}")
    check_files_exist(span for each in asked for span in each.spans)
