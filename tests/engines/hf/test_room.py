import pytest
import torch

from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.hf import room
from ambi_eval.engines.hf.prompts import Prefilled, Prompt


def test_free_memory_is_that_of_the_machine():
    assert 10**6 < room._free_memory(torch.device("cpu")) < 10**14


def test_a_prompt_counts_once_where_its_answers_share_it(monkeypatch):
    """Qwen2-Audio-7B: 850 tokens of 512 KB each, 20 answers of 64 tokens, 48 GB of free memory."""
    monkeypatch.setattr(room, "_free_memory", lambda device: 48e9)
    keys = torch.empty(1, 32, 850, 128, dtype=torch.bfloat16, device="meta")
    logits, ids = torch.empty(156_032, device="meta"), torch.empty(1, 850, device="meta")
    prefilled = Prefilled([(keys, keys)] * 32, logits, ids, rope_delta=0)
    prompt = Prompt({"input_ids": ids}, range(20), GenerationSettings(max_gen_toks=64))
    clips = {}
    for share in (True, False):
        held = room.Room(None, 64, widest=20)
        held.measure(prompt, prefilled, share)
        clips[share] = held.rows / 20
        assert held.holds(int(clips[share]), held.rows)
        assert not held.holds(int(clips[share]) + 1, held.rows + 20)
    assert clips == {True: 19, False: 1}
    held = room.Room(None, 64, widest=20)
    held.measure(prompt, prefilled, True)
    assert held.holds(40, 40)
    assert not held.holds(70, 70)  # of one answer each: the prompts need the memory


@pytest.mark.parametrize(
    ("speed", "rows"),
    [
        (lambda rows: 100.0, 20),  # as a CPU does
        (lambda rows: rows, 20 * 2**9),  # as a GPU does, up to what the steps of this test reach
        (lambda rows: {20: 400, 40: 700, 80: 820, 160: 660}[rows], 80),
        (lambda rows: {20: 400, 40: 410}[rows], 20),  # too little to be worth the memory
    ],
)
def test_more_answers_go_together_as_long_as_that_is_faster(speed, rows):
    pace = room.Pace(20)
    for _ in range(10_000):
        if pace.rows >= rows and pace.rows > 5000:
            break
        pace.watch(pace.rows, pace.rows, pace.rows / speed(pace.rows))
        pace.watch(pace.rows // 2, 1, 1000.0)  # a batch that is half empty says nothing
    assert pace.rows == rows
