"""ambi-tiny with an encoder window of 30 s, the only one that Qwen2-Audio has in vLLM: same weights, more positions."""

import json
import math
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

SECONDS, FRAMES_PER_SECOND, POSITIONS_PER_SECOND = 30, 100, 50


def sinusoids(positions: int, channels: int) -> torch.Tensor:
    """Return Whisper's fixed position embeddings (Radford et al. 2022), shape (positions, channels)."""
    rates = torch.exp(-math.log(10_000) / (channels // 2 - 1) * torch.arange(channels // 2))
    angles = torch.arange(positions)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def with_long_window(checkpoint: Path, folder: Path) -> Path:
    """Write a copy of a Qwen2-Audio checkpoint that hears 30 s; its answers about shorter clips stay the same."""
    shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    (name,) = (name for name in weights if "embed_positions" in name)
    known = weights[name]
    longer = sinusoids(SECONDS * POSITIONS_PER_SECOND, known.shape[1]).to(known.dtype)
    assert torch.allclose(longer[: len(known)], known, atol=1e-3), "the positions are not Whisper's"
    longer[: len(known)] = known
    save_file({**weights, name: longer.contiguous()}, folder / "model.safetensors", metadata={"format": "pt"})
    for file, path, changes in (
        ("config.json", "audio_config", {"max_source_positions": len(longer)}),
        (
            "processor_config.json",
            "feature_extractor",
            {
                "chunk_length": SECONDS,
                "n_samples": SECONDS * 16_000,
                "nb_max_frames": SECONDS * FRAMES_PER_SECOND,
            },
        ),
    ):
        settings = json.loads((folder / file).read_text(encoding="utf-8"))
        settings[path].update(changes)
        (folder / file).write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return folder
