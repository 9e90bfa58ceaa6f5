"""Work that runs when the process is to end is finished, inside other such work, too."""

from threading import Event

import pytest

from ambi_eval.engines.openai import concurrency


class LeftError(Exception):
    """Stands for the end of the process."""


def test_at_ctrl_c_the_requests_of_a_verifier_and_those_around_them_are_finished_and_no_more_begun(monkeypatch):
    monkeypatch.setattr(concurrency, "_ending", None)
    begun = {item: Event() for item in "ab12"}
    pressed, finished, answers, ratings = Event(), [], iter("abc"), iter("123")

    def leave():
        raise LeftError

    def work(item):
        begun[item].set()
        assert {"a": begun["b"], "1": begun["2"]}.get(item, pressed).wait(10)
        return item

    def run():
        for answer, _ in concurrency.concurrently(work, lambda: next(answers, None), 2):
            finished.append(answer)
            for rating, _ in concurrency.concurrently(work, lambda: next(ratings, None), 2):
                finished.append(rating)
                if rating == "1":
                    assert concurrency.finish(10, leave) == 2
                    pressed.set()

    with pytest.raises(LeftError):
        run()
    assert finished == ["a", "1", "2", "b"]
