import numpy as np
import pytest

from ambi_eval.analysis.raters.ballots import Ballots, ballots_of
from ambi_eval.config.corpus_settings import CorpusSettings
from ambi_eval.corpora.manifest import Clip, Manifest, Rating
from ambi_eval.corpora.select import select

SETTINGS = CorpusSettings(task="mine", manifest="mine", labels=["calm", "tense"], outside="renormalise")


def clip(name, *ratings):
    votes = {}
    for _, labels in ratings:
        for label in labels:
            votes[label] = votes.get(label, 0) + 1 / len(labels)
    panel = tuple(Rating(rater, tuple(labels)) for rater, labels in ratings)
    return Clip(id=name, votes=votes, ratings=panel, speaker=name[0])


def test_ballots_are_those_of_clips_with_two_raters_over_the_labels_of_the_task():
    clips = [
        clip("a1", ("x", ["calm"]), ("y", ["tense"]), ("z", ["calm", "tense"])),
        clip("a2", ("x", ["calm"]), ("y", ["other"])),  # one rater is left
        clip("b1", ("y", ["tense", "other"]), ("x", ["tense"])),
    ]
    found = ballots_of(select(SETTINGS, Manifest(clips), hear=False), SETTINGS)
    assert found.clip.tolist() == [0, 0, 0, 2, 2]
    assert [found.names[rater] for rater in found.rater] == ["x", "y", "z", "y", "x"]
    assert found.votes.tolist() == [[1, 0], [0, 1], [0.5, 0.5], [0, 1], [0, 1]]
    assert found.others[0].tolist() == [0.25, 0.75]
    assert found.clusters == ["a", "a", "a", "b", "b"]
    assert found.clips == 2
    assert found.raters_are_known


def test_there_are_no_ballots_without_single_ratings():
    selection = select(SETTINGS, Manifest([Clip(id="a", votes={"calm": 3.0, "tense": 2.0})]), hear=False)
    assert ballots_of(selection, SETTINGS) is None


def test_the_log_score_of_a_ballot_is_that_of_its_label(simulated):
    ballots = simulated.ballots
    p = np.tile([0.1, 0.2, 0.3, 0.4], (len(ballots.clip), 1))
    label = ballots.votes.argmax(axis=1)
    assert ballots.scores(p, "nll_bits") == pytest.approx(-np.log2(p[0][label]))
    of_seeds = ballots.scores(np.stack([p, np.full_like(p, np.nan)]), "brier_sum")
    assert of_seeds == pytest.approx((ballots.scores(p, "brier_sum") + 2) / 2)  # an invalid seed scores the worst


def test_two_way_intervals_cover_where_raters_differ_and_those_by_speaker_alone_do_not():
    rng = np.random.default_rng(0)
    clips, raters, panel = 120, 12, 3
    clip = np.repeat(np.arange(clips), panel)
    rater = np.concatenate([rng.choice(raters, panel, replace=False) for _ in range(clips)])
    speakers = [f"s{number % 15}" for number in clip]
    ballots = Ballots(clip, rater, np.eye(2)[clip % 2], [str(r) for r in range(raters)], speakers)
    alone = Ballots(clip, np.arange(len(clip)), ballots.votes, [str(r) for r in range(len(clip))], speakers)
    covered = np.zeros(2)
    for _ in range(150):
        of_speaker = rng.normal(size=15)[[int(name[1:]) for name in speakers]]
        scores = 0.3 * of_speaker + rng.normal(size=raters)[rater] + rng.normal(size=len(clip))
        covered += [found.low < 0 < found.high for found in (ballots.mean(scores), alone.mean(scores))]
    assert covered[0] / 150 > 0.88
    assert covered[1] / 150 < 0.75
