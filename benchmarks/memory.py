"""How the memory of a run grows with its clips: the stock command over many clips, one process for each size.

    python benchmarks/memory.py [--clips 5000 50000] [--seconds 2] [--json FILE]

The clips are spans of a few long files, the model is ambi-tiny, and it gives one greedy token to each clip: what grows
is what the harness and this package keep. Audio is decoded as its turn comes and then forgotten; all of it together is
printed for comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile
import yaml

from ambi_eval.corpora.manifest import Clip, write_manifest

LABELS = ["angry", "happy", "neutral", "sad"]
RATE = 16_000
FILES, FILE_SECONDS = 8, 60.0
TASK = "!function ambi_eval.harness.task.AmbiguousEmotionTask"


def make_task(folder: Path, n_clips: int, seconds: float) -> None:
    """Write a task of `n_clips` clips, each a span of a file of noise."""
    rng = np.random.default_rng(0)
    for number in range(FILES):
        noise = 0.1 * rng.standard_normal(int(FILE_SECONDS * RATE), dtype=np.float32)
        soundfile.write(folder / f"{number}.wav", noise, RATE)
    starts = rng.uniform(0, FILE_SECONDS - seconds, n_clips).round(4)
    write_manifest(
        folder / "many.parquet",
        (
            Clip(
                id=f"clip{i:06d}",
                votes=dict.fromkeys(LABELS, 1.0),
                audio=f"{i % FILES}.wav",
                start=float(start),
                end=float(start) + seconds,
                speaker=f"speaker{i % 91}",
            )
            for i, start in enumerate(starts)
        ),
    )
    config = {"task": "many", "strategy": "direct", "labels": LABELS, "manifest": "many.parquet"}
    config["generation_kwargs"] = {"max_gen_toks": 1}
    (folder / "many.yaml").write_text(f"class: {TASK}\n{yaml.safe_dump(config)}")


def measure(n_clips: int, seconds: float) -> dict[str, float]:
    """Return the peak memory in MB, and the seconds, of a run over `n_clips` clips."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_task(folder, n_clips, seconds)
        command = [sys.executable, "-m", "lm_eval", "--model", "hf-audio", "--model_args", "pretrained=ambi-tiny"]
        command += ["--tasks", "many", "--include_path", name, "--output_path", str(folder / "results")]
        command += ["--batch_size", "16"]
        environment = {**os.environ, "AMBI_DATA": name, "HF_HUB_OFFLINE": "1"}
        with (folder / "log").open("w") as log:
            start = time.perf_counter()
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            peak = 0
            while process.poll() is None:
                try:
                    peak = max(peak, psutil.Process(process.pid).memory_info().rss)
                except psutil.NoSuchProcess:
                    break
                time.sleep(0.2)
            elapsed = time.perf_counter() - start
        if process.wait() != 0:
            sys.exit((folder / "log").read_text())
    return {"clips": n_clips, "seconds": elapsed, "peak_mb": peak / 1e6, "audio_mb": n_clips * seconds * RATE * 4 / 1e6}


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[5000, 50_000])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each clip")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    arguments = parser.parse_args()
    print(f"{'clips':>8}{'seconds':>10}{'peak MB':>10}{'all audio MB':>14}")
    rows = []
    for n_clips in arguments.clips:
        row = measure(n_clips, arguments.seconds)
        rows.append(row)
        print(f"{n_clips:>8}{row['seconds']:>10.0f}{row['peak_mb']:>10.0f}{row['audio_mb']:>14.0f}", flush=True)
    if len(rows) > 1:
        grown = (rows[-1]["peak_mb"] - rows[0]["peak_mb"]) / (rows[-1]["clips"] - rows[0]["clips"])
        print(f"{1000 * grown:.1f} kB per further clip; its audio is {4e-3 * RATE * arguments.seconds:.0f} kB")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
