import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from ambi_eval.analysis.information.folds import Folds, bits_gained
from ambi_eval.analysis.information.probes import Probes, of_another_clip, read, softmax_regression
from ambi_eval.errors import AmbiError
from ambi_eval.votes import shares

CLIPS, SPEAKERS, LABELS, WIDTH = 360, 12, 4, 24


@pytest.fixture(scope="module")
def world():
    """Votes that follow from three hidden numbers, states that hold them among noise, and states of noise alone."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(CLIPS, 3))
    truth = softmax(1.5 * hidden @ rng.normal(size=(3, LABELS)), axis=1)
    votes = np.array([rng.multinomial(10, q) for q in truth], dtype=float)
    hearing = np.concatenate([hidden, rng.normal(size=(CLIPS, WIDTH - 3))], axis=1)
    deaf = rng.normal(size=(CLIPS, WIDTH))
    return truth, Folds(votes, [f"speaker {number % SPEAKERS}" for number in range(CLIPS)]), hearing, deaf


@pytest.fixture(scope="module")
def probes(world):
    _, folds, hearing, deaf = world
    fitted = Probes(folds)
    return fitted, fitted.fit("hearing", hearing), fitted.fit("deaf", deaf)


def test_a_probe_reads_nearly_all_that_states_hold(world, probes):
    truth, folds, *_ = world
    most = float(bits_gained(truth, shares(folds.votes).mean(axis=0), folds.votes).mean())
    _, reading, _ = probes
    assert 0.9 * most < reading.gain.value < most
    assert reading.gain.low > 0


def test_a_probe_reads_nothing_from_noise(probes):
    assert probes[2].gain.value == pytest.approx(0, abs=0.01)


def test_a_probe_of_shuffled_votes_reads_nothing(world):
    _, folds, hearing, _ = world
    assert read({"layer": hearing}, folds, shuffle=0).gain.value == pytest.approx(0, abs=0.01)


def test_the_place_is_chosen_within_the_folds(probes):
    fitted, hearing, _ = probes
    best = fitted.best(["deaf", "hearing"])
    assert set(best.places) == {"hearing"}
    assert best.place == "hearing"
    assert np.array_equal(best.p, hearing.p)


def test_no_fit_sees_a_speaker_that_it_is_tested_on(world):
    """What a fold predicts stays the same, whatever its own states of other clips, and all of its votes, are."""
    _, folds, hearing, _ = world
    _, unseen = folds.splits[0]
    votes, states = folds.votes.copy(), hearing.copy()
    votes[unseen] = votes[unseen][::-1]
    states[unseen[1:]] += 1000
    before = read({"layer": hearing}, folds).p[unseen[0]]
    after = read({"layer": states}, Folds(votes, folds.clusters)).p[unseen[0]]
    assert np.allclose(before, after, atol=1e-10)


def test_what_marks_a_speaker_does_not_help_on_other_speakers():
    """States that hold nothing but the speaker: a fit that saw test speakers would read their habits."""
    rng = np.random.default_rng(1)
    numbers = np.arange(CLIPS) % 50
    habits = rng.dirichlet(np.full(LABELS, 0.2), 50)
    votes = np.array([rng.multinomial(10, habits[number]) for number in numbers], dtype=float)
    states = np.eye(50)[numbers] + 0.05 * rng.normal(size=(CLIPS, 50))
    leaky = read({"layer": states}, Folds(votes, range(CLIPS))).gain.value  # every clip a speaker of its own
    assert leaky > 0.5
    assert read({"layer": states}, Folds(votes, numbers.tolist())).gain.value < 0.1 * leaky


def test_the_control_of_the_speaker_takes_the_state_of_another_of_the_speakers_clips(world):
    _, folds, hearing, _ = world
    others = of_another_clip(hearing, folds)
    for speaker in range(SPEAKERS):
        assert sorted(map(tuple, others[speaker::SPEAKERS])) == sorted(map(tuple, hearing[speaker::SPEAKERS]))
    assert not (others == hearing).all(axis=1).any()
    assert read({"layer": others}, folds).gain.value == pytest.approx(0, abs=0.02)
    alone = Folds(folds.votes[:5], list("abcde"))
    assert np.allclose(of_another_clip(hearing[:5], alone), hearing[:5].mean(axis=0))


def test_votes_that_are_dealt_at_random_come_from_clips_that_the_fit_may_see(world):
    """Else the control would know how often the tested clips got each label."""
    _, folds, hearing, _ = world
    _, unseen = folds.splits[0]
    votes = folds.votes.copy()
    votes[unseen] = [40, 0, 0, 0]
    p = read({"layer": hearing}, folds, shuffle=0).p[unseen]
    assert np.array_equal(read({"layer": hearing}, Folds(votes, folds.clusters), shuffle=0).p[unseen], p)


def test_wide_states_are_read_in_some_directions(world, monkeypatch):
    _, folds, hearing, _ = world
    monkeypatch.setattr("ambi_eval.analysis.information.probes.MOST_DIRECTIONS", 8)
    rng = np.random.default_rng(3)
    wide = np.concatenate([np.repeat(hearing[:, :3], 10, axis=1), rng.normal(size=(CLIPS, 20))], axis=1)
    narrow = read({"layer": hearing[:, :3]}, folds).gain.value
    assert read({"layer": wide.astype(np.float32)}, folds).gain.value > 0.9 * narrow


def test_states_that_never_change_are_read_as_the_prior(world):
    _, folds, *_ = world
    assert read({"layer": np.ones((CLIPS, 5))}, folds).gain.value == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_states_that_are_not_finite_are_refused_and_not_read_as_the_prior(broken):
    states = np.zeros((5, 2))
    states[3, 1] = broken
    with pytest.raises(AmbiError, match=r"layer 4: the states of 1 of 5 clips hold NaN or infinity.*dtype=bfloat16"):
        read({"layer 4": states}, Folds(np.ones((5, 2)), list("aabbc")))


@pytest.mark.parametrize(
    ("votes", "speakers"),
    [
        ([[5, 0], [4, 1], [0, 5], [1, 4], [3, 2]], "aabbc"),  # five clips of three speakers
        ([[5, 0]] * 12, "aaaabbbbcccc"),  # all raters always agree
        ([[5, 0, 0], [0, 5, 0]] * 6, "aaaaaaaaaabc"),  # nearly all clips of one speaker, a label without votes
    ],
)
def test_from_noise_no_bit_is_shown_on_few_or_strange_clips(votes, speakers):
    folds = Folds(np.array(votes, dtype=float), list(speakers))
    states = np.random.default_rng(0).normal(size=(len(votes), 6))
    assert read({"layer": states}, folds).gain.low < 1e-6


def test_a_label_without_votes_in_a_fold_gets_next_to_no_share():
    votes = np.array([[3, 2, 0], [1, 4, 0], [2, 2, 1]] * 4, dtype=float)
    p = read({"layer": np.random.default_rng(0).normal(size=(12, 2))}, Folds(votes, ["a", "b", "c"] * 4)).p
    assert np.allclose(p.sum(axis=1), 1)
    assert (p[2::3, 2] < 1e-3).all()  # only speaker c heard it, and c is held out


@pytest.mark.parametrize("strength", [0.5, 20.0])
def test_the_regression_is_that_of_scikit_learn(world, strength):
    _, folds, hearing, _ = world
    x, q = hearing[:80, :6], shares(folds.votes[:80])
    weights = softmax_regression(x, q, strength, np.zeros((7, LABELS)))
    clips, labels = np.nonzero(q)
    theirs = LogisticRegression(C=1 / strength, tol=1e-8, max_iter=2000).fit(
        x[clips], labels, sample_weight=q[clips, labels]
    )
    assert np.allclose(softmax(x @ weights[:-1] + weights[-1], axis=1), theirs.predict_proba(x), atol=1e-3)
