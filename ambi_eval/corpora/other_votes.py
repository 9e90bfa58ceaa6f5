"""Whose judgement predictions are scored against: the corpus' own raters, raters of a face, or what was acted."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ambi_eval.config.task_settings import CorpusSettings
from ambi_eval.corpora.manifest import Manifest, read_manifest
from ambi_eval.corpora.selection import Selection, corpus_clips, select
from ambi_eval.errors import AmbiError
from ambi_eval.paths import manifest_path
from ambi_eval.votes import Panel

Against = Literal["voice", "face", "av", "acted"]


def target_votes(settings: CorpusSettings, against: Against = "voice") -> Selection:
    """Return the clips of a corpus, those without audio among them, with the votes that count.

    Args:
        settings: What `load_corpus` says about the corpus.
        against: `voice`: the votes of the corpus' own manifest. `face`, `av`: those of raters who saw the face, or saw
            and heard, from the manifest CORPUS_face or CORPUS_av. `acted`: one vote for the emotion that was acted.

    Raises:
        AmbiError: If there are no such votes.
    """
    if against == "voice":
        return select(settings, corpus_clips(settings), hear=False)
    if against == "acted":
        return select(settings, _acted(settings, corpus_clips(settings)), hear=False)
    name = f"{settings.manifest}_{against}"
    if not manifest_path(name).is_file():
        raise AmbiError(
            f"no '{against}' votes of {settings.task}, there is no manifest {manifest_path(name)}; of CREMA-D make it "
            f"with ambi-eval prepare crema_d --modality {against} --source DIR"
        )
    return select(settings, read_manifest(manifest_path(name)), hear=False)


def halve_panels(selection: Selection) -> tuple[Selection, NDArray[np.float64], str]:
    """Return the clips with a random half of their votes, and the other half, to make bins of ambiguity from.

    Bins of the very votes that predictions are scored against share their noise: by chance unanimous panels lie in the
    low bin, and there they are easier to predict than the clip is. Halves are drawn without replacement, the same in
    every run; of an odd panel the bins get the smaller one.

    Args:
        selection: The clips.

    Returns:
        The clips whose panels can be halved (two raters or more), with the votes to score against; the votes to
        make bins from, shape (clips, labels); and a sentence that says how many clips are left out.

    Raises:
        AmbiError: If no panel can be halved.
    """
    there = [number for number, panel in enumerate(selection.panels) if panel is not None and panel.size >= 2]
    if not there:
        raise AmbiError("no clip has two raters that its votes tell apart: leave out --bin-on-half")
    rng = np.random.default_rng(0)
    halved, binned, judges = selection.at(there), [], []
    for panel in halved.panels:
        assert panel is not None
        hands = rng.multivariate_hypergeometric(panel.raters, panel.size // 2)
        binned.append(panel.votes(hands))
        judges.append(Panel(panel.ballots, tuple((np.array(panel.raters) - hands).tolist())))
    halved = replace(halved, votes=np.array([panel.votes(panel.raters) for panel in judges]), panels=judges)
    count = len(selection.clips) - len(there)
    left_out = f", {count} clips left out" if count else ""
    return halved, np.array(binned), f"bins made from one half of each panel, scores against the other half{left_out}"


def _acted(settings: CorpusSettings, clips: Manifest) -> Manifest:
    acted = [replace(clip, votes={clip.acted: 1.0}, ratings=()) for clip in clips if clip.acted]
    if not acted:
        raise AmbiError(f"no clip of {settings.task} says which emotion was acted: leave out --against acted")
    return Manifest(acted, clips.about)
