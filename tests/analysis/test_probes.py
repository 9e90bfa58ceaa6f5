import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from ambi_eval.analysis.probes import bits_gained, read
from ambi_eval.errors import AmbiError
from ambi_eval.votes import shares

CLIPS, SPEAKERS, LABELS, WIDTH = 600, 12, 4, 64


@pytest.fixture(scope="module")
def world():
    """Votes that follow from three hidden numbers, states that hold them among noise, and states of noise alone."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(CLIPS, 3))
    truth = softmax(1.5 * hidden @ rng.normal(size=(3, LABELS)), axis=1)
    votes = np.array([rng.multinomial(10, q) for q in truth], dtype=float)
    hearing = np.concatenate([hidden, rng.normal(size=(CLIPS, WIDTH - 3))], axis=1)
    deaf = rng.normal(size=(CLIPS, WIDTH))
    clusters = [f"speaker {number % SPEAKERS}" for number in range(CLIPS)]
    return truth, votes, hearing, deaf, clusters


def test_a_probe_reads_nearly_all_that_states_hold(world):
    truth, votes, hearing, _, clusters = world
    most = float(bits_gained(truth, shares(votes).mean(axis=0), votes).mean())
    assert 0.93 * most < read({"layer": hearing}, votes, clusters).gain.value < most


def test_a_probe_reads_nothing_from_noise(world):
    _, votes, _, deaf, clusters = world
    assert read({"layer": deaf}, votes, clusters).gain.value == pytest.approx(0, abs=0.01)


def test_a_probe_of_shuffled_votes_reads_nothing(world):
    _, votes, hearing, _, clusters = world
    assert read({"layer": hearing}, votes, clusters, shuffled=True).gain.value == pytest.approx(0, abs=0.01)


def test_the_place_is_chosen_within_the_folds(world):
    _, votes, hearing, deaf, clusters = world
    reading = read({"deaf": deaf, "hearing": hearing}, votes, clusters)
    assert set(reading.places) == {"hearing"}
    assert np.allclose(reading.p, read({"hearing": hearing}, votes, clusters).p)


def test_what_marks_a_speaker_does_not_help_on_other_speakers():
    """States that hold nothing but the speaker: a fit that saw test speakers would read their habits."""
    rng = np.random.default_rng(1)
    numbers = np.arange(CLIPS) % SPEAKERS
    habits = rng.dirichlet(np.full(LABELS, 0.2), SPEAKERS)
    votes = np.array([rng.multinomial(10, habits[number]) for number in numbers], dtype=float)
    states = np.eye(SPEAKERS)[numbers] + 0.01 * rng.normal(size=(CLIPS, SPEAKERS))
    leaky = read({"layer": states}, votes, range(CLIPS)).gain.value  # every clip a speaker of its own
    assert leaky > 0.5
    assert read({"layer": states}, votes, numbers.tolist()).gain.value < 0.1 * leaky


def test_a_label_without_votes_in_a_fold_gets_no_share():
    votes = np.array([[3, 2, 0], [1, 4, 0], [2, 2, 1]] * 4, dtype=float)
    states = np.random.default_rng(0).normal(size=(12, 2))
    p = read({"layer": states}, votes, ["a", "b", "c"] * 4).p
    assert np.allclose(p.sum(axis=1), 1)
    assert (p[2::3, 2] == 0).all()  # only speaker c heard it, and c is held out


def test_bits_gained_are_the_difference_of_two_divergences():
    rng = np.random.default_rng(2)
    p, prior, votes = rng.dirichlet([1] * 3, 5), rng.dirichlet([1] * 3), rng.integers(1, 5, (5, 3)).astype(float)
    q = shares(votes)
    expected = [entropy(row, prior, base=2) - entropy(row, guess, base=2) for row, guess in zip(q, p, strict=True)]
    assert np.allclose(bits_gained(p, prior, votes), expected)


def test_two_speakers_are_too_few():
    with pytest.raises(AmbiError, match="at least three speakers to be fitted and tested, there are 2"):
        read({"layer": np.zeros((4, 2))}, np.ones((4, 2)), ["a", "a", "b", "b"])
