"""FLOPs as functions of seconds and tokens."""

import pytest

from ambi_eval.costs.flops import ForwardFlops

FLOPS = ForwardFlops([1.0, 4.0, 30.0], [10.0, 40.0, 100.0], longest=None, token=7.0, attention=2.0, head=3.0)
CUT = ForwardFlops([1.0, 4.0, 30.0], [10.0, 40.0, 100.0], longest=30.0, token=7.0, attention=2.0, head=3.0)


@pytest.mark.parametrize(
    ("seconds", "cost"),
    [(0.2, 10), (1, 10), (2, 20), (4, 40), (17, 70), (30, 100), (30.5, 110), (60, 200), (64, 240)],
)
def test_hearing_is_interpolated_and_long_audio_counts_in_pieces(seconds, cost):
    assert FLOPS.encoder(seconds) == pytest.approx(cost)


def test_audio_beyond_what_the_model_hears_costs_nothing():
    assert CUT.encoder(31) == CUT.encoder(300) == 100


def test_every_token_attends_to_all_before_it():
    passes = [FLOPS.token + FLOPS.head + context * FLOPS.attention for context in (101, 102, 103)]
    assert FLOPS.decode(4, 100) == sum(passes)
    assert FLOPS.decode(1, 100) == FLOPS.decode(0, 100) == 0
    assert FLOPS.prefill(10) == 10 * 7 + 100 * 2 + 3


def test_results_of_older_runs_name_one_window():
    old = ForwardFlops.from_json({"window": 50.0, "window_seconds": 30.0, "token": 7.0, "attention": 2.0, "head": 3.0})
    assert [old.encoder(seconds) for seconds in (1, 30, 30.5, 60)] == [50, 50, 100, 100]
    assert old.prefill(10) == FLOPS.prefill(10)
