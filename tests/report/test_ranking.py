"""How sure a ranking is, from the answers that runs left on disk."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from ambi_eval.analysis.generalizability import study
from ambi_eval.cli import app
from ambi_eval.harness.results import read_runs
from ambi_eval.metrics import METRICS
from ambi_eval.report.build import by_clips
from ambi_eval.report.ranking import rankings, sentences, single_answers


@pytest.fixture(scope="module")
def ranking(runs):
    (found,) = rankings(by_clips(runs)).values()
    return found


def of_factor(ranking, factor):
    (found,) = (study for study in ranking.studies if study.factor == factor)
    return found


def test_every_factor_that_the_answers_vary_in_has_a_study(ranking):
    assert [study.factor for study in ranking.studies] == ["", "answer", "rater"]
    assert not ranking.missing


def test_the_study_of_systems_is_that_of_their_scores(ranking, runs, content):
    (section,) = content.sections
    systems = {s.full_name: s for s in section.systems}
    found = of_factor(ranking, "")
    scores = []
    for name in found.systems:
        task = next(r for r in runs if r.model == systems[name].model).tasks[systems[name].task]
        scores.append(METRICS["jsd_bits"].per_clip(task.pipelines[systems[name].pipeline].p, task.votes))
    again = study(np.array(scores), found.systems, runs[0].tasks["mine_sc"].selection.clusters)
    assert found.generalizability == again.generalizability
    assert section.ranking.studies[0].generalizability == again.generalizability


def test_a_good_and_a_weak_model_are_told_apart(ranking):
    found = of_factor(ranking, "answer")
    assert found.systems == ["good/model: sc", "weak<model>: sc"]
    assert found.levels == {"clip": 48, "speaker": 8, "answer": 20}


def test_single_answers_are_read_as_the_pipelines_read_them(runs):
    task = runs[0].tasks["mine_sc"]
    alone = single_answers(task)
    assert alone.shape == (48, 20, 3)
    np.testing.assert_allclose(np.nanmean(alone[1:], axis=1), task.pipelines["dist"].p[1:])
    assert np.isnan(alone[0]).all(), "the clip on which the model fails"


def test_ballots_give_the_brier_score_of_single_raters(ranking):
    found = of_factor(ranking, "rater")
    assert found.levels["rater"] == pytest.approx(np.mean([6.0]), abs=1)
    assert sum(share.share.value for share in found.shares) == pytest.approx(1)


@pytest.fixture(scope="module")
def more(lm_eval, corpus, tmp_path_factory):
    """Runs of two models with an ensemble of wordings and with three orders of the labels."""
    own = corpus / "mine_ens.yaml"
    own.write_text((corpus / "mine_direct.yaml").read_text().replace("direct", "ens"))
    out = tmp_path_factory.mktemp("more")
    for skill in (0.9, 0.2):
        lm_eval(out / f"ens{skill}", skill, f"m{skill}", tasks=["mine_ens"])
        lm_eval(out / f"turned{skill}", skill, f"m{skill}", tasks=["mine_exact"], metadata={"rotations": 3})
    own.unlink()
    return out


def test_wordings_and_label_orders_of_logged_answers_have_studies(more):
    (found,) = rankings(by_clips(read_runs(more))).values()
    wordings, orders = of_factor(found, "wording"), of_factor(found, "label order")
    assert wordings.systems == ["m0.9: ens", "m0.2: ens"] or wordings.systems == ["m0.2: ens", "m0.9: ens"]
    assert (wordings.levels["wording"], orders.levels["label order"]) == (5, 3)
    by_effect = {share.effect: share.share.value for share in wordings.shares}
    assert by_effect["wording",] == pytest.approx(0, abs=1e-12), "the listener says the same whatever the wording"
    assert {len(w.scores) for w in found.wordings} == {5}
    for wording in found.wordings:
        assert wording.spread == pytest.approx(0, abs=1e-12)
    for bias in found.position_bias.values():
        assert bias.first.value == pytest.approx(0, abs=1e-6), "the listener does not mind the order"


def test_results_of_a_prompt_ensemble_hold_the_score_of_each_wording_and_their_spread(more):
    file = next(more.rglob("ens0.9/**/results_*.json"))
    results = json.loads(file.read_text())
    found = results["configs"]["mine_ens"]["wording_scores"]["jsd_bits"]
    row = results["results"]["mine_ens"]
    assert found["scores"] == [row[f"jsd_bits@wording{k},mean"] for k in range(1, 6)]
    assert found["standard_deviation"] == pytest.approx(np.std(found["scores"], ddof=1))
    assert row["jsd_bits_stderr,mean"] == pytest.approx(row["jsd_bits@wording1_stderr,mean"])


def test_the_command_prints_and_writes_every_study(more, tmp_path):
    result = CliRunner().invoke(app, ["generalizability", str(more), "--json", str(tmp_path / "found.json")])
    assert result.exit_code == 0, result.output
    for text in ("Wordings of the prompt: 2 systems, 48 clips, 8 speakers, 5 wordings", "Orders of the labels",
                 "Reliability of the ranking of 4 systems", "a label gains"):  # fmt: skip
        assert text in result.stdout
    (found,) = json.loads((tmp_path / "found.json").read_text()).values()
    assert {each["factor"] for each in found["studies"]} == {"", "wording", "label order", "rater"}


def test_one_clip_is_said_to_be_no_study(lm_eval, tmp_path):
    lm_eval(tmp_path, 0.8, "m", tasks=["mine_sc"], limit=1)
    (found,) = rankings(by_clips(read_runs(tmp_path))).values()
    assert not found.studies
    assert found.missing[0].startswith("no study of clips: a study of one clip")


def test_a_ranking_that_no_number_of_wordings_makes_reliable_is_said_to_be_so():
    scores = np.random.default_rng(0).normal(size=(4, 6, 5)) + np.random.default_rng(1).normal(size=(4, 6, 1))
    found = study(scores, list("abcd"), ["x"] * 6, "wording")
    assert found.needed["wording"].value == math.inf
    assert any("With any number of wordings it stays below .9" in sentence for sentence in sentences(found))
