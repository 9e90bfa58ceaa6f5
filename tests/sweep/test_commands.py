"""`ambi-eval sweep` where a service answers in batches: what is not ready waits, and all else goes on."""

import pytest
from support import commands
from support.batch_server import BatchTestServer

from ambi_eval.sweep import commands as sweep_commands
from ambi_eval.sweep.jobs import Event, run_job


class InThisProcess:
    """Runs jobs here, without the seconds in which a process starts."""

    def __init__(self):
        self.jobs = []

    def submit(self, job):
        self.jobs.append(job)

    def events(self):
        while self.jobs:
            job, seen = self.jobs.pop(0), []
            run_job(job, seen.append)
            yield from (*seen, Event(job.name, "ended"))

    def close(self):
        pass


@pytest.fixture
def server():
    api = BatchTestServer()
    yield api
    api.close()


@pytest.mark.slow
def test_a_batch_that_is_not_ready_waits_and_the_same_command_later_collects_it(
    server, chat_server, write_grid, tmp_path, monkeypatch
):
    monkeypatch.setattr(sweep_commands, "_runner", lambda *_: InThisProcess())
    server.polls = 1
    chat_server.answer = server.chat.answer
    later = {"model": "listener", "base_url": server.url, "batch": True, "batch_wait": 0}
    now = {"model": "listener", "base_url": chat_server.url}
    models = {name: {"model": "openai-audio", "model_args": args} for name, args in (("later", later), ("now", now))}
    file = write_grid(tmp_path, models=models, limit=2)

    def sweep():
        done = commands.ambi_eval("sweep", file, "-o", "out", cwd=tmp_path)
        return (
            done.returncode,
            [line.partition(":")[0] for line in done.stderr.splitlines() if "is not ready" in line],
            done,
        )

    code, told, done = sweep()
    assert (code, told) == (4, ["later/ambi_demo_sc.seed-0 is not ready"]), done
    assert "run the same command later" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if "JSD: " in line] == ["1/2"]
    assert "wrote " in done.stdout, "the report of what is there"
    paid, asked = len(server.answered), len(chat_server.bodies)
    code, told, done = sweep()
    assert (code, told) == (0, []), done
    assert (len(server.answered), len(chat_server.bodies)) == (paid, asked) != (0, 0)
