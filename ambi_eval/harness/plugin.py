"""Adds our models, filters and tasks to the stock `lm_eval`, and ends its commands in one line after a user's mistake.

lm-eval 0.4.13 has no plug-ins. Python runs `ambi_eval.pth` at every start, which calls `install()` here. This puts a
finder in front of Python's import system. The finder waits for the imports of a few modules, mostly of lm_eval, and
calls a function of ours right after each (`AFTER_IMPORT`). Before that nothing of ours and nothing of lm_eval is
imported, so a Python that never imports lm_eval loses about a millisecond.

- Models and filters come from our entry points, in the groups that the next releases of lm-eval read: models first,
  filters later. We register each name that is not registered yet, so that any release works.
- No release reads tasks from packages, so every `TaskManager` gets our `tasks/` folder.
- `lm_eval` parses 14,000 task files at every start; `task_index` keeps the result in a cache file.

`AMBI_EVAL_PLUGIN=0` in the environment turns all of it off; uninstalling the package removes it.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` is not imported: it would slow every Python start more than this whole file
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import FrameType, ModuleType
    from typing import Any

OLDEST_HARNESS = (0, 4, 13)


def _register(group: str, registry_name: str) -> None:
    """Register our entry points of one group that are not registered yet.

    A later lm_eval reads the same groups, before or after this; neither replaces a name that is already registered.
    """
    from importlib.metadata import entry_points

    from lm_eval.api import registry as registries

    registry = getattr(registries, registry_name)
    for entry_point in entry_points(group=group):
        # As a string, because the registry then imports the class on its first use only.
        if entry_point.value.startswith("ambi_eval.") and entry_point.name not in registry:
            registry.register(entry_point.name, target=entry_point.value)


def _register_models(module: ModuleType) -> None:
    """Register our models, and one for each engine that another package names in an entry point."""
    from importlib.metadata import entry_points

    from lm_eval.api.registry import model_registry

    _register("lm_eval.models", "model_registry")
    for engine in entry_points(group="ambi_eval.engines"):
        if not engine.value.startswith("ambi_eval.") and engine.name not in model_registry:
            model_registry.register(engine.name, target=f"ambi_eval.models.of_engines:{engine.name}")


def _refuse_old_harness(lm_eval_tasks: ModuleType) -> None:
    """Exit with one line if lm_eval is too old for the hooks below."""
    from importlib.metadata import version as installed_version

    version = installed_version("lm_eval")
    if tuple(int(part) for part in version.split(".")[:3] if part.isdigit()) < OLDEST_HARNESS:
        oldest = ".".join(map(str, OLDEST_HARNESS))
        fix = f"pip install -U 'lm-eval>={oldest}' (or set AMBI_EVAL_PLUGIN=0 to use lm_eval without ambi_eval)"
        sys.stderr.write(f"ambi_eval: lm_eval {version} is too old, {oldest} is needed: {fix}\n")
        sys.exit(2)


def _add_tasks(manager: ModuleType) -> None:
    """Let every TaskManager index our tasks after the harness's own and before the user's."""
    plain_init = manager.TaskManager.__init__

    def init(
        self: Any,
        verbosity: str | None = None,
        include_path: Any = None,
        include_defaults: bool = True,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        from ambi_eval.config.load import refuse_broken_yaml
        from ambi_eval.paths import tasks_dir

        theirs = include_path if isinstance(include_path, (list, tuple)) else [include_path] if include_path else []
        refuse_broken_yaml(theirs)
        ours = [tasks_dir()] if include_defaults else []
        plain_init(self, verbosity, [*ours, *theirs] or None, include_defaults, metadata)
        self.include_path = include_path

    manager.TaskManager.__init__ = init
    plain_match = manager.TaskManager.match_tasks

    def match_tasks(self: Any, task_list: list[str]) -> Any:
        found = plain_match(self, task_list)
        if not found and len(task_list) == 1:
            _refuse_unknown_task(task_list[0], self.all_tasks)
        return found

    manager.TaskManager.match_tasks = match_tasks


def _refuse_unknown_task(name: str, known: Sequence[str]) -> None:
    """Raise an error for an unknown task if the command is ours (`ending.is_named`); else the harness does."""
    from ambi_eval.errors import AmbiError, did_you_mean
    from ambi_eval.harness import ending

    if ending.is_named() and not os.path.isdir(name):  # noqa: PTH112 - pathlib would slow every start; a folder of tasks
        raise AmbiError(f"--tasks: there is no task '{name}'{did_you_mean(name, known)}; `lm_eval ls tasks` lists all")


def _end_in_one_line(harness: ModuleType) -> None:
    """End every command of the `lm_eval` program in one line after a user's mistake or Ctrl-C."""
    plain_execute = harness.HarnessCLI.execute

    def execute(self: Any, args: Any) -> None:
        from contextlib import ExitStack

        from ambi_eval.errors import AmbiError, print_in_any_encoding
        from ambi_eval.harness import ending
        from ambi_eval.harness.garbage import paused_until_started
        from ambi_eval.harness.refused_options import told_in_one_sentence

        ending.end_at_ctrl_c(only_if=lambda: ending.is_ours() or ending.is_named())
        try:
            with ExitStack() as stack:
                if ending.is_named():
                    print_in_any_encoding()
                    stack.enter_context(paused_until_started())
                    stack.enter_context(told_in_one_sentence())
                plain_execute(self, args)
        except AmbiError as mistake:
            sys.stderr.write(f"ambi_eval: {mistake}\n")
            sys.exit(mistake.exit_code)
        ending.refuse_unsaved(getattr(args, "output_path", None))

    harness.HarnessCLI.execute = execute


def _end_torchrun_in_one_line(multiprocessing: ModuleType) -> None:
    """Let torchrun end without a traceback where Ctrl-C ends a run of ours."""
    import signal

    from ambi_eval.harness import ending

    plain = multiprocessing._terminate_process_handler

    def end(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            ending.end_torchrun()
        plain(number, frame)

    if ending.is_named():
        vars(multiprocessing)["_terminate_process_handler"] = end


def _imported(name: str) -> Callable[[ModuleType], None]:
    """Return a function `module:function` of `ambi_eval.harness` that is imported when it is called."""

    def call(module: ModuleType) -> None:
        from importlib import import_module

        file, _, function = name.partition(":")
        getattr(import_module(f"ambi_eval.harness.{file}"), function)(module)

    return call


def _show_readable_tables(utils: ModuleType) -> None:
    """Let the harness print our tasks' rows as `table.readable` makes them."""
    plain_table = utils.make_table

    def make_table(*args: Any, **kwargs: Any) -> str:
        from ambi_eval.harness.table import readable

        return readable(plain_table)(*args, **kwargs)

    vars(utils)["make_table"] = make_table


AFTER_IMPORT: dict[str, Callable[[ModuleType], None]] = {
    "lm_eval.tasks": _refuse_old_harness,
    "lm_eval.tasks._index": _imported("task_index:take_index_from_cache"),
    "lm_eval.tasks.manager": _add_tasks,
    # Not earlier: lm_eval fills its own model registry only while it is empty.
    "lm_eval.models": _register_models,
    "lm_eval.filters": lambda module: _register("lm_eval.filters", "filter_registry"),
    "lm_eval.evaluator": _imported("preflight:check_before_loading"),
    "lm_eval.utils": _show_readable_tables,
    "lm_eval._cli.harness": _end_in_one_line,
    "lm_eval.loggers.evaluation_tracker": _imported("ending:note_what_is_not_saved"),
    "torch.distributed.elastic.multiprocessing.api": _end_torchrun_in_one_line,
}


class AfterImportFinder:
    """Lets the other finders find a module, and calls our function for it after the import."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of the other finders with our function added; None for all other modules."""
        if name in ("lm_eval", "torch"):  # the first imports of `lm_eval` and of torchrun, which take seconds
            from ambi_eval.harness import ending

            if ending.is_named():
                ending.end_at_ctrl_c()
        callback = AFTER_IMPORT.get(name)
        if callback is None:
            return None
        others = (f for f in sys.meta_path if f is not AfterImportFinder and hasattr(f, "find_spec"))
        spec = next((found for f in others if (found := f.find_spec(name, path, target))), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                callback(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Put our finder in front of the others; modules that are already imported get our function at once."""
    if os.environ.get("AMBI_EVAL_PLUGIN", "1") == "0" or AfterImportFinder in sys.meta_path:
        return
    sys.meta_path.insert(0, AfterImportFinder)
    for name, callback in AFTER_IMPORT.items():
        if name in sys.modules:
            callback(sys.modules[name])
