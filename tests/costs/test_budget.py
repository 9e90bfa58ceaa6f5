import threading
from contextlib import suppress

import pytest

from ambi_eval.config import prices
from ambi_eval.config.prices import Price
from ambi_eval.costs.budget import Budget
from ambi_eval.errors import AmbiError


@pytest.fixture(autouse=True)
def _nothing_around_a_prompt(monkeypatch):
    monkeypatch.setattr(prices, "TEMPLATE_TOKENS", 0)


PRICE = Price(input=1_000_000, audio=2_000_000, output=3_000_000, audio_tokens_per_second=10)


@pytest.fixture
def tokens():
    return dict.fromkeys(("prompt_tokens", "audio_tokens", "generated_tokens"), 0)


def test_what_replies_took_is_what_is_spent(tokens):
    budget = Budget("m", PRICE, tokens)
    with budget.spending("abc", 1.5, 4):
        tokens.update(prompt_tokens=16, audio_tokens=15, generated_tokens=2)
    assert budget.spent == 1 + 15 * 2 + 2 * 3
    info = budget.info()
    assert (info["cost"], info["audio_seconds"], info["prices"]["source"]) == (37, 1.5, "given by the user")


def test_without_a_price_only_audio_is_counted(tokens):
    budget = Budget("m", None, tokens)
    with budget.spending("abc", 1.5, 4):
        tokens.update(prompt_tokens=16)
    assert budget.info() == {"audio_seconds": 1.5}


def test_a_limit_needs_a_price(tokens):
    with pytest.raises(AmbiError, match="max_cost=5: no price of m is known; give input_price="):
        Budget("m", None, tokens, max_cost=5.0)


def test_a_request_is_refused_where_it_could_pass_the_limit(tokens):
    budget = Budget("m", PRICE, tokens, max_cost=10.0)
    with budget.spending("abc", 0, 1):  # at most 6
        tokens.update(prompt_tokens=1, generated_tokens=1)
        with pytest.raises(
            AmbiError,
            match="before max_cost=10: 4 are spent, requests without a reply or a count of tokens may cost 6, the next",
        ):
            budget.reserve(3.0)
    budget.reserve(6.0)
    with pytest.raises(AmbiError, match="larger max_cost"):
        budget.reserve(0.1)


def test_a_request_without_a_reply_counts_as_paid(tokens):
    budget = Budget("m", PRICE, tokens, max_cost=10.0)
    with suppress(TimeoutError), budget.spending("abc", 0, 1):
        raise TimeoutError
    assert budget.info()["cost"] == 0
    assert budget.info()["cost_unanswered_at_most"] == 6
    with pytest.raises(AmbiError):
        budget.reserve(5.0)


def test_a_reply_that_does_not_count_its_tokens_counts_as_paid(tokens):
    budget = Budget("m", PRICE, tokens, max_cost=10.0)
    with budget.spending("abc", 0, 1) as request:
        request.cost = None
    assert budget.info()["cost_unanswered_at_most"] == 6
    with pytest.raises(AmbiError):
        budget.reserve(5.0)


def test_many_threads_together_do_not_pass_the_limit(tokens):
    budget, lock = Budget("m", PRICE, tokens, max_cost=50.0), threading.Lock()
    admitted = []

    def ask():
        with suppress(AmbiError), budget.spending("", 0, 1):
            with lock:
                tokens["generated_tokens"] += 1
            admitted.append(1)

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.spent == 3 * len(admitted) <= 50
    assert len(admitted) >= 8, "a reply takes no more than was set aside for it"


def test_where_a_reply_took_more_than_expected_the_next_is_expected_to(tokens):
    budget = Budget("m", PRICE, tokens)
    assert budget.most("abc", 0, 1) == 6
    with budget.spending("abc", 0, 1) as request:
        request.cost = budget.cost(9, 0, 1)
    assert budget.most("abc", 0, 1) == pytest.approx(12)
    with budget.spending("abc", 0, 1) as request:
        request.cost = 3.0
    assert budget.most("abc", 0, 1) == pytest.approx(12)
