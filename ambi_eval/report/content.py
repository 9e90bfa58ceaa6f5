"""Every number of the report: what the page draws and what `--json` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ambi_eval.analysis.discrimination import Discrimination
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.evaluate import Scores
from ambi_eval.analysis.frontier import Place, TenTimes
from ambi_eval.analysis.generalizability import Study
from ambi_eval.analysis.information.calibration import Calibration
from ambi_eval.analysis.position_bias import PositionBias
from ambi_eval.analysis.raters.study import RaterStudy
from ambi_eval.analysis.references.held_out import HeldOut
from ambi_eval.analysis.reliability import ConfidenceBin
from ambi_eval.analysis.significance import Comparison
from ambi_eval.analysis.subgroups import Subgroup
from ambi_eval.funnel.content import Funnel


@dataclass(frozen=True)
class RunFacts:
    """Where a run came from and how to repeat it.

    Attributes:
        label: The model's name, numbered where different models have the same.
        file: The results file.
        date: When it started.
        seconds: How long it took.
        command: The command line that repeats it.
        versions: Versions of what computed it.
        model_info: What the model says about itself: digest, dtype, device, counters ...
        environment: The harness's description of the machine.
    """

    label: str
    file: str
    date: str
    seconds: float
    command: str
    versions: Mapping[str, str]
    model_info: Mapping[str, Any]
    environment: str


@dataclass(frozen=True)
class ClipPrediction:
    """What one system makes of one clip.

    Attributes:
        system: Full name of the system.
        jsd_bits: Its score on the clip, the mean over seeds.
        predicted: Predicted shares per label, the mean over seeds; None where no answer could be used.
        answers: The different answers and how often each was given, the most frequent first.
    """

    system: str
    jsd_bits: float
    predicted: Sequence[float] | None
    answers: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class ShownClip:
    """One of the clips that the best systems predict worst, or best.

    Attributes:
        clip: The clip's id.
        ambiguity: Entropy of its votes, in bits.
        majority: The raters' majority label; several that tie are joined by a slash.
        votes: Votes per label.
        audio: Address of the audio: of the file on this machine, or of simulated raters' clips the sound itself; None
            if the file is not there.
        predictions: What each system predicts, in the order of the section's systems.
    """

    clip: str
    ambiguity: float
    majority: str
    votes: Sequence[float]
    audio: str | None
    predictions: Sequence[ClipPrediction]


@dataclass(frozen=True)
class System:
    """One model under one strategy and pipeline, on the clips of a section.

    Attributes:
        model: Label of its run.
        name: Strategy and pipeline, with control and transcript where there are any, and with what else tells it from
            another system of the same name.
        same_as: Names of the model's systems that predict practically the same, and so have no row of their own.
        control: What the model heard instead of the clip; `none` in a real run.
        seeds: The seeds of the runs that were merged: all estimates are means over these.
        spread: Standard deviation of the divergence over the seeds; NaN with one seed.
        sampling: Whether the server honored the sampling settings, as the model says; empty where it says nothing.
        task: The harness's task.
        pipeline: The filter pipeline.
        config: What matters of the task's configuration.
        pool_size: Number of answers of a clip.
        scores: Every metric and `worth_raters`, over all clips.
        binned: The same in each bin of ambiguity.
        invalid_rate: Share of clips without a valid prediction.
        failed: How many answers could not be used, by reason.
        tokens: Generated tokens per clip.
        two_alternatives: The matched-pair forced choice.
        held_out: Prior, system and half panel against the same raters, over all clips and then in each bin.
        curves: Of each metric, the score at each pool size; empty where a part of the pool is no smaller pool.
        extrapolated: Of each metric, what the curve of a mean tends to as N grows; empty for other pipelines.
        asymptote: Full name of the system that the curve tends to, where it ran: `exact`, of the same model and prompt.
        confusion: Expected number of clips, a row per majority label, a column per predicted label and one for none.
        reliability: Confidence against agreement.
        ambiguity_auroc: How well its entropy tells the clips of the most ambiguous bin from the others.
        calibration: What scaling that is fitted on other speakers would bring; None with fewer than three speakers.
        subgroups: The divergence less that of the prior, by groups of speakers.
        diagnostics: Further means over clips that the harness logged.
        against_best: Difference from the best system of the section, on the same clips; None for that system itself.
            Of a control: from the same model and strategy on the real clips; None where that did not run.
    """

    model: str
    name: str
    same_as: Sequence[str]
    control: str
    seeds: Sequence[int]
    spread: float
    sampling: str
    task: str
    pipeline: str
    config: Mapping[str, Any]
    pool_size: int
    scores: Scores
    binned: list[Scores]
    invalid_rate: Estimate
    failed: Mapping[str, int]
    tokens: Estimate
    two_alternatives: Discrimination | None
    held_out: list[HeldOut] | None
    curves: Mapping[str, Mapping[int, Estimate]]
    extrapolated: Mapping[str, Estimate]
    asymptote: str | None
    confusion: list[list[float]]
    reliability: list[ConfidenceBin]
    ambiguity_auroc: Estimate
    calibration: Calibration | None
    subgroups: list[Subgroup]
    diagnostics: Mapping[str, Estimate]
    against_best: Comparison | None

    @property
    def full_name(self) -> str:
        """Model and name."""
        return f"{self.model}: {self.name}" if self.name else self.model

    @property
    def strategy(self) -> str:
        """The name without the control."""
        return self.name.replace(f" [{self.control}]", "")


@dataclass(frozen=True)
class BinFacts:
    """A bin of ambiguity: its name, its ends in bits, and its number of clips."""

    name: str
    low: float
    high: float
    clips: int


@dataclass(frozen=True)
class Reference:
    """A trivial predictor or a human reference.

    Attributes:
        description: What it predicts, and who judges it.
        clips: Number of clips that it is scored on.
        scores: Every metric and `worth_raters`, over all clips.
        binned: The same in each bin of ambiguity.
        two_alternatives: The matched-pair forced choice, where clips match.
    """

    description: str
    clips: int
    scores: Scores
    binned: list[Scores]
    two_alternatives: Estimate | None


@dataclass(frozen=True)
class Wordings:
    """What each wording of a prompt ensemble scores alone.

    Attributes:
        system: Full name of the system.
        scores: The divergence of each wording, in the order of the task.
        spread: Their standard deviation.
    """

    system: str
    scores: Sequence[Estimate]
    spread: float


@dataclass(frozen=True)
class Ranking:
    """What the answers of a section say about how sure its ranking is.

    Attributes:
        studies: A study of the systems' scores, and one for each further factor that the answers vary in.
        wordings: What the wordings of each prompt ensemble score.
        position_bias: The position bias of each system that was asked with several orders of the labels, by full name.
        missing: Why there is no study of some factor, one sentence each.
    """

    studies: Sequence[Study]
    wordings: Sequence[Wordings]
    position_bias: Mapping[str, PositionBias]
    missing: Sequence[str]


@dataclass(frozen=True)
class Cost:
    """What a system costs a clip, if it runs alone; NaN where nobody knows.

    Attributes:
        tokens: Generated tokens, thinking included where the model counts it; 0 where likelihoods are read out.
        audio_seconds: Seconds of audio that are encoded, examples included, each once.
        encoder: FLOPs of hearing them.
        prefill: FLOPs of reading the prompts, each once for all its answers.
        decode: FLOPs of generating the answers.
        seconds: Wall time, of a run of this task alone without stored answers.
    """

    tokens: float
    audio_seconds: float
    encoder: float
    prefill: float
    decode: float
    seconds: float

    @property
    def flops(self) -> float:
        """All FLOPs together."""
        return self.encoder + self.prefill + self.decode


@dataclass(frozen=True)
class Budget:
    """What quality costs in a section.

    Attributes:
        scores: The divergence of each system, by full name.
        costs: Its cost.
        by: What the frontier is drawn over: `FLOPs` where any system has them, else `tokens`.
        places: Where each system stands on the frontier, the cheapest first; systems of unknown cost have no place.
        ten_times: By system that samples, what ten times the answers buy.
    """

    scores: Mapping[str, float]
    costs: Mapping[str, Cost]
    by: str
    places: Mapping[str, Place]
    ten_times: Mapping[str, TenTimes]

    @property
    def order(self) -> list[str]:
        """The systems, the cheapest first, those of unknown cost last."""
        return [*self.places, *(name for name in self.costs if name not in self.places)]


@dataclass(frozen=True)
class Section:
    """All systems that were asked about the same clips with the same labels.

    Attributes:
        corpus: Its name.
        simulated: Whether its raters are simulated.
        labels: The labels.
        clips: Number of clips.
        left_out: Number of clips of the corpus that were not asked about, by reason.
        clusters: Number of clusters of dependent clips.
        cluster: What they are: speakers, sessions or dialogues.
        raters: Fewest, mean and most votes of a clip.
        ambiguity: Mean entropy of the votes, in bits.
        krippendorff_alpha: Agreement of the raters.
        best_accuracy: Accuracy of the best possible prediction, since votes tie.
        bins: Bins of ambiguity.
        references: What to read the scores against.
        samplers: Curves of mere sampling: from the raters' shares (`people`) and from the prior (`prior`), by metric.
        systems: The systems, the best first.
        controls: The same for runs in which the model heard something else than the clip; the best first.
        partial: Sentences that say what is missing, so that scores do not speak for the corpus; empty if all is there.
        shown: The clips that the best system of each model predicts worst, those that systems failed on,
            and those that it predicts best.
        rater_study: What the single raters show of these systems; None where their names are not published.
        notes: What else a reader must know.
        ranking: How sure the ranking of the systems is.
        budget: What quality costs.
    """

    corpus: str
    simulated: bool
    labels: Sequence[str]
    clips: int
    left_out: Mapping[str, int]
    clusters: int
    cluster: str
    raters: tuple[float, float, float]
    ambiguity: float
    krippendorff_alpha: float
    best_accuracy: float
    bins: list[BinFacts]
    references: Mapping[str, Reference]
    samplers: Mapping[str, Mapping[str, Mapping[int, Estimate]]]
    systems: list[System]
    controls: list[System]
    partial: list[str]
    shown: list[ShownClip]
    rater_study: RaterStudy | None
    notes: list[str]
    ranking: Ranking
    budget: Budget

    @property
    def best(self) -> list[System]:
        """The best system of each model, in the order of their scores."""
        first: dict[str, System] = {}
        for system in self.systems:
            first.setdefault(system.model, system)
        return list(first.values())


def counterpart(control: System, systems: Sequence[System]) -> System | None:
    """Return what a control is compared with: the same pipeline on the real clips, or the one that predicts the same.

    None if neither ran.
    """
    own = [system for system in systems if system.model == control.model]
    same = (each for each in own if control.strategy in (each.name, *each.same_as))
    alike = (each for each in own if (each.task, each.pipeline) == (control.task, control.pipeline))
    return next(same, None) or next(alike, None)


@dataclass(frozen=True)
class Content:
    """All of the report: when it was made, its runs, a section for each set of clips, and funnels of the models."""

    made: str
    runs: list[RunFacts]
    sections: list[Section]
    funnels: Sequence[Funnel] = ()
