"""The stock `lm_eval` in real processes, as a user starts it."""

import os
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import lm_eval.filters
import lm_eval.models  # noqa: F401 - before we look for it in sys.modules
import pytest
from lm_eval.api import registry
from support import ROOT
from support.processes import Script

from ambi_eval.harness import plugin

pytestmark = pytest.mark.slow

PYTHON = sys.executable
LM_EVAL = [str(Path(PYTHON).with_name("lm_eval"))]


def run(*command, cwd=None, **environment):
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment}, timeout=300, check=False
    )


def python(code, **environment):
    return run(PYTHON, "-c", code, **environment)


@pytest.mark.parametrize("program", [LM_EVAL, [PYTHON, "-m", "lm_eval"]], ids=["lm_eval", "python -m lm_eval"])
def test_the_stock_program_knows_our_tasks_by_name(program, tmp_path):
    done = run(*program, "validate", "--tasks", "ambi_demo_sc,ambi_crema_d,ambi_exact,hellaswag", cwd=tmp_path)
    assert "All tasks found and valid" in done.stdout, done.stderr


def test_switched_off_by_the_environment_the_tasks_are_gone(tmp_path):
    """Without the tasks of the harness itself, whose 14,000 files it would parse without us."""
    code = (
        f"from lm_eval.tasks import TaskManager, manager; manager.__file__ = {str(tmp_path / 'manager.py')!r}\n"
        "print('ambi_demo_sc' in TaskManager().all_tasks)"
    )
    assert [python(code, AMBI_EVAL_PLUGIN=on).stdout for on in "10"] == ["True\n", "False\n"]


def test_everything_of_the_harness_is_there_beside_ours_even_where_ours_is_imported_first():
    done = python(
        "import ambi_eval.models.hf_audio\n"
        "import lm_eval.models, lm_eval.filters\n"
        "from lm_eval.api.registry import get_model, get_filter, get_metric, model_registry\n"
        "for name in ('hf', 'vllm', 'openai-completions', 'hf-multimodal'): assert name in model_registry, name\n"
        "assert get_model('hf').__name__ == 'HFLM' and get_model('dummy')\n"
        "assert get_filter('majority_vote') and get_filter('take_first') and get_metric('acc')\n"
        "print(get_model('hf-audio').__name__, get_filter('ambi_mean').__name__)"
    )
    assert done.stdout.split() == ["HFAudio", "Mean"], done.stderr


def declared(group):
    return [point.value.split(":")[1] for point in metadata.entry_points(group=group)]


class LaterHarness:
    """What later releases of the harness do with entry points, in our words.

    `load_plugins` registers lazily what nobody has registered yet, once for each group. Pull request 4013 calls it for
    models before our part, 4014 for filters at the first `get_filter`.
    """

    def __init__(self, registry, groups):
        self.registry, self.groups, self.done = registry, groups, set()
        self.plain_get_filter = registry.get_filter
        registry.load_plugins, registry.get_filter = self.load_plugins, self.get_filter

    def load_plugins(self, group, names):
        if group in self.groups and group not in self.done:
            self.done.add(group)
            for point in metadata.entry_points(group=group):
                if point.name not in names:
                    names.register(point.name, target=point)

    def get_filter(self, name):
        self.load_plugins("lm_eval.filters", self.registry.filter_registry)
        return self.plain_get_filter(name)


@pytest.mark.parametrize("early_filter", [False, True], ids=["", "a filter is asked for before our part"])
@pytest.mark.parametrize(
    "groups",
    [[], ["lm_eval.models"], ["lm_eval.filters"], ["lm_eval.models", "lm_eval.filters"]],
    ids=["none", "models", "filters", "both"],
)
def test_whatever_a_later_harness_reads_itself_every_name_is_found(monkeypatch, groups, early_filter):
    for name in ("model_registry", "filter_registry"):
        monkeypatch.setattr(registry, name, registry.Registry(name))
    for name in ("get_filter", "load_plugins"):
        monkeypatch.setattr(registry, name, getattr(registry, name, None), raising=False)
    harness = LaterHarness(registry, groups)
    harness.load_plugins("lm_eval.models", registry.model_registry)
    if early_filter:
        with suppress(KeyError):
            registry.get_filter("ambi_mean")
    for module in ("lm_eval.models", "lm_eval.filters"):
        plugin.AFTER_IMPORT[module](sys.modules[module])
    for group, get in {"lm_eval.models": registry.get_model, "lm_eval.filters": registry.get_filter}.items():
        assert [get(point.name).__name__ for point in metadata.entry_points(group=group)] == declared(group) != []


def test_a_later_harness_imports_our_classes_from_their_entry_points_without_a_word():
    """In a new process, where our modules are not imported yet and could register themselves once more."""
    done = python(
        "import logging, sys; logging.basicConfig(level=logging.INFO)\n"
        "from importlib import metadata\n"
        "from lm_eval.api import registry\n"
        "names = {'lm_eval.models': registry.model_registry, 'lm_eval.filters': registry.filter_registry}\n"
        "for group, known in names.items():\n"
        "    for point in metadata.entry_points(group=group): known.register(point.name, target=point)\n"
        "import lm_eval.models, lm_eval.filters\n"
        "for group, known in names.items():\n"
        "    for point in metadata.entry_points(group=group): print(known.get(point.name).__name__)"
    )
    assert done.stdout.split() == declared("lm_eval.models") + declared("lm_eval.filters"), done.stderr
    assert "already in Registry" not in done.stderr


def test_a_python_that_never_imports_the_harness_imports_nothing_of_it():
    done = python(
        "import sys; print(sorted(m for m in sys.modules if m.split('.')[0] in ('ambi_eval', 'lm_eval', 'numpy')))"
    )
    assert done.stdout.strip() == "['ambi_eval', 'ambi_eval.harness', 'ambi_eval.harness.plugin']"


def test_a_broken_plugin_never_breaks_a_python_start(tmp_path):
    (tmp_path / "ambi_eval").mkdir()
    (tmp_path / "ambi_eval" / "__init__.py").write_text("raise RuntimeError('broken')")
    line = (ROOT / "ambi_eval.pth").read_text()
    done = run(PYTHON, "-S", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{line}\nprint('alive')")
    assert done.stdout.strip() == "alive"
    assert "the lm_eval hook is not installed: RuntimeError('broken')" in done.stderr


def test_a_harness_that_is_too_old_is_named_with_the_command_that_mends_it(tmp_path):
    (tmp_path / "lm_eval" / "tasks").mkdir(parents=True)
    (tmp_path / "lm_eval" / "__init__.py").touch()
    (tmp_path / "lm_eval" / "tasks" / "__init__.py").touch()
    metadata = tmp_path / "lm_eval-0.4.9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lm_eval\nVersion: 0.4.9\n")
    done = python("import lm_eval.tasks", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "lm_eval 0.4.9 is too old, 0.4.13 is needed: pip install -U" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: [broken  # ambi_eval\n", "is not valid YAML"),
        ("include: gone.yaml\ntask: mine  # ambi_eval\n", "includes a file that is not there"),
    ],
)
def test_a_broken_task_file_that_names_us_is_one_line_and_exit_code_2(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    command = Script("lm_eval", "validate", "--tasks", "mine", "--include_path", tmp_path)
    command.output()
    assert command.returncode == 2
    assert message in command.error
    assert "Traceback" not in command.error
