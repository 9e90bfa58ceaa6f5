from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ambi_eval.config.generation import GenerationSettings
from ambi_eval.sampling import gumbel
from ambi_eval.sampling.gumbel import choose_tokens, log_normalizers
from ambi_eval.sampling.keys import row_key

INT64 = st.integers(-(2**63), 2**63 - 1)


def keys(n, *parts):
    return torch.tensor([row_key(*parts, k) for k in range(n)])


def gumbel_noise(keys, steps, token_ids):
    """Return the noise of every row (key and step) for these tokens: the plain way, with which the fast one agrees."""
    return gumbel._noise(gumbel._hash(keys ^ gumbel._hash(steps))[:, None] ^ gumbel._hash(token_ids))


def draw(logits, settings, n=20_000, step=0):
    rows = keys(n, "draw", settings)
    return choose_tokens(logits.expand(n, -1), settings, rows, torch.full((n,), step))


def test_greedy_is_the_argmax():
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(0))
    chosen = choose_tokens(logits, GenerationSettings(), keys(50), torch.zeros(50, dtype=torch.long))
    assert torch.equal(chosen, logits.argmax(-1))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_draws_follow_the_softmax(temperature):
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0, 0.5])
    counts = torch.bincount(draw(logits, GenerationSettings(temperature=temperature)), minlength=6)
    expected = (logits / temperature).softmax(-1).double()
    assert stats.chisquare(counts, counts.sum() * expected / expected.sum()).pvalue > 0.001


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 1}, [0]),
        ({"top_k": 3}, [0, 1, 5]),
        ({"top_p": 0.5}, [0]),
        ({"top_p": 0.75}, [0, 1]),
        ({"top_k": 3, "top_p": 0.95}, [0, 1, 5]),
        ({"top_k": 99}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_top_k_and_top_p_cut_the_tail_and_keep_the_proportions(options, kept):
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0, 0.5])  # shares .53, .20, .07, .03, .00, .12
    counts = torch.bincount(draw(logits, GenerationSettings(temperature=1.0, **options)), minlength=6)
    assert counts[[token for token in range(6) if token not in kept]].sum() == 0
    if len(kept) > 1:
        expected = logits[kept].softmax(-1).double()
        assert stats.chisquare(counts[kept], counts.sum() * expected / expected.sum()).pvalue > 0.001


@pytest.mark.slow
@pytest.mark.parametrize("margin", [gumbel.MARGIN, -3.0], ids=["as it is", "too small"])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0, 30.0])
def test_candidates_give_the_draws_of_the_whole_vocabulary(scale, margin, monkeypatch):
    """Also where the best candidate is below the margin, which is seldom as it is."""
    monkeypatch.setattr(gumbel, "MARGIN", margin)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    whole = mock.Mock(wraps=gumbel._draw_from_all)
    monkeypatch.setattr(gumbel, "_draw_from_all", whole)
    generator = torch.Generator().manual_seed(0)
    for size in (1, 7, 1000, 40_000):
        logits = scale * torch.randn(60, size, generator=generator)
        logits[:, size // 2 + 1 :: 5] = -torch.inf
        rows, steps = keys(60, scale, size), torch.randint(300, (60,), generator=generator)
        for temperature in (0.8, 1.0):
            settings = GenerationSettings(temperature=temperature)
            expected = (logits / temperature + gumbel_noise(rows, steps, torch.arange(size))).argmax(-1)
            assert torch.equal(choose_tokens(logits, settings, rows, steps), expected)
            larger = log_normalizers(logits) + 0.05  # as before some tokens were suppressed
            assert torch.equal(choose_tokens(logits, settings, rows, steps, larger), expected)
    assert whole.called is (margin < 0)


def test_what_is_suppressed_is_never_drawn():
    logits = torch.tensor([0.0, -torch.inf, 0.0])
    for settings in (GenerationSettings(temperature=1.0), GenerationSettings(temperature=1.0, top_p=0.99)):
        assert set(draw(logits, settings).tolist()) == {0, 2}


def test_a_row_does_not_know_its_neighbours():
    settings = GenerationSettings(temperature=0.8, top_k=40, top_p=0.9)
    logits = torch.randn(30, 500, generator=torch.Generator().manual_seed(0))
    rows, steps = keys(30), torch.arange(30)
    together = choose_tokens(logits, settings, rows, steps)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    assert torch.equal(choose_tokens(logits[order], settings, rows[order], steps[order]), together[order])
    alone = [choose_tokens(logits[[i]], settings, rows[[i]], steps[[i]]) for i in range(30)]
    assert torch.equal(torch.cat(alone), together)


def test_the_noise_is_standard_gumbel_and_independent_between_rows_steps_and_tokens():
    noise = gumbel_noise(keys(200), torch.zeros(200, dtype=torch.long), torch.arange(500))
    assert stats.kstest(noise.flatten().numpy(), "gumbel_r").pvalue > 0.001
    later = gumbel_noise(keys(200), torch.ones(200, dtype=torch.long), torch.arange(500))
    for one, other in ((noise[:-1], noise[1:]), (noise[:, :-1], noise[:, 1:]), (noise, later)):
        assert abs(np.corrcoef(one.flatten(), other.flatten())[0, 1]) < 0.015


def test_the_noise_of_chosen_tokens_is_that_of_the_whole_vocabulary():
    rows, steps = keys(5), torch.arange(5)
    whole = gumbel_noise(rows, steps, torch.arange(1000))
    some = torch.randint(1000, (5, 20), generator=torch.Generator().manual_seed(0))
    assert torch.equal(gumbel_noise(rows, steps, some), whole.gather(-1, some))


@given(key=INT64, step=st.integers(0, 10_000), token=st.integers(0, 300_000))
def test_the_noise_is_finite_and_that_of_splitmix64(key, step, token):
    noise = float(gumbel_noise(torch.tensor([key]), torch.tensor([step]), torch.tensor([token])))
    row = _splitmix64(key ^ _splitmix64(step))
    uniform = ((_splitmix64(row ^ _splitmix64(token)) >> 32) + 0.5) / 2**32
    assert noise == pytest.approx(-np.log(-np.log1p(-uniform)), rel=1e-4, abs=1e-4)


def _splitmix64(x):
    """The published algorithm on unsigned integers."""
    mask = 2**64 - 1
    x = (x + 0x9E3779B97F4A7C15) & mask
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
    return x ^ x >> 31
