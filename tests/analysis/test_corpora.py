import json

import numpy as np
import pytest
from support.references import references
from typer.testing import CliRunner

from ambi_eval.analysis.corpora import figures
from ambi_eval.cli import app
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.other_votes import target_votes
from ambi_eval.corpora.registry import corpus_names


@pytest.fixture
def only_the_demo(tmp_path, monkeypatch):
    monkeypatch.setenv("AMBI_DATA", str(tmp_path))


def test_the_figures_of_the_real_votes_are_those_of_an_independent_computation(crema_d_selection, crema_d_config):
    ours = figures(crema_d_selection, crema_d_config)
    assert (ours.clips, ours.labels) == (7_442, 6)
    assert ours.raters == pytest.approx(68_568 / 7_442)
    assert ours.entropy_bits == pytest.approx(1.196, abs=5e-4)
    assert ours.prior == pytest.approx(references(crema_d_selection.votes)["prior"], abs=1e-9)
    assert 0 < ours.half_panel < ours.prior + 0.1


def test_what_needs_single_raters_is_missing_without_them(tmp_path):
    rows = [{"id": name, "votes": {"calm": 0.5, "tense": 1.5}, "speaker": name} for name in "ab"]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "mine.yaml").write_text("manifest: mine.jsonl\nlabels: [calm, tense]\n")
    settings = load_corpus(str(tmp_path / "mine.yaml"))
    ours = figures(target_votes(settings), settings)
    assert (ours.raters, ours.krippendorff_alpha, ours.half_panel, ours.prior) == (None, None, None, 0)


@pytest.mark.usefixtures("only_the_demo")
def test_every_corpus_is_shown_whether_it_is_prepared_or_not():
    text = CliRunner().invoke(app, ["corpora"]).stdout
    assert all(name in text for name in corpus_names())
    assert "not prepared" in text
    assert "ambi-eval prepare crema_d" in text
    found = json.loads(CliRunner().invoke(app, ["corpora", "--json"]).stdout)["corpora"]
    by_name = {each["name"]: each for each in found}
    assert by_name["demo"]["figures"]["clips"] == 72
    assert np.isfinite(list(by_name["demo"]["figures"].values())).all()
    assert by_name["iemocap_full"]["figures"] is None
    assert by_name["emozionalmente"]["language"] == "it"
