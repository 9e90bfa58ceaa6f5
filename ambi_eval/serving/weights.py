"""Identifies the weights that a server loads: a folder by its digest, a repository by its commit."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from ambi_eval.config.model_arguments import VLLMAudioArguments
from ambi_eval.engines.hf.loading import checkpoint, processor_digest, weights_digest
from ambi_eval.errors import AmbiError


def pinned(arguments: VLLMAudioArguments) -> VLLMAudioArguments:
    """Return the arguments with a commit instead of a branch or tag, so that no run mixes two commits.

    Raises:
        AmbiError: If `pretrained` is neither a folder nor a repository that can be read.
    """
    source = checkpoint(arguments.pretrained)
    if Path(source).is_dir():
        return arguments
    try:
        config = hf_hub_download(source, "config.json", revision=arguments.revision)
    except (HfHubHTTPError, OSError, ValueError) as error:
        told = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        fix = "give a folder or a repository of the Hugging Face hub, and check the network and HF_TOKEN"
        raise AmbiError(f"{arguments.pretrained} cannot be read ({told}); {fix}") from error
    return arguments.model_copy(update={"revision": Path(config).parent.name})


def weights_of(arguments: VLLMAudioArguments) -> dict[str, str]:
    """Return the identity of the weights and of the processor's files."""
    source = checkpoint(arguments.pretrained)
    if Path(source).is_dir():
        return {"digest": weights_digest(source), "processor": processor_digest(source)}
    return {"repository": source, "commit": str(arguments.revision)}
