"""The content of the report: every number that the page shows and `--json` writes."""

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
    """The origin of a run and how to repeat it.

    `label` is the model's name, with a number if several models have the same name. `versions` are those of the
    software, by package. `model_info` is what the model wrote into the results file: digest, dtype, device, counters.
    `environment` is the harness's description of the machine.
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
    """The prediction of one system for one clip: its score, the predicted shares, and the different answers, counted.

    Score and shares are means over seeds; the shares are None if no answer could be used. The most frequent answer is
    the first one.
    """

    system: str
    jsd_bits: float
    predicted: Sequence[float] | None
    answers: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class ShownClip:
    """A clip in the table of clips: one of those with the largest or smallest errors, or with unusable answers.

    Attributes:
        ambiguity: Entropy of its votes, in bits.
        majority: The raters' majority label; tied labels are joined by a slash.
        audio: Address of the audio file on this machine; for the demo, the audio itself (a data URL). None if there is
            no file.
        predictions: The prediction of each system, in the order of the section's systems.
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
        name: Strategy and pipeline; with control and transcript if they are not `none`, and with other settings that
            distinguish it from another system of the same name.
        same_as: Names of the model's systems with almost the same predictions, which have no row of their own.
        control: What the model heard instead of the clip; `none` in a real run.
        seeds: The seeds of the merged runs; every estimate is a mean over them.
        spread: Standard deviation of the divergence over the seeds; NaN for one seed.
        sampling: Whether the server honored the sampling settings, as far as the model knows; empty if unknown.
        scores: Every metric and `worth_raters`, over all clips.
        binned: The same in each bin of ambiguity.
        invalid_rate: Share of clips without a valid prediction.
        failed: How many answers could not be used, by reason.
        tokens: Generated tokens per clip, thinking included.
        thinking: Those of them that were thinking.
        two_alternatives: The matched-pair forced choice.
        held_out: Prior, system and half panel against the same raters, over all clips and then in each bin.
        curves: By metric, the score at each pool size; empty if a part of the pool is no valid smaller pool (beams).
        extrapolated: By metric, the limit of the curve for large N; empty for pipelines that do not average answers.
        asymptote: Full name of the system to which the curve tends (`exact` with the same model and prompt), if it ran.
        confusion: Clips by majority label and by predicted label or none (`classification.expected_confusion`).
        reliability: Confidence against agreement.
        ambiguity_auroc: How well its entropy detects the clips of the most ambiguous bin.
        calibration: The effect of scaling that is fitted on other speakers; None for fewer than three speakers.
        subgroups: The divergence minus that of the prior, by group of speakers.
        diagnostics: Other means over clips in the harness's log.
        against_best: Difference from the best system of the section, on the same clips; None for that system itself.
            For a control: difference from the same model and strategy on the real clips; None if that did not run.
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
    thinking: Estimate
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
        """`name` without the control."""
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
    """A trivial predictor or a human reference: what it predicts, which raters score it, and scores as in `System`.

    `two_alternatives` is None if no two clips match.
    """

    description: str
    clips: int
    scores: Scores
    binned: list[Scores]
    two_alternatives: Estimate | None


@dataclass(frozen=True)
class Wordings:
    """The divergence of each wording of a prompt ensemble, in the order of the task, and their standard deviation."""

    system: str
    scores: Sequence[Estimate]
    spread: float


@dataclass(frozen=True)
class Ranking:
    """How reliable the ranking of a section is.

    Attributes:
        studies: A study of the systems' scores, and one for each further factor, such as the wording of the prompt.
        position_bias: The position bias, by full name, of each system whose prompts had several orders of the labels.
        missing: For each study that is impossible, one sentence that gives the reason.
    """

    studies: Sequence[Study]
    wordings: Sequence[Wordings]
    position_bias: Mapping[str, PositionBias]
    missing: Sequence[str]


@dataclass(frozen=True)
class Cost:
    """The cost of a system per clip if it runs alone; NaN means unknown.

    Attributes:
        tokens: Generated tokens, thinking included; 0 if only likelihoods are computed.
        thinking: Those of them that were thinking.
        audio_seconds: Seconds of audio that are encoded, with examples, each once.
        encoder: FLOPs of the audio encoder.
        prefill: FLOPs of the prompts, each computed once for all its answers.
        decode: FLOPs of generating the answers.
        seconds: Wall time; known only for a run of this task alone without stored answers.
    """

    tokens: float
    thinking: float
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
    """Quality against cost in a section. All mappings are by the full name of a system.

    Attributes:
        by: The cost of the frontier: `FLOPs` if they are known of any system, else `tokens`.
        places: The comparison with systems of the same or lower cost, the cheapest first; only for known costs.
        ten_times: The gain from ten times as many answers, of systems that sample.
    """

    scores: Mapping[str, float]
    costs: Mapping[str, Cost]
    by: str
    places: Mapping[str, Place]
    ten_times: Mapping[str, TenTimes]

    @property
    def thinks(self) -> bool:
        """Whether a system thinks before its answers, or may do so uncounted."""
        return any(cost.thinking != 0 for cost in self.costs.values())

    @property
    def order(self) -> list[str]:
        """The systems, the cheapest first, those of unknown cost last."""
        return [*self.places, *(name for name in self.costs if name not in self.places)]


@dataclass(frozen=True)
class Section:
    """All systems that were asked about the same clips with the same labels.

    Attributes:
        left_out: Number of clips of the corpus that were not asked about, by reason.
        clusters: Number of clusters of dependent clips.
        cluster: What a cluster is: speaker, session or dialogue.
        raters: Smallest, mean and largest number of votes on a clip.
        ambiguity: Mean entropy of the votes, in bits.
        best_accuracy: Accuracy of the best possible prediction, below 1 because of ties in the votes.
        samplers: Curves of pure sampling from the raters' shares (`people`) and from the prior (`prior`), by metric.
        controls: Systems in whose runs the model did not hear the clip; the best first.
        partial: Sentences about missing clips or answers, because of which scores do not describe the corpus; usually
            empty.
        other_models: Sentences about servers that answered with another model than the one asked for; usually empty.
        cautions: Further warnings of the runs about their clips, settings and answers; usually empty.
        shown: The clips with the largest errors of the best system of each model, those without usable answers, and
            those with the smallest errors.
        rater_study: How the single raters score these systems; None if the corpus does not name its raters.
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
    other_models: list[str]
    cautions: list[str]
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
    """Return the system that a control is compared with: the same pipeline on the real clips; None if it did not run.

    If that system has no row because another one has the same predictions, this is the other one.
    """
    own = [system for system in systems if system.model == control.model]
    same = (each for each in own if control.strategy in (each.name, *each.same_as))
    alike = (each for each in own if (each.task, each.pipeline) == (control.task, control.pipeline))
    return next(same, None) or next(alike, None)


@dataclass(frozen=True)
class Content:
    """The whole report: when it was made, its runs, a section for each set of clips, and the funnels of the models."""

    made: str
    runs: list[RunFacts]
    sections: list[Section]
    funnels: Sequence[Funnel] = ()
