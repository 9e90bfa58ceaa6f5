"""Makes the harness's requests about a clip: for answers, or for the likelihoods of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance

from ambi_eval.config.task_settings import READING_KEYS, TaskSettings

Audio = Mapping[str, Any]  # an `AudioSpan`: path, start, end and control


class Documents(list[dict[str, Any]]):
    """The documents of a task; iteration gives copies, because the harness may write into them.

    It is no `datasets.Dataset`, because to iterate over one takes longer than to score the clips.
    """

    features: Mapping[str, Any] = {"id": None, "audio": None}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield a copy of each document."""
        return map(dict, super().__iter__())


def generation_requests(
    settings: TaskSettings,
    doc: dict[str, Any],
    contexts: Sequence[str],
    kwargs: Mapping[str, Any],
    rating: Mapping[str, Any] | None,
    metadata: Any,
) -> list[Instance]:
    """Return one request for each prompt about a clip; the harness clones each `repeats` times.

    `contexts` are the prompts with the texts that the harness puts around them, `kwargs` the generation settings after
    `--gen_kwargs`; `rating` holds the verifier's prompt and the possible ratings.
    """
    wanted: dict[str, Any] = {"audio": heard(doc)}
    if rating:
        wanted["verifier"] = rating
    if rule := settings.stop_rule:
        wanted["stop_rule"] = {**rule.model_dump(), **{key: getattr(settings, key) for key in READING_KEYS}}
    asked = [(context, kwargs, wanted) for context in contexts]
    return [Instance("generate_until", doc, each, number, metadata) for number, each in enumerate(asked)]


def likelihood_requests(
    settings: TaskSettings, doc: dict[str, Any], contexts: Sequence[str], silence: Audio | None, metadata: Any
) -> list[Instance]:
    """Return one request for each prompt about a clip and each label; calibration adds the same for `silence`.

    The silence is the same for all clips, so that its likelihoods are computed once.
    """
    spans = [heard(doc)]
    if settings.calibration == "silence":
        spans.append([*doc.get("before", ()), silence] if silence and doc["audio"] else [])
    wanted = [(context, {"audio": span, "end_of_turn": True}) for span in spans for context in contexts]
    asked = [(context, label, more) for context, more in wanted for label in settings.asked_labels]
    return [Instance("loglikelihood", doc, each, number, metadata) for number, each in enumerate(asked)]


def heard(doc: Mapping[str, Any]) -> list[Audio]:
    """Return what the model hears: the examples before the clip, and the clip; nothing under `control: transcript`."""
    return [*doc.get("before", ()), doc["audio"]] if doc["audio"] else []
