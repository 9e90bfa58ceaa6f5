import numpy as np
import pytest
import soundfile
from support import ROOT

from ambi_eval.analysis.ambiguity import bin_clips
from ambi_eval.analysis.evaluate import WORTH
from ambi_eval.analysis.references.baselines import REFERENCES, baselines
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.manifest import Clip, Rating, write_manifest
from ambi_eval.corpora.other_votes import target_votes
from ambi_eval.corpora.select import select
from ambi_eval.metrics import METRICS
from ambi_eval.votes import shares

CREMA_D = [
    ("uniform", "jsd_bits", 0.378),
    ("uniform", "bc", 0.657),
    ("uniform", "sq_debiased", 0.2987),
    ("prior", "jsd_bits", 0.290),
    ("prior", "bc", 0.738),
    ("prior", "r2_pearson", 0.470),
    ("prior", "sq_debiased", 0.2065),
    ("prior", WORTH, 2.59),
    ("prior_loso", "jsd_bits", 0.2906),
    ("prior_loso", "bc", 0.7375),
    ("prior_loso", "r2_pearson", 0.4701),
    ("always_majority", "jsd_bits", 0.433),
    ("always_majority", "bc", 0.589),
    ("always_majority", "acc", 0.5533),
    ("majority_oracle", "jsd_bits", 0.223),
    ("majority_oracle", "bc", 0.789),
    ("majority_oracle", "acc", 0.955),
    ("majority_oracle_tie_split", "jsd_bits", 0.197),
    ("majority_oracle_tie_split", "bc", 0.813),
    ("one_human", "jsd_bits", 0.406),
    ("one_human", "bc", 0.616),
    ("half_panel", "jsd_bits", 0.2309),
    ("half_panel", "bc", 0.7800),
    ("half_panel", "r2_pearson", 0.5813),
    ("half_panel", "acc", 0.6419),
    ("perfect_model", "jsd_bits", 0.052),
    ("perfect_model", "bc", 0.955),
    ("perfect_model", "sq_debiased", 0.0),
    ("humans_1", "jsd_bits", 0.4050),
    ("humans_2", "jsd_bits", 0.2943),
    ("humans_3", "jsd_bits", 0.2505),
    ("humans_4", "jsd_bits", 0.2342),
    ("humans_1", "sq_debiased", 0.535 / 1),
    ("humans_2", "sq_debiased", 0.535 / 2),
    ("humans_3", "sq_debiased", 0.535 / 3),
    ("humans_4", "sq_debiased", 0.535 / 4),
    ("prior_vs_held_out_1", "jsd_bits", 0.2996),
    ("prior_vs_held_out_2", "jsd_bits", 0.3111),
    ("prior_vs_held_out_3", "jsd_bits", 0.3254),
    ("prior_vs_held_out_4", "jsd_bits", 0.3441),
]


@pytest.mark.parametrize(("reference", "metric", "value"), CREMA_D)
def test_the_references_of_the_real_votes(crema_d_baselines, reference, metric, value):
    assert crema_d_baselines.overall[reference][metric].value == pytest.approx(value, abs=0.003)


def test_the_agreement_and_the_ties_of_the_real_votes(crema_d_baselines):
    assert crema_d_baselines.clips == 7442
    assert crema_d_baselines.krippendorff_alpha == pytest.approx(0.281, abs=0.001)
    assert crema_d_baselines.best_reachable_accuracy == pytest.approx(0.955, abs=0.001)
    assert crema_d_baselines.most_frequent_label == "neutral"
    assert crema_d_baselines.first_label_accuracy == pytest.approx(0.539, abs=0.001)


def test_every_reference_has_every_metric_over_all_clips_and_in_each_bin(crema_d_baselines):
    for scores in (crema_d_baselines.overall, *crema_d_baselines.binned):
        assert set(scores) == set(REFERENCES)
        for of_reference in scores.values():
            assert list(of_reference) == [*METRICS, WORTH]


def test_speakers_make_the_interval_of_the_prior_twice_as_wide_as_independent_clips_would(
    crema_d_baselines, crema_d_selection
):
    prior = crema_d_baselines.overall["prior"]["jsd_bits"]
    human = shares(crema_d_selection.votes)
    scores = METRICS["jsd_bits"].per_clip(np.broadcast_to(human.mean(axis=0), human.shape), crema_d_selection.votes)
    independent = 1.96 * scores.std() / np.sqrt(len(scores))
    assert (prior.high - prior.value) / independent == pytest.approx(2.3, abs=0.1)


def test_in_bins_that_others_make_half_a_panel_beats_a_constant_as_it_does_over_all_clips(crema_d_baselines):
    for scores in (crema_d_baselines.overall, *crema_d_baselines.binned):
        assert scores["half_panel"]["jsd_bits"].value < scores["uniform"]["jsd_bits"].value


def test_eight_prosodic_numbers_beat_the_prior_on_the_real_clips(crema_d_baselines):
    heard, prior = (crema_d_baselines.overall[name]["jsd_bits"] for name in ("acoustic", "prior_vs_acoustic"))
    assert crema_d_baselines.counts["acoustic"] < crema_d_baselines.clips
    assert heard.high < prior.low
    assert f"acoustic: {crema_d_baselines.counts['acoustic']} of 7442 clips" in "\n".join(crema_d_baselines.notes)


def small(clips, **config):
    config = load_corpus("demo").model_copy(update={"task": "small", **config})
    selection = select(config, clips, hear=False)
    return baselines(selection, config, bin_clips(selection))


def test_what_a_corpus_lacks_is_missing_and_said():
    clips = [Clip(id=str(i), votes={"angry": 1.0 + i % 2, "sad": 0.5}, speaker="anna") for i in range(8)]
    result = small(clips)
    assert set(result.overall) == {
        "uniform",
        "prior",
        "always_majority",
        "majority_oracle",
        "majority_oracle_tie_split",
    }
    for name in ("prior_loso", "sentence_prior", "half_panel", "humans_4", "perfect_model", "acoustic"):
        assert any(note.startswith(f"{name}: 0 of 8 clips") for note in result.notes), name


def test_simulated_raters_are_said():
    clips = [Clip(id=str(i), votes={"sad": 2.0}, speaker=str(i), release="simulated") for i in range(2)]
    assert small(clips).notes[0].startswith("SIMULATED raters")


def test_raters_who_name_two_labels_guess_and_judge_with_both():
    ratings = (Rating("1", ("happy",)), Rating("2", ("happy", "sad")), Rating("3", ("sad",)))
    clips = [
        Clip(id=f"{speaker}{i}", votes={"happy": 1.5, "sad": 1.5}, speaker=speaker, ratings=ratings)
        for speaker in "ab"
        for i in range(2)
    ]
    result = small(clips)
    dealt = [([1, 0], [0.5, 1.5]), ([0.5, 0.5], [1, 1]), ([0, 1], [1.5, 0.5])]
    expected = np.mean([METRICS["jsd_bits"].per_clip(np.array(p), np.array(votes)) for p, votes in dealt])
    assert result.overall["one_human"]["jsd_bits"].value == pytest.approx(expected)
    assert result.overall["one_human"] is result.overall["humans_1"]


def test_the_sentence_prior_is_what_other_speakers_of_the_sentence_were_heard_as():
    votes = {"x": {"angry": 4.0}, "y": {"sad": 4.0}}
    clips = [Clip(id=s + t, votes=votes[t], speaker=s, sentence=t) for s in "abc" for t in "xy"]
    clips.append(Clip(id="alone", votes={"sad": 3.0}, speaker="a", sentence="only a says this"))
    result = small(clips)
    assert result.overall["sentence_prior"]["jsd_bits"].value == 0
    assert result.counts["sentence_prior"] == 6


@pytest.fixture
def tones(tmp_path, monkeypatch):
    """A prepared corpus whose pitch decides the votes: six speakers, four clips each, one file missing."""
    monkeypatch.setenv("AMBI_DATA", str(tmp_path))
    folder = tmp_path / "demo"
    folder.mkdir()
    rng = np.random.default_rng(0)
    clips = []
    for number in range(24):
        name, high = f"clip{number}", number % 2
        tone = 0.1 * np.sin(2 * np.pi * (220 if high else 110) * np.arange(12_000) / 16_000)
        if number:
            soundfile.write(folder / f"{name}.wav", tone + rng.normal(0, 0.001, 12_000), 16_000)
        votes = {"angry": 4.0, "sad": 1.0} if high else {"angry": 1.0, "sad": 4.0}
        clips.append(Clip(id=name, votes=votes, audio=f"{name}.wav", speaker=f"s{number // 4}", start=0.1, end=0.7))
    write_manifest(folder / "manifest.parquet", clips)


def test_the_acoustic_reference_listens_to_the_clips_that_have_audio(tones):
    config = load_corpus("demo")
    selection = target_votes(config)
    result = baselines(selection, config, bin_clips(selection))
    assert result.counts["acoustic"] == 23
    assert result.overall["acoustic"]["jsd_bits"].value < 0.05 < result.overall["prior_vs_acoustic"]["jsd_bits"].value
    deaf = baselines(selection, config, bin_clips(selection), acoustic=False)
    assert not {"acoustic", "prior_vs_acoustic"} & set(deaf.overall)


def test_the_documentation_shows_these_figures(crema_d_baselines):
    columns = ("jsd_bits", "bc", "r2_pearson", "acc", "macro_f1", "sq_debiased", WORTH)
    page = (ROOT / "docs" / "references.md").read_text(encoding="utf-8")
    overall = {row[0]: row[1:] for row in table_rows(page, len(columns))}
    assert set(overall) == set(REFERENCES) - {"one_human", "acoustic", "prior_vs_acoustic"}
    for name, cells in overall.items():
        assert cells == [shown(crema_d_baselines.overall[name][column]) for column in columns], name
    rows = table_rows(page, len(crema_d_baselines.bins))
    by_bin = {row[0]: row[1:] for row in rows if row[0] in REFERENCES and "±" in row[1]}
    assert len(by_bin) == 9
    for name, cells in by_bin.items():
        assert cells == [shown(scores[name]["jsd_bits"]) for scores in crema_d_baselines.binned], name


def table_rows(page, columns):
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:3] == "| `"
    ]
    return [row for row in rows if len(row) == columns + 1]


def shown(estimate):
    if not np.isfinite(estimate.value):
        return "-"
    margin = (estimate.high - estimate.low) / 2
    return " ±".join(f"{abs(x):.3f}".replace("0.", ".", 1) for x in (estimate.value, margin))
