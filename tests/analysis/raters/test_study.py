import json

import numpy as np
import pytest
from support.references import references
from typer.testing import CliRunner

from ambi_eval.analysis.raters.study import REFERENCES, study_raters
from ambi_eval.cli import app
from ambi_eval.config.corpus_settings import CorpusSettings
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.manifest import Clip, Manifest, Rating, write_manifest
from ambi_eval.corpora.other_votes import target_votes
from ambi_eval.corpora.recipes import emozionalmente, whiser
from ambi_eval.corpora.select import select
from ambi_eval.paths import manifest_path

LABELS = ["angry", "happy", "sad", "neutral"]
SETTINGS = CorpusSettings(task="mine", manifest="mine", labels=LABELS)


@pytest.fixture(scope="module")
def selection(simulated):
    """The simulated ballots as a corpus of clips, with the sex of the raters."""
    ballots = simulated.ballots
    clips = []
    for number in range(400):
        rows = np.flatnonzero(ballots.clip == number)
        panel = tuple(Rating(f"rater{ballots.rater[row]}", (LABELS[ballots.votes[row].argmax()],)) for row in rows)
        counts = {label: float(sum(rating.labels == (label,) for rating in panel)) for label in LABELS}
        clips.append(Clip(id=f"{number:03}", votes=counts, speaker=f"speaker{number % 20}", ratings=panel))
    sex = {f"rater{number}": {"sex": "female" if number % 2 else "male"} for number in range(30)}
    return select(SETTINGS, Manifest(clips, {"raters": sex}), hear=False)


def test_systems_stand_beside_the_references_and_their_seeds_are_averaged(selection):
    good = selection.votes / selection.votes.sum(axis=1, keepdims=True)
    bad = np.full_like(good, 0.25)
    study = study_raters(selection, SETTINGS, {"good": good, "seeds": np.stack([good, bad])})
    assert list(study.scores) == ["uniform", "prior", "others", "others_shrunk", "good", "seeds"]
    of = {name: scores["brier_sum"].value for name, scores in study.scores.items()}
    assert of["uniform"] == pytest.approx(0.75)
    assert of["seeds"] == pytest.approx((of["good"] + of["uniform"]) / 2)
    assert study.minus_prior["good"]["brier_sum"].value == pytest.approx(of["good"] - of["prior"])
    assert study.minus_prior["good"]["brier_sum"].high < 0
    assert [group.name for group in study.groups] == ["female", "male"]
    gap, beyond = study.groups[0].gaps, study.groups[0].beyond_prior["good"]
    assert beyond["nll_bits"].value == pytest.approx(gap["good"]["nll_bits"].value - gap["prior"]["nll_bits"].value)


def test_the_prior_of_a_ballot_does_not_know_its_speaker(selection):
    """Only one speaker is ever sad, so the prior of that speaker's clips gives it nothing."""
    settings = SETTINGS.model_copy(update={"labels": ["calm", "sad"]})
    clips = [
        Clip(
            id=f"{speaker}{number}",
            votes={label: 2.0},
            speaker=speaker,
            ratings=(Rating("x", (label,)), Rating("y", (label,))),
        )
        for speaker, label in (("anna", "sad"), ("ben", "calm"), ("carl", "calm"))
        for number in range(2)
    ]
    study = study_raters(select(settings, Manifest(clips), hear=False), settings)
    floor = -np.log2(1e-4)
    assert study.scores["prior"]["nll_bits"].value == pytest.approx((floor + 2 * 1.0) / 3)


class TestCommand:
    """`ambi-eval raters`."""

    @pytest.fixture(autouse=True)
    def corpus(self, tmp_path, monkeypatch, selection):
        monkeypatch.setenv("AMBI_DATA", str(tmp_path))
        (tmp_path / "mine.yaml").write_text(f"manifest: mine\nlabels: [{', '.join(LABELS)}]\n")
        write_manifest(manifest_path("mine"), selection.clips, {"raters": dict(selection.raters)})
        return tmp_path

    def test_it_shows_scores_groups_and_reliability(self, corpus):
        lines = [{"id": f"{n:03}", "distribution": dict.fromkeys(LABELS, 0.25)} for n in range(400)]
        (corpus / "flat.jsonl").write_text("\n".join(map(json.dumps, lines)))
        arguments = ["raters", str(corpus / "mine.yaml"), "--no-latent", "--with", str(corpus / "flat.jsonl")]
        shown = CliRunner().invoke(app, arguments)
        assert shown.exit_code == 0, shown.output
        assert "sex: female" in shown.stdout
        assert "30 raters" in shown.stdout
        found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
        assert found["scores"]["flat"] == found["scores"]["uniform"]
        assert len(found["reliability"]["shrunk"]) == 30

    def test_a_corpus_without_single_ratings_is_one_sentence(self, corpus):
        write_manifest(manifest_path("mine"), [Clip(id="a", votes={"angry": 2.0, "sad": 1.0})])
        result = CliRunner().invoke(app, ["raters", str(corpus / "mine.yaml")])
        assert result.exit_code == 2
        assert "has no single ratings" in result.stderr


class TestRealRatings:
    """Emozionalmente's 829 raters and WHiSER's 33."""

    @pytest.fixture
    def study(self, real_labels, tmp_path, monkeypatch):
        monkeypatch.setenv("AMBI_DATA", str(tmp_path))

        def of(name, recipe):
            recipe.prepare(real_labels(name), manifest_path(name).parent, allow_missing_audio=True)
            settings = load_corpus(name)
            selection = target_votes(settings)
            return selection, study_raters(selection, settings)

        return of

    def test_emozionalmente(self, study):
        selection, found = study("emozionalmente", emozionalmente)
        assert (found.clips, found.raters) == (6_902, 829)
        # One human as an independent computation has it, each clip counting once.
        assert found.one_human.value == pytest.approx(references(selection.votes)["one human"], abs=5e-4)
        assert found.one_human_by_speaker.value == pytest.approx(found.one_human.value)
        two_way, one_way = (each.high - each.low for each in (found.one_human, found.one_human_by_speaker))
        assert 1.2 < two_way / one_way < 2
        assert found.scores["others_shrunk"]["nll_bits"].value < found.scores["prior"]["nll_bits"].value - 1
        raters = {group.name: group.raters for group in found.groups if group.trait == "sex"}
        assert raters == {"female": 536, "male": 282, "other": 7}
        assert 0.02 < found.reliability.reliability < 0.05

    def test_whisers_few_raters_make_the_interval_several_times_wider(self, study):
        _, found = study("whiser", whiser)
        assert (found.clips, found.raters, found.groups) == (5_427, 33, [])
        assert found.one_human.value == pytest.approx(0.473, abs=1e-3)
        two_way, one_way = (each.high - each.low for each in (found.one_human, found.one_human_by_speaker))
        assert two_way > 5 * one_way
        assert found.reliability.reliability > 0.1


def test_every_reference_is_explained(selection):
    assert set(study_raters(selection, SETTINGS).scores) <= set(REFERENCES)


def test_simulated_raters_and_those_known_within_a_clip_only_are_told_so():
    """As in the demo, and as in THAI-SER."""
    clips = [
        Clip(
            id=name,
            votes={"angry": 1.0, "sad": 1.0},
            speaker=name,
            release="simulated",
            ratings=(Rating(f"{name}/1", ("angry",)), Rating(f"{name}/2", ("sad",))),
        )
        for name in "abc"
    ]
    study = study_raters(select(SETTINGS, Manifest(clips), hear=False), SETTINGS, latent=True)
    assert [note.split(":")[0] for note in study.notes] == ["SIMULATED raters", "raters are known within a clip only"]
    assert (study.raters, study.reliability, study.groups) == (None, None, [])
