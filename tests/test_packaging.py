"""The built wheel in an empty environment outside the checkout: what a user gets from `pip install`."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def run(*command, cwd, **environment):
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT), cwd=out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """An environment that holds the wheel; what the wheel depends on is lent by this one (its `.pth` files are not)."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    packages = run(str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=folder).strip()
    (Path(packages) / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    run(*pip, "install", "--no-deps", "--no-index", str(wheel), cwd=folder)
    return folder, python, pip


def test_the_wheel_holds_tasks_checkpoint_and_hook(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("ambi_eval.pth", "ambi_eval/tasks/_strategies/sc.yaml", "ambi_eval/tasks/demo/ambi_demo_sc.yaml"):
        assert name in names
    assert "ambi_eval/demo/ambi-tiny/model.safetensors" in names
    assert not [name for name in names if name.startswith("tests")]


def test_the_installed_wheel_runs_the_demo_outside_the_checkout(installed):
    folder, python, _ = installed
    where = run(str(python), "-c", "import ambi_eval; print(ambi_eval.__file__)", cwd=folder)
    assert str(folder) in where
    table = run(
        *(str(python), "-m", "lm_eval", "--model", "hf-audio", "--model_args", "pretrained=ambi-tiny"),
        *("--tasks", "ambi_demo_sc,ambi_demo_exact", "--limit", "6", "--device", "cpu"),
        cwd=folder,
        AMBI_DATA=str(folder / "data"),
    )
    assert "ambi_demo_sc" in table
    assert all(f"|{name}" in table for name in ("jsd_bits", "bc", "acc", "macro_f1", "invalid_rate"))
    assert "likelihood" in table


def test_after_uninstalling_the_harness_knows_nothing_of_us(wheel, installed):
    folder, python, pip = installed
    run(*pip, "uninstall", "-y", "ambi-eval", cwd=folder)
    try:
        code = "import importlib.util, lm_eval.tasks, sys; print(importlib.util.find_spec('ambi_eval'), sys.meta_path)"
        said = run(str(python), "-c", code, cwd=folder)
        assert said.startswith("None")
        assert "AfterImportFinder" not in said
    finally:
        run(*pip, "install", "--no-deps", "--no-index", str(wheel), cwd=folder)
