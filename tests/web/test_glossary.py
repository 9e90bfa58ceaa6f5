"""Every word of ours that a table may show has a sentence."""

from typing import get_args

import pytest
from support import ROOT

from ambi_eval.config.corpus_settings import CorpusSettings
from ambi_eval.config.load import strategy_names
from ambi_eval.web.glossary import CONTROLS, STRATEGIES, metrics


@pytest.mark.parametrize("name", strategy_names())
def test_every_strategy_has_a_sentence_and_a_row_in_the_docs(name):
    assert name in STRATEGIES, f"write what '{name}' does into STRATEGIES of ambi_eval/web/glossary.py"
    rows = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    assert f"| `{name}` |" in rows, f"add a row of '{name}', with formula and source, to docs/strategies.md"


def test_no_sentence_is_about_a_strategy_that_is_gone_and_every_control_has_one():
    assert STRATEGIES.keys() <= set(strategy_names())
    assert CONTROLS.keys() == {*get_args(CorpusSettings.model_fields["control"].annotation)} - {"none"}


def test_every_sentence_ends():
    for sentence in [*STRATEGIES.values(), *CONTROLS.values()]:
        assert sentence.endswith(".")
    assert all(metrics().values())
