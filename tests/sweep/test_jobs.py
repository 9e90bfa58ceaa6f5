"""What a process of a sweep does with what goes wrong."""

from contextlib import suppress
from pathlib import Path

import pytest

from ambi_eval.errors import AmbiError, NotYetError
from ambi_eval.sweep.jobs import outcome


class Failing:
    """A worker whose cells fail."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def run(self, cell: object) -> None:
        raise self.error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (AmbiError("give another path."), "give another path."),
    ],
)
def test_the_reason_is_told_even_where_the_log_lies_on_a_full_disk(error, reason, monkeypatch):
    found = None
    with suppress(OSError), Path("/dev/full").open("w", encoding="utf-8", buffering=1) as log:  # closing it fails too
        monkeypatch.setattr("sys.stderr", log)
        found = outcome(Failing(error), None)
        monkeypatch.undo()
    assert found == ("failed", reason)


def test_what_is_not_there_yet_has_not_failed():
    assert outcome(Failing(NotYetError("run it later")), None) == ("waits", "run it later")
