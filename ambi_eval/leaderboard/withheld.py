"""Clips with withheld votes: the only defense against models that know the votes of a public corpus."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ambi_eval.corpora.manifest import ANOTHER_FOLDER, Clip, Manifest, read_manifest, write_manifest
from ambi_eval.corpora.select import corpus_clips
from ambi_eval.errors import AmbiError, counted
from ambi_eval.leaderboard.rescore import Overrides, new_scoring_task
from ambi_eval.leaderboard.submission import Pools
from ambi_eval.metrics import HEADLINE
from ambi_eval.paths import writing

PUBLIC, PRIVATE = "manifest.parquet", "private.jsonl"
# A difference of this many standard errors between the two halves is no chance.
SUSPICIOUS = 3.0


class Withheld(BaseModel):
    """The votes of one clip, and the salt of their hash: without a salt, anyone could try all votes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    votes: Annotated[dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]], Field(min_length=1)]
    salt: Annotated[str, Field(min_length=32)]

    @property
    def hash(self) -> str:
        """SHA-256 of salt, id and votes, in hexadecimal."""
        content = json.dumps([self.salt, self.id, {label: float(count) for label, count in self.votes.items()}])
        return hashlib.sha256(content.encode()).hexdigest()


def withhold(path: Path, out: Path, seed: int) -> tuple[int, int]:
    """Write a manifest without the votes of half of its speakers, and these votes in a separate file.

    The seed chooses the speakers; a clip without a speaker counts as its own speaker. The folder `out` gets
    `manifest.parquet`, which may be published, and `private.jsonl`, which must not. The new manifest replaces the whole
    one: its audio paths start at the whole one's folder. Return the numbers of clips with votes and without.

    Raises:
        AmbiError: If the manifest cannot be read, withholds votes already, or has one speaker, or if one of the two
            files is there already.
    """
    for file in (out / PUBLIC, out / PRIVATE):
        if file.exists():
            raise AmbiError(f"{file} is there already: name another folder, or delete it first.")
    clips = read_manifest(path)
    if any(clip.votes_hash for clip in clips):
        raise AmbiError(f"{path} withholds votes already: give the whole manifest.")
    speakers = sorted({_speaker(clip) for clip in clips})
    if len(speakers) < 2:
        raise AmbiError(f"{path} has one speaker: votes are withheld of half of the speakers, so give two at least.")
    chosen = {speakers[number] for number in np.random.default_rng(seed).permutation(len(speakers))[::2]}
    private = {
        clip.id: Withheld(id=clip.id, votes=clip.votes, salt=secrets.token_hex(32))
        for clip in clips
        if _speaker(clip) in chosen
    }
    public = [_without_votes(clip, private[clip.id]) if clip.id in private else clip for clip in clips]
    folder = path.absolute().parent
    public = [replace(clip, audio=clip.audio and os.path.relpath(clip.audio, folder)) for clip in public]
    with writing(out / PRIVATE, ANOTHER_FOLDER) as unfinished:
        unfinished.touch(mode=0o600)
        unfinished.write_text("".join(f"{each.model_dump_json()}\n" for each in private.values()), encoding="utf-8")
    write_manifest(out / PUBLIC, public, clips.about)
    return len(clips) - len(private), len(private)


def read_withheld(path: Path) -> dict[str, Withheld]:
    """Return the withheld votes of a `private.jsonl`, by clip.

    Raises:
        AmbiError: If it cannot be read, or a line is no votes of a clip.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AmbiError(f"{path} cannot be read ({error}): give the {PRIVATE} that `withhold` wrote.") from error
    found = {}
    if not lines:
        raise AmbiError(f"{path} is empty: give the {PRIVATE} that `withhold` wrote.")
    for number, line in enumerate(lines, start=1):
        try:
            each = Withheld.model_validate_json(line)
        except ValidationError as error:
            what = f"{path}, line {number}: {error.errors(include_url=False)[0]['msg']}"
            raise AmbiError(f"{what}: give the {PRIVATE} that `withhold` wrote.") from error
        found[each.id] = each
    return found


@dataclass(frozen=True)
class HalfScores:
    """`jsd_bits` of one pipeline with its clustered standard error: on the clips with withheld votes, and on others."""

    pipeline: str
    clips: int
    withheld: float
    withheld_stderr: float
    shown: float
    shown_stderr: float

    def __str__(self) -> str:
        """Return a sentence that says whether the scores differ between public and withheld votes."""
        error = math.hypot(self.withheld_stderr, self.shown_stderr)
        better = self.withheld - self.shown
        said = (
            f"{self.pipeline}: {HEADLINE} {self.withheld:.4f} on {counted(self.clips, 'clip')} with withheld votes, "
            f"{self.shown:.4f} on the others"
        )
        if better > SUSPICIOUS * error:
            return f"{said}; better by {better / error:.1f} standard errors where the votes are public"
        return said


def score_withheld(
    name: str, overrides: Overrides, pools: Pools, private: Mapping[str, Withheld], file: Path
) -> list[HalfScores]:
    """Return the scores of one task on its clips with withheld votes, by pipeline; none if it has no such clips.

    Raises:
        AmbiError: If votes are missing, or do not match the hash in the manifest.
    """
    task = new_scoring_task(name, overrides)
    hashes = {clip.id: clip.votes_hash for clip, _ in task.selection.withheld}
    if not hashes:
        return []
    for clip, expected in hashes.items():
        if clip not in private:
            raise AmbiError(f"{file} lacks the votes of the clip '{clip}' of {name}.")
        if private[clip].hash != expected:
            raise AmbiError(f"{file}: the votes of the clip '{clip}' are not those that its votes_hash stands for.")
    whole = corpus_clips(task.settings)
    shown = task.score_answers(pools)
    task.select(
        Manifest(
            (
                replace(clip, votes=dict(private[clip.id].votes), votes_hash=None, audio=clip.audio or "not here")
                for clip in whole
                if clip.id in hashes
            ),
            {**whole.about, "skipped": {}},
        )
    )
    withheld = task.score_answers(pools)
    return [
        HalfScores(
            pipeline,
            len(task.selection.clips),
            scores.metrics[HEADLINE],
            scores.metrics[f"{HEADLINE}_stderr"],
            shown[pipeline].metrics[HEADLINE],
            shown[pipeline].metrics[f"{HEADLINE}_stderr"],
        )
        for pipeline, scores in withheld.items()
    ]


def _without_votes(clip: Clip, withheld: Withheld) -> Clip:
    """Return a clip without its votes and other fields that reveal them."""
    return replace(
        clip, votes={}, ratings=(), consensus=None, arousal=None, valence=None, dominance=None, votes_hash=withheld.hash
    )


def _speaker(clip: Clip) -> str:
    return clip.speaker or f"clip {clip.id}"
