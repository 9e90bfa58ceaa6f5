"""How reliable a ranking is, in sentences and tables for the terminal and the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain

from rich.console import Group
from rich.table import Table

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.generalizability import Study
from ambi_eval.errors import counted
from ambi_eval.report.content import Ranking, Wordings
from ambi_eval.web.format import short, with_interval

NAMES = {"clip": "clips", "speaker": "speakers"}
# The title of a study, by the factor that varies besides systems, speakers and clips.
TITLES = {
    "": "Systems on clips",
    "seed": "Seeds of the sampling",
    "wording": "Wordings of the prompt",
    "label order": "Orders of the labels",
    "answer": "Single sampled answers",
    "rater": "Raters: squared error against single ballots",
}


def in_terminal(rankings: Mapping[str, Ranking]) -> Group:
    """Return the tables and sentences on the ranking of each corpus."""
    return Group(*chain.from_iterable(_blocks(corpus, ranking) for corpus, ranking in rankings.items()))


def sentences(study: Study) -> list[str]:
    """Return the reliability of the ranking and what would raise it to .9; empty for one system."""
    if math.isnan(study.generalizability.value):
        return []
    said = [
        f"Reliability of the ranking of {len(study.systems)} systems (generalizability coefficient): "
        f"{with_interval(study.generalizability)}; of the scores themselves (dependability): "
        f"{with_interval(study.dependability)}."
    ]
    for name, needed in study.needed.items():
        there, plural = study.levels[name], NAMES.get(name, f"{name}s")
        each = " a clip" if name in ("rater", "answer", "seed") else ""
        if math.isinf(needed.value):
            most = with_interval(study.most_by[name])
            said.append(f"With any number of {plural}{each} it stays below .9: it tends to {most}.")
        else:
            said.append(f"It is .9 with {_number(needed)} {plural}{each}; there are {_count(there)}.")
    return said


def _count(number: float) -> str:
    return f"{number:,.1f}".removesuffix(".0")


def _number(needed: Estimate) -> str:
    high = "infinity" if math.isinf(needed.high) else f"{needed.high:,.0f}"
    return f"{needed.value:,.0f} [{needed.low:,.0f}, {high}]"


def wordings_sentence(wordings: Wordings) -> str:
    """Return the scores of the single wordings of a prompt ensemble, as a sentence."""
    scores = ", ".join(short(score.value) for score in wordings.scores)
    return f"{wordings.system}: JSD of each wording alone {scores}; standard deviation {short(wordings.spread)}."


def position_sentences(ranking: Ranking) -> list[str]:
    """Return the gain in probability of a label that the prompt names first, one sentence for each system."""
    return [
        f"{name}: a label gains {with_interval(bias.first)} of probability when it stands first in the prompt"
        f" ({', '.join(f'{label} {short(gain.value)}' for label, gain in bias.by_label.items())})."
        for name, bias in ranking.position_bias.items()
    ]


def _blocks(corpus: str, ranking: Ranking) -> list[Table | str]:
    blocks: list[Table | str] = [f"{corpus}: how sure is the ranking?", ""]
    for study in ranking.studies:
        levels = ", ".join(f"{_count(number)} {NAMES.get(name, f'{name}s')}" for name, number in study.levels.items())
        systems = counted(len(study.systems), "system") if len(study.systems) > 1 else study.systems[0]
        table = Table("share of variance", "", "95 % interval", box=None)
        blocks.append(f"{TITLES[study.factor]}: {systems}, {levels}")
        for share in study.shares:
            of = share.share
            table.add_row(" x ".join(share.effect), short(of.value), f"[{short(of.low)}, {short(of.high)}]")
        blocks += [table, *sentences(study), ""]
    blocks += [wordings_sentence(wordings) for wordings in ranking.wordings]
    return [*blocks, *position_sentences(ranking), *ranking.missing, ""]
