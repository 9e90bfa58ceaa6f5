"""Chooses the votes that score predictions: those of the corpus, of raters who saw the face, or the acted emotion."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ambi_eval.config.corpus_settings import CorpusSettings
from ambi_eval.corpora.manifest import Manifest, read_manifest
from ambi_eval.corpora.select import corpus_clips, select
from ambi_eval.corpora.selection import Selection
from ambi_eval.errors import AmbiError
from ambi_eval.paths import manifest_path

Against = Literal["voice", "face", "av", "acted"]


def target_votes(settings: CorpusSettings, against: Against = "voice") -> Selection:
    """Return the clips of a corpus, including those without audio, with the chosen votes (AmbiError if there are none).

    `voice`: the votes in the corpus' own manifest. `face`, `av`: the votes of raters who only saw, or saw and heard the
    speaker, from the manifest CORPUS_face or CORPUS_av. `acted`: one vote for the acted emotion.
    """
    if against == "voice":
        return select(settings, corpus_clips(settings), hear=False)
    if against == "acted":
        return select(settings, _acted(settings, corpus_clips(settings)), hear=False)
    name = f"{settings.manifest}_{against}"
    if not manifest_path(name).is_file():
        fix = f"for CREMA-D make it with ambi-eval prepare crema_d --modality {against} --source DIR"
        none = f"no '{against}' votes of {settings.task}, there is no manifest {manifest_path(name)}"
        raise AmbiError(f"{none}; {fix}")
    return select(settings, read_manifest(manifest_path(name)), hear=False)


def _acted(settings: CorpusSettings, clips: Manifest) -> Manifest:
    acted = [replace(clip, votes={clip.acted: 1.0}, ratings=()) for clip in clips if clip.acted]
    if not acted:
        raise AmbiError(f"no clip of {settings.task} says which emotion was acted: leave out --against acted")
    return Manifest(acted, clips.about)
