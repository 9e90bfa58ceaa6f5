"""Selects the clips of a task from a manifest, with their votes over the task's labels and what the model hears."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ambi_eval.config.corpus_settings import CorpusSettings
from ambi_eval.config.load import beside
from ambi_eval.corpora.conflict import conflicting
from ambi_eval.corpora.few_shot import with_examples
from ambi_eval.corpora.manifest import Clip, Manifest, Rating, read_manifest
from ambi_eval.corpora.pairs import matched_pairs
from ambi_eval.corpora.registry import ensure_manifest
from ambi_eval.corpora.selection import Heard, Selection
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.metrics.clustered import UNKNOWN
from ambi_eval.votes import panel_of, select_labels

# Least similarity (`difflib`) of two spellings of one word, such as `surprise` and `surprised`.
SAME_WORD = 0.85


def corpus_clips(settings: CorpusSettings) -> Manifest:
    """Return the clips of the manifest that the settings name: a corpus, or a file beside the task's YAML."""
    name = settings.manifest
    is_file = Path(name).suffix != ""
    return read_manifest(beside(settings.source, name) if is_file else ensure_manifest(name))


def select(settings: CorpusSettings, clips: Iterable[Clip], *, hear: bool = True) -> Selection:
    """Return the clips that a task asks about.

    A model will hear them, unless `hear` is False, which keeps clips without audio, for work on the votes alone.

    Raises:
        AmbiError: If no clip is left, or the control needs a column that the manifest does not fill.
    """
    whole = clips if isinstance(clips, Manifest) else Manifest(clips)
    clips = _part(settings, whole)
    is_whole = len(clips) == len(whole)
    left_out: Counter[str] = Counter({f"outside {settings.clips_name}": len(whole) - len(clips)})
    if settings.target != "votes":
        rated = _rated(settings, clips)
        left_out[f"no rating of {settings.target}"] = len(clips) - len(rated)
        clips = rated
    kept: list[tuple[Clip, NDArray[np.float64] | None]] = []  # a clip whose votes are withheld has none
    shared = _shared_key(settings, clips) if hear else None
    for clip in clips:
        votes = select_labels(clip.votes, settings.vote_labels, settings.merge, settings.outside)
        if votes is None and clip.votes_hash is None:
            left_out["votes outside the labels"] += 1
        elif votes is None and (settings.pairs or settings.shots):  # their prompts depend on the votes
            left_out["votes are withheld"] += 1
        elif hear and clip.audio is None and settings.control != "transcript":
            left_out["no audio"] += 1
        elif hear and settings.reads_transcript and not clip.transcript:
            left_out["no transcript"] += 1
        elif shared and getattr(clip, shared) is None:
            left_out[f"unknown {shared}"] += 1
        else:
            kept.append((clip, votes))
    if settings.items == "conflict" and kept:
        numbers, others = conflicting([clip for clip, _ in kept], np.array([votes for _, votes in kept]))
        left_out += others
        kept = [kept[number] for number in numbers]
    heard = _heard([clip for clip, _ in kept], settings.control) if hear else {}
    if hear:
        left_out["no other clip to hear instead"] = sum(clip.id not in heard for clip, _ in kept)
        kept = [(clip, votes) for clip, votes in kept if clip.id in heard]
    scored = [(clip, votes) for clip, votes in kept if votes is not None]
    if not scored:
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
        voted = sorted({label for clip in whole for label, count in clip.votes.items() if count})
        none = f"no clip of the manifest '{settings.manifest}' is left ({why})"
        raise AmbiError(f"{settings.task}: {none}; its votes are for {', '.join(voted):.200}")
    selection = Selection(
        clips=[clip for clip, _ in scored],
        votes=np.array([votes for _, votes in scored]),
        clusters=_clusters([clip for clip, _ in scored], settings.cluster),
        heard=[heard.get(clip.id) for clip, _ in scored],
        left_out={reason: count for reason, count in left_out.items() if count},
        panels=[
            panel_of(votes, [rating.labels for rating in clip.ratings], settings.vote_labels, settings.merge)
            if clip.ratings or whole.about.get("single_raters", True)
            else None
            for clip, votes in scored
        ],
        # The part to which a skipped clip belongs is unknown.
        corpus_size=len(clips) + (sum(whole.about.get("skipped", {}).values()) if is_whole else 0),
        lost_votes=_lost_votes(settings, clips),
        raters=whole.about.get("raters", {}),
        unchanged=[] if settings.control == "none" else [_span(clip) for clip, _ in scored],
        withheld=[(clip, heard.get(clip.id)) for clip, votes in kept if votes is None],
    )
    if settings.pairs is not None:
        return matched_pairs(settings, selection)
    return selection if settings.shots is None else with_examples(settings, selection)


def _part(settings: CorpusSettings, clips: Manifest) -> list[Clip]:
    """Return the clips of the split, session and fold that the settings name; all clips where they name none."""
    kept = list(clips)
    if settings.split is not None:
        kept = _having(settings, "split", settings.split, [(clip, clip.split) for clip in kept])
    if settings.session is not None:
        wanted = settings.session
        # `5` is the session `Ses05`: only the digits at the end of the name count.
        sessions = [(clip, _figures(clip.session) if isinstance(wanted, int) else clip.session) for clip in kept]
        kept = _having(settings, "session", wanted, sessions)
    if settings.fold is not None:
        partition, _, part = settings.fold.partition(".")
        folds = [(clip, f"{partition}.{clip.folds[partition]}") for clip in kept if partition in clip.folds]
        known = folds or [(clip, f"{name}.{each}") for clip in kept for name, each in clip.folds.items()]
        kept = _having(settings, "fold", f"{partition}.{part}", known)
    return kept


def _rated(settings: CorpusSettings, clips: Iterable[Clip]) -> list[Clip]:
    """Return the clips with votes for the levels of a rated number, such as arousal, instead of votes for emotions."""
    rated = []
    for clip in clips:
        numbers = [(rating.rater, getattr(rating, settings.target)) for rating in clip.ratings]
        panel = [Rating(rater, (settings.label_of(number),)) for rater, number in numbers if number is not None]
        if panel:
            votes = {label: float(count) for label, count in Counter(rating.labels[0] for rating in panel).items()}
            rated.append(replace(clip, votes=votes, ratings=tuple(panel)))
    if not rated:
        where = f"{settings.task}: no single rating in the manifest '{settings.manifest}'"
        raise AmbiError(f"{where} states the {settings.target}: take another target")
    return rated


def _figures(session: str | None) -> int | None:
    figures = re.search(r"\d+$", session or "")
    return int(figures[0]) if figures else None


def _having(settings: CorpusSettings, key: str, wanted: object, values: Sequence[tuple[Clip, object]]) -> list[Clip]:
    kept = [clip for clip, value in values if value == wanted]
    if not kept:
        known = sorted({str(value) for _, value in values if value is not None})
        hint = did_you_mean(str(wanted), known)
        there = f"there are: {', '.join(known)}" if known else f"no clip says its {key}"
        none = f"no clip of the manifest '{settings.manifest}' has the {key} '{wanted}'"
        raise AmbiError(f"{settings.task}: {none}{hint} ({there})")
    return kept


def _lost_votes(settings: CorpusSettings, clips: Iterable[Clip]) -> list[str]:
    labels, merge = settings.vote_labels, settings.merge
    votes: Counter[str] = Counter()
    for clip in clips:
        votes.update(clip.votes)
    voted = {label: count for label, count in votes.items() if count > 0}
    counted = {merge.get(label, label) for label in voted}
    unvoted = [label for label in labels if label not in counted]
    idle = [label for label in merge if label not in voted]
    hints = {label: _same_word(label, labels) for label in sorted(voted.keys() - labels - merge.keys())}
    return [
        *(f"nobody voted for the label '{label}'{_same_word(label, voted)}" for label in unvoted),
        *(f"merge names '{label}', which nobody voted for{_same_word(label, voted)}" for label in idle),
        *(
            f"outside the labels: {voted[label]:,.10g} of the votes, for '{label}'{hint}"
            for label, hint in hints.items()
            if hint
        ),
    ]


def _same_word(label: str, known: Iterable[str]) -> str:
    """Return a did-you-mean if a known label is another spelling of this one, else an empty string."""
    plain = {other.strip().lower(): other for other in known if other != label}
    near = get_close_matches(label.strip().lower(), plain, n=1, cutoff=SAME_WORD)
    return f", did you mean '{plain[near[0]]}'?" if near else ""


def _shared_key(settings: CorpusSettings, clips: Iterable[Clip]) -> str | None:
    """Return the attribute that a clip and its substitute under the task's control must share, None without one."""
    control = settings.control
    if not control.startswith("shuffle_same_"):
        return None
    key = control.removeprefix("shuffle_same_")
    if all(getattr(clip, key) is None for clip in clips):
        unknown = f"the {key} of the clips, which the manifest '{settings.manifest}' does not know"
        raise AmbiError(f"{settings.task}: control={control} needs {unknown}; use control=shuffle")
    return str(key)


def _clusters(clips: Sequence[Clip], key: str) -> list[str]:
    """Return the cluster of each clip: a value that clips share if they depend on each other.

    This is the speaker or session, as the task says. If it is unknown, it is the dialogue, or the audio file if several
    clips are cut from it. Other clips are `UNKNOWN`: they may depend on any clip, so error bars ignore them. If nothing
    is known about any clip, each clip is its own cluster.
    """
    uses = Counter(clip.audio for clip in clips if clip.audio)
    clusters = []
    for clip in clips:
        file = f"file {clip.audio}" if clip.audio and uses[clip.audio] > 1 else None
        dialogue = f"dialogue {clip.dialogue}" if clip.dialogue else None
        clusters.append(getattr(clip, key) or dialogue or file or UNKNOWN)
    return [clip.id for clip in clips] if set(clusters) == {UNKNOWN} else clusters


def _heard(clips: Sequence[Clip], control: str) -> dict[str, Heard | None]:
    """Return what the model hears of each clip, by clip id; clips without a possible substitute are missing."""
    if control == "transcript":
        return dict.fromkeys((clip.id for clip in clips), None)
    if control.startswith("shuffle"):
        return {clip_id: _span(other) for clip_id, other in _others(clips, control).items()}
    signal = None if control == "none" else control
    return {clip.id: _span(clip, signal) for clip in clips}


def _span(clip: Clip, control: str | None = None) -> Heard:
    return {"path": clip.audio, "start": clip.start, "end": clip.end, "control": control}


def _others(clips: Sequence[Clip], control: str) -> dict[str, Clip]:
    """Return for each clip another clip of its group: the next one in a random circle through the group.

    The circle depends on the ids alone, so it is the same in every run. A group of one clip is left out.
    """
    groups: defaultdict[Any, list[Clip]] = defaultdict(list)
    key = control.removeprefix("shuffle").removeprefix("_same_")
    for clip in clips:
        groups[getattr(clip, key) if key else None].append(clip)
    others = {}
    for group in groups.values():
        if len(group) > 1:
            group.sort(key=lambda clip: clip.id)
            circle = np.random.default_rng(len(group)).permutation(len(group))
            for here, there in zip(circle, np.roll(circle, 1), strict=True):
                others[group[here].id] = group[there]
    return others
