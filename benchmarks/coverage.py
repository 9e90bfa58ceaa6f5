"""How often 95 % intervals hold the truth: every metric, on speakers of equal and of very unequal size.

    python benchmarks/coverage.py [--simulations 300]

Each simulation draws speakers, clips, true shares, panels and predictions, and asks whether the interval of each score
holds the score of 200,000 such clips. Speakers differ in how ambiguous they are and in how well they are predicted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ambi_eval.analysis.ambiguity import Binned
from ambi_eval.analysis.discrimination import two_alternatives
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.evaluate import WORTH, SystemScorer
from ambi_eval.analysis.reliability import ambiguity_auroc
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.selection import Selection
from ambi_eval.metrics import METRICS
from ambi_eval.metrics.clustered import UNKNOWN
from ambi_eval.votes import entropy_bits, panel_of, shares

Array = NDArray[np.float64]
LABELS = ["a", "b", "c", "d"]
RATERS = 8
SPEAKERS = 20
POPULATION = 10_000


def draw(rng: np.random.Generator, sizes: NDArray[np.intp]) -> tuple[Selection, Array, NDArray[np.bool_]]:
    """Return the clips of speakers with so many clips each, their predictions, and which are truly ambiguous."""
    speaker = np.repeat(np.arange(len(sizes)), sizes)
    sharpness, skill = np.exp(rng.normal(0, 0.5, len(sizes)))[speaker], rng.beta(4, 4, len(sizes))[speaker]
    truth = shares(rng.gamma(0.5 * sharpness[:, None], size=(len(speaker), len(LABELS))) + 1e-6)
    noise = rng.dirichlet([0.7] * len(LABELS), len(speaker))
    p = skill[:, None] * truth + (1 - skill[:, None]) * noise
    votes = rng.multinomial(RATERS, truth).astype(float)
    names = [f"s{number}" for number in speaker]
    clips = [Clip(id=str(n), votes={}, speaker=name, sentence="one") for n, name in enumerate(names)]
    panels = [panel_of(row, [], LABELS, {}) for row in votes]
    return Selection(clips, votes, names, [None] * len(clips), {}, panels), p, entropy_bits(truth) > 1


def scores(selection: Selection, p: Array, ambiguous: NDArray[np.bool_]) -> dict[str, Estimate]:
    """Return every score of the predictions."""
    binned = Binned([], selection, np.arange(len(p)), "")
    found, _ = SystemScorer(selection, binned).score(p)
    pairs = two_alternatives(p, selection.votes, selection.clips, selection.clusters)
    assert pairs is not None, "every speaker says one sentence several times"
    spotting = ambiguity_auroc(p, ambiguous, selection.clusters)
    return {**found, "pairs told apart": pairs.score, "spotting ambiguous clips": spotting}


def sizes_of(rng: np.random.Generator, kind: str) -> NDArray[np.intp]:
    """Return the numbers of clips of the speakers: all alike, or from 2 to 80."""
    if kind == "unequal":
        return np.exp(rng.uniform(np.log(2), np.log(80), SPEAKERS)).astype(int)
    return np.full(SPEAKERS, 20)


def truths(rng: np.random.Generator) -> dict[str, float]:
    """Return the scores of very many clips."""
    selection, p, ambiguous = draw(rng, np.full(POPULATION, 20))
    values = {name: metric.value(p, selection.votes) for name, metric in METRICS.items()}
    values[WORTH] = float(selection.one_rater.mean() / METRICS["sq_debiased"].value(p, selection.votes))
    few, q, _ = draw(rng, np.full(POPULATION // 10, 20))
    pairs = two_alternatives(q, few.votes, few.clips, few.clusters)
    assert pairs is not None, "every speaker says one sentence several times"
    values["pairs told apart"] = pairs.score.value
    values["spotting ambiguous clips"] = ambiguity_auroc(p, ambiguous, selection.clusters).value
    return values


def simulated(rng: np.random.Generator, kind: str, simulations: int) -> Iterator[dict[str, Estimate]]:
    """Yield the scores of simulated corpora; of `unknown` 70 % of the clips have no known speaker."""
    for _ in tqdm(range(simulations), kind, disable=None):
        selection, p, ambiguous = draw(rng, sizes_of(rng, kind))
        if kind == "unknown":
            hidden = rng.random(len(p)) < 0.7
            clusters = [UNKNOWN if h else c for h, c in zip(hidden, selection.clusters, strict=True)]
            selection = Selection(selection.clips, selection.votes, clusters, selection.heard, {}, selection.panels)
        yield scores(selection, p, ambiguous)


def main() -> None:
    """Print a line of Markdown for each score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=300)
    simulations = parser.parse_args().simulations
    rng = np.random.default_rng(0)
    expected, kinds = truths(rng), ("equal", "unequal", "unknown")
    found = {kind: list(simulated(rng, kind, simulations)) for kind in kinds}
    lines = ["| score | equal speakers | 2 to 80 clips each | 70 % of speakers unknown |", "|---|---|---|---|"]
    for name, value in expected.items():
        cells = []
        for kind in kinds:
            held = [estimate[name].low <= value <= estimate[name].high for estimate in found[kind]]
            cells.append(
                "-" if name == "pairs told apart" and kind == "unknown" else f"{np.mean(held):.2f}".lstrip("0")
            )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
