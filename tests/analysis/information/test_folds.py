import numpy as np
import pytest
from scipy.stats import entropy

from ambi_eval.analysis.information.folds import Folds, bits_gained
from ambi_eval.errors import AmbiError
from ambi_eval.votes import shares

VOTES = np.random.default_rng(0).integers(1, 5, (60, 3)).astype(float)
SPEAKERS = [f"speaker {number % 7}" for number in range(60)]


@pytest.mark.parametrize("within", [False, True])
def test_no_speaker_stands_on_both_sides_of_a_split_and_every_clip_is_tested_once(within):
    folds = Folds(VOTES, SPEAKERS)
    for splits, clips in (
        [(folds.inner(seen), seen) for seen, _ in folds.splits] if within else [(folds.splits, np.arange(60))]
    ):
        for seen, unseen in splits:
            assert not {SPEAKERS[clip] for clip in seen} & {SPEAKERS[clip] for clip in unseen}
            assert set(seen) | set(unseen) == set(clips)
        assert sorted(np.concatenate([unseen for _, unseen in splits])) == clips.tolist()


def test_the_prior_of_a_clip_is_the_mean_of_the_clips_that_its_fit_may_see():
    folds = Folds(VOTES, SPEAKERS)
    for seen, unseen in folds.splits:
        assert np.allclose(folds.prior[unseen], shares(VOTES[seen]).mean(axis=0))


def test_clips_of_unknown_speakers_are_in_no_fold():
    folds = Folds(VOTES, ["unknown"] * 20 + SPEAKERS[20:])
    assert all(min(*seen, *unseen) >= 20 for seen, unseen in folds.splits)
    assert np.isnan(folds.prior[:20]).all()
    assert not np.isnan(folds.prior[20:]).any()


def test_bits_gained_are_the_difference_of_two_divergences():
    rng = np.random.default_rng(2)
    p, prior = rng.dirichlet([1] * 3, 5), rng.dirichlet([1] * 3)
    q = shares(VOTES[:5])
    expected = [entropy(row, prior, base=2) - entropy(row, guess, base=2) for row, guess in zip(q, p, strict=True)]
    assert np.allclose(bits_gained(p, prior, VOTES[:5]), expected)


def test_two_speakers_are_too_few():
    with pytest.raises(AmbiError, match="at least 3 speakers, there are 2"):
        Folds(np.ones((5, 2)), ["a", "a", "b", "b", "unknown"])
