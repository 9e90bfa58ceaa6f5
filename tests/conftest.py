"""What pytest does before and after it collects the tests; their fixtures are in support/fixtures.py."""

from __future__ import annotations

import gc
import os
import sys
from functools import cache
from pathlib import Path

import psutil
import pytest

# Before anything imports huggingface_hub. The cache folder is the same for all runs of the tests in this checkout.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).parents[1] / ".pytest_cache" / "xdg")
# The process that shares the tests among workers runs none, and starts them sooner if it does not import torch. All
# others import the fixtures before the conftest.py of any folder: they say where transformers finds some packages.
if "PYTEST_XDIST_WORKER" in os.environ or not any(each.startswith(("-n", "--numprocesses")) for each in sys.argv):
    gc.disable()  # until the end of the collection, see support/fixtures.py
    pytest.register_assert_rewrite("support.fixtures")
    import support.fixtures  # noqa: F401
# By default, a process of Ray waits for every other process of the machine.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: starts processes, trains or takes long; `make test-quick` leaves it out")
    if config.getoption("dist", "no") == "no" or hasattr(config, "workerinput"):
        config.pluginmanager.import_plugin("support.fixtures")


def pytest_xdist_auto_num_workers(config):
    """Start a worker for each processor, and one more, since tests wait for servers and processes."""
    return psutil.cpu_count() + 1


@cache
def starts_processes(file):
    """Whether the fork server of support/processes.py starts processes for this test file or for its fixtures."""
    files = {file, file.with_name("conftest.py")} - {Path(__file__)}
    return any("support.processes" in each.read_text() for each in files if each.exists())


def pytest_xdist_make_scheduler(config, log):
    """Give each worker whole files, and whole folders with a conftest.py, whose files share what is dear to make.

    All other files with processes go to one worker: it starts one fork server and mostly waits.
    """
    from xdist.scheduler import LoadFileScheduling

    tests = config.rootpath / "tests"

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = config.rootpath / super()._split_scope(nodeid)
            folder = tests / file.relative_to(tests).parts[0] if file.is_relative_to(tests) else file
            if (folder / "conftest.py").exists():
                return str(folder)
            return "processes" if starts_processes(file) else str(file)

    return Scheduling(config, log)


def pytest_collection_modifyitems(config, items):
    """Run slow tests last, but where several workers share the files: files with processes, with slow tests, the rest.

    What takes a browser, all references of the real votes or real labels is slow wherever it is; its file need not be
    among the first.
    """
    workers = hasattr(config, "workerinput") or getattr(config.option, "dist", "no") != "no"
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    for item in items:
        if {"browser", "crema_d_baselines", "real_labels"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.slow)
    if workers:
        items.sort(key=lambda item: (not starts_processes(item.path), item.path not in slow_files))
    else:
        items.sort(key=lambda item: "slow" in item.keywords)
