"""Scores a file of predictions and the references on the same clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ambi_eval.analysis.ambiguity import bin_clips
from ambi_eval.analysis.evaluate import Scores, SystemScorer
from ambi_eval.analysis.information.calibration import Calibration, calibration
from ambi_eval.analysis.predictions import read_predictions
from ambi_eval.analysis.references.baselines import Baselines, baselines
from ambi_eval.analysis.references.held_out import HeldOut, HeldOutRaters
from ambi_eval.analysis.references.smoothing import smooth_towards_prior
from ambi_eval.config.corpus_settings import CorpusSettings
from ambi_eval.corpora.selection import Selection


@dataclass(frozen=True)
class SystemScores:
    """The scores of a file of predictions.

    Attributes:
        binned: Scores in each bin of ambiguity, in the order of `baselines.bins`.
        held_out: Prior, system and half panel, scored by the other half of the raters, over all clips and in each bin;
            None if no panel can be halved.
        calibration: The gains of scaling that is fitted on other speakers; None for fewer than three speakers.
        notes: Notes for readers of the scores: missing clips, invalid answers, smoothing.
    """

    overall: Scores
    binned: list[Scores]
    baselines: Baselines
    held_out: list[HeldOut] | None
    calibration: Calibration | None
    notes: list[str]


def score_file(
    path: Path | Mapping[str, Any],
    selection: Selection,
    settings: CorpusSettings,
    *,
    edges: Sequence[float] | None = None,
    allow_partial: bool = False,
    smooth: bool = False,
    acoustic: bool = True,
) -> SystemScores:
    """Score the predictions of a `.jsonl` file, or its content, as `read_predictions` takes it.

    `edges` are those of the bins (`ambiguity_bins`). `smooth` applies `smooth_towards_prior` first, and `acoustic`
    reads the audio for the acoustic reference.

    Raises:
        AmbiError: If the file or the edges are invalid, or smoothing is impossible.
    """
    predictions = read_predictions(path, selection.clips, settings.labels, allow_partial=allow_partial)
    p, notes, clips = predictions.p, list(predictions.notes), predictions.clips
    here = selection.at(clips)
    if smooth:
        p, note = smooth_towards_prior(p, here.votes, here.clusters)
        notes.append(note)
    binned = bin_clips(here, edges)
    overall, of_bins = SystemScorer(here, binned).score(p)
    held_out = HeldOutRaters(here, binned).judge(p, "jsd_bits")
    references = baselines(here, settings, binned, acoustic=acoustic, system=p)
    scaled = calibration(p, here.votes, here.clusters)
    return SystemScores(overall, of_bins, references, held_out, scaled, notes)
