"""Every word of ours that a table may show has a sentence."""

from typing import get_args

from ambi_eval.config.corpus_settings import CorpusSettings
from ambi_eval.config.load import strategy_names
from ambi_eval.web.glossary import CONTROLS, STRATEGIES, metrics


def test_every_strategy_and_control_has_a_sentence():
    assert STRATEGIES.keys() == set(strategy_names())
    assert CONTROLS.keys() == {*get_args(CorpusSettings.model_fields["control"].annotation)} - {"none"}


def test_every_sentence_ends():
    for sentence in [*STRATEGIES.values(), *CONTROLS.values()]:
        assert sentence.endswith(".")
    assert all(metrics().values())
