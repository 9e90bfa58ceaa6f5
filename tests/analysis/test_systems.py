import json

import numpy as np
import pytest

from ambi_eval.analysis.ambiguity import bin_clips
from ambi_eval.analysis.references.baselines import baselines
from ambi_eval.analysis.systems import score_file
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.other_votes import target_votes
from ambi_eval.errors import AmbiError
from ambi_eval.metrics import METRICS
from ambi_eval.votes import majority, shares


def write(path, selection, labels, p):
    lines = [
        json.dumps({"id": clip.id, "distribution": dict(zip(labels, row.tolist(), strict=True))})
        for clip, row in zip(selection.clips, p, strict=True)
    ]
    path.write_text("\n".join(lines))


@pytest.fixture
def own(own_corpus, tmp_path):
    config = load_corpus(str(own_corpus))
    selection = target_votes(config)
    write(tmp_path / "p.jsonl", selection, config.labels, shares(selection.votes))
    return tmp_path / "p.jsonl", selection, config


def test_the_votes_themselves_score_the_best_value(own):
    system = score_file(*own)
    assert system.overall["jsd_bits"].value == 0
    assert system.overall["acc"].value == pytest.approx(system.baselines.best_reachable_accuracy)
    assert [scores["jsd_bits"].value > 0 for scores in system.binned] == [True] * len(system.baselines.bins), (
        "in bins a part of the raters judges"
    )
    assert system.notes == []


def test_a_partial_file_and_its_references_are_scored_on_the_same_clips(own):
    path, selection, config = own
    path.write_text("\n".join(path.read_text().split("\n")[:25]))
    with pytest.raises(AmbiError, match="15 of 40 clips are missing"):
        score_file(path, selection, config)
    system = score_file(path, selection, config, allow_partial=True)
    votes = selection.votes[:25]
    assert system.baselines.clips == 25
    assert system.notes[0].startswith("PARTIAL: 15 of 40 clips")
    prior = np.broadcast_to(shares(votes).mean(axis=0), votes.shape)
    assert system.baselines.overall["prior"]["jsd_bits"].value == pytest.approx(METRICS["jsd_bits"].value(prior, votes))


def test_edges_and_smoothing_reach_the_scores(own):
    path, selection, config = own
    write(path, selection, config.labels, majority(selection.votes))
    system = score_file(path, selection, config, edges=[1.0], smooth=True)
    assert len(system.binned) == 2
    assert system.baselines.bins[0].high <= 1 < system.baselines.bins[1].low
    assert system.overall["jsd_bits"].value < METRICS["jsd_bits"].value(majority(selection.votes), selection.votes)
    assert system.notes[0].startswith("smoothed: temperature")


@pytest.mark.slow
def test_votes_for_the_face_are_as_far_from_the_voice_as_known(
    crema_d_data, crema_d_config, crema_d_selection, tmp_path, monkeypatch
):
    monkeypatch.setenv("AMBI_DATA", str(crema_d_data))
    monkeypatch.setattr("ambi_eval.analysis.systems.baselines", lambda *args, **options: None)
    labels = crema_d_config.labels
    write(tmp_path / "face.jsonl", crema_d_selection, labels, shares(target_votes(crema_d_config, "face").votes))
    jsd = {}
    for against in ("voice", "face", "acted"):
        system = score_file(tmp_path / "face.jsonl", target_votes(crema_d_config, against), crema_d_config)
        jsd[against] = system.overall["jsd_bits"].value
    assert jsd["voice"] == pytest.approx(0.326, abs=0.001)
    assert jsd["face"] == pytest.approx(0, abs=1e-12)
    assert jsd["acted"] < jsd["voice"]  # what the probe for contamination shows of a system that knows the face


def test_each_difference_from_a_reference_is_on_the_same_clips_and_against_the_same_raters(own):
    path, selection, config = own
    q = shares(selection.votes)
    write(path, selection, config.labels, 0.8 * q + 0.2 / 3)
    system = score_file(path, selection, config)
    jsd = METRICS["jsd_bits"].per_clip
    prior = np.broadcast_to(q.mean(axis=0), q.shape)
    expected = jsd(0.8 * q + 0.2 / 3, selection.votes) - jsd(prior, selection.votes)
    assert system.baselines.against["prior"].difference.value == pytest.approx(expected.mean())
    p, votes = (0.8 * q + 0.2 / 3)[0], selection.votes[0]
    ballots = np.repeat(np.eye(3), votes.astype(int), axis=0)
    one = np.mean([jsd(p, votes - ballot) - jsd(ballot, votes - ballot) for ballot in ballots])
    alone = baselines(selection.at([0]), config, bin_clips(selection.at([0])), acoustic=False, system=p[None])
    assert alone.against["humans_1"].difference.value == pytest.approx(one)
