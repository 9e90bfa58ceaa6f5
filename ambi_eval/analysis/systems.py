"""The scores of one system's predictions, with the references beside them."""

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
    """What a file of predictions scores.

    Attributes:
        overall: Scores over all clips that are predicted.
        binned: Scores in each bin of ambiguity, in the order of `baselines.bins`.
        baselines: The references on the same clips.
        held_out: Prior, system and half panel against the same raters, over all clips and in each bin; None where
            panels cannot be halved.
        calibration: What scaling that is fitted on other speakers would bring; None with fewer than three speakers.
        notes: What a reader of the scores must know: missing clips, invalid answers, smoothing.
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
    """Score the predictions of a `.jsonl` file.

    Args:
        path: The file, or its content, as `read_predictions` reads it.
        selection: The clips of the corpus, with the votes to score against.
        settings: Those that selected them.
        edges: Edges of the bins of ambiguity, as `ambiguity_bins` takes them.
        allow_partial: Whether to score what is there if clips are missing or unknown.
        smooth: Whether to fit a temperature and shrink towards the prior first, on other speakers.
        acoustic: Whether to listen to the clips for the acoustic reference.

    Raises:
        AmbiError: If the file, the edges or the smoothing cannot be.
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
