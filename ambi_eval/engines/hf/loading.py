"""From the name of a checkpoint to a loaded family, and to digests of the files that its answers depend on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import AutoConfig, AutoProcessor

import ambi_eval
from ambi_eval.engines.hf.cache import why_not_decoded
from ambi_eval.engines.hf.families import FAMILIES, Family, Voxtral, audio_extractor
from ambi_eval.engines.hf.layout import lay_out_for_cpu
from ambi_eval.errors import AmbiError, counted
from ambi_eval.paths import cache_dir

logger = logging.getLogger(__name__)

# A digest of weights covers the bytes of files up to this size, and the SHA-256 of larger files.
LARGE_FILE = 16 << 20
HASHED_BLOCK = 1 << 22
HASHING_THREADS = 8
HARNESS_DEVICE = "cuda:0"  # what lm_eval says if the user names no device
PROCESSOR_FILES = (".jinja", ".json", ".model", ".py", ".txt")


def checkpoint(pretrained: str) -> str:
    """Return the folder or repository that `pretrained` names; `ambi-tiny` is the folder in this package.

    Raises:
        AmbiError: If `ambi-tiny` is not where it should be.
    """
    if pretrained != "ambi-tiny":
        return pretrained
    folder = Path(ambi_eval.__file__).parent / "demo" / "ambi-tiny"
    if not (folder / "config.json").is_file():
        raise AmbiError(
            f"ambi-tiny is not in {folder}; install ambi-eval anew, or train it: python -m ambi_eval.demo.train"
        )
    return str(folder)


def torch_device(name: str | None) -> torch.device:
    """Return the device of a name; the harness says cuda:0 wherever the user says nothing.

    Raises:
        AmbiError: If there is no such device.
    """
    if name is None or (name == HARNESS_DEVICE and not torch.cuda.is_available()):
        if not torch.cuda.is_available():
            logger.info("there is no CUDA here: computing on the CPU")
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise AmbiError(f"device={name} is no device; give cuda, cuda:1, cpu or mps") from error
    gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise AmbiError(f"device={name} is not there, as torch sees {counted(gpus, 'GPU')}; give another one, or cpu")
    return device


def read_config(pretrained: str, **source: Any) -> Any:
    """Return the configuration of a checkpoint.

    Args:
        pretrained: A folder or the name of a repository on the Hugging Face hub.
        source: Its `revision`, and `trust_remote_code`.

    Raises:
        AmbiError: If there is no such checkpoint, or if its family needs a package that is not installed.
    """
    named = Path(pretrained)
    if named.is_file() or (pretrained.startswith(("/", "./", "../", "~")) and not named.is_dir()):
        raise AmbiError(f"{pretrained} cannot be loaded (there is no such folder); correct the path of the checkpoint")
    with _errors_told(pretrained):
        config = AutoConfig.from_pretrained(pretrained, **source)
    family = FAMILIES.get(config.model_type, Family)
    if lacking := [module for module in family.needs if find_spec(module) is None]:
        raise AmbiError(
            f"{pretrained} ({config.model_type}) needs {' and '.join(lacking)}: pip install 'ambi_eval[{family.extra}]'"
        )
    return config


def check_adapter(adapter: str) -> None:
    """Look for an adapter, and for the package that merges it.

    Raises:
        AmbiError: If one of them is missing.
    """
    if find_spec("peft") is None:
        raise AmbiError(f"peft={adapter} needs the package peft: pip install 'ambi_eval[peft]'")
    from peft import PeftConfig

    try:
        PeftConfig.from_pretrained(adapter)
    except (OSError, ValueError) as error:
        raise AmbiError(
            f"{adapter} is no adapter ({_first_line(error)}); give the folder or the repository of one with peft="
        ) from error


@contextlib.contextmanager
def _errors_told(pretrained: str) -> Iterator[None]:
    """Turn what transformers and peft raise for a checkpoint that cannot be used into one sentence."""
    try:
        yield
    except ImportError as error:
        raise AmbiError(
            f"{pretrained} needs a package that is not installed or does not fit torch {torch.__version__}: "
            f"{_first_line(_cause(error))}"
        ) from error
    except (OSError, ValueError, SafetensorError) as error:
        raise AmbiError(
            f"{pretrained} cannot be loaded ({_first_line(error)}); give a folder or a repository of the Hugging Face "
            f"hub that transformers {transformers.__version__} knows, and check the network and HF_TOKEN"
        ) from error


def load_family(
    pretrained: str,
    *,
    revision: str,
    dtype: torch.dtype | str,
    device: torch.device,
    device_map: Any = None,
    attn_implementation: str | None = None,
    peft: str | None = None,
    trust_remote_code: bool = False,
) -> Family:
    """Load a checkpoint with the classes of its family.

    Args:
        pretrained: A folder or the name of a repository on the Hugging Face hub.
        revision: Branch, tag or commit of the repository.
        dtype: Precision of the weights; "auto" is the checkpoint's own.
        device: Where the model computes; not used with a `device_map`.
        device_map: Spreads the model over several devices ("auto", or as in transformers).
        attn_implementation: "sdpa", "flash_attention_2", "eager" ...; None is the family's default.
        peft: Folder or repository of an adapter, merged into the weights.
        trust_remote_code: Whether code that comes with the checkpoint may run.

    Raises:
        AmbiError: If the checkpoint cannot be found, is no model that answers about audio, or needs a package that is
            not installed.
    """
    source = {"revision": revision, "trust_remote_code": trust_remote_code}
    config = read_config(pretrained, **source)
    family = FAMILIES.get(config.model_type, Family)
    with _errors_told(pretrained):
        processor = AutoProcessor.from_pretrained(pretrained, **source)
        _check_hears_and_chats(pretrained, family, processor)
        if reason := why_not_decoded(config):
            raise AmbiError(
                f"{pretrained} ({config.model_type}) cannot be decoded by hf-audio: {reason}; serve it over "
                "HTTP and take --model openai-audio"
            )
        model, report = _model_class(family, config).from_pretrained(
            pretrained,
            dtype=dtype,
            device_map=device_map,
            attn_implementation=attn_implementation,
            output_loading_info=True,
            **source,
        )
        if family.adapter is not None:
            model = _merged(model, pretrained, revision=revision, subfolder=family.adapter)
        if peft is not None:
            model = _merged(model, peft)
    if missing := sorted(report["missing_keys"]):
        # transformers would go on with random weights in their place.
        raise AmbiError(f"{pretrained} lacks {len(missing)} weights of a {type(model).__name__}, {missing[0]} first")
    if device_map is None:
        model = model.to(device)
        if device.type == "cpu":
            lay_out_for_cpu(model)
    return family(model, processor)


def weights_digest(*sources: str, revision: str = "main") -> str:
    """Return a digest (hex) of the weights of checkpoints (a model, and its adapter), wherever they lie.

    It covers every byte of every weight file. Large files are hashed in parallel, once: the cache directory keeps the
    result until the file's path, size, time of change or inode changes.
    """
    digest = hashlib.sha256()
    for source in sources:
        folder = _folder(source, revision)
        found = [*folder.glob("*.safetensors"), *folder.glob("*/adapter_model.safetensors")]
        weights = sorted(found) or sorted([*folder.glob("*.bin"), *folder.glob("*/adapter_model.bin")])
        large = _digests([path for path in weights if path.stat().st_size > LARGE_FILE])
        for path in weights:
            digest.update(f"{path.name}|{path.stat().st_size}|".encode())
            digest.update(large[path].encode() if path in large else path.read_bytes())
    return digest.hexdigest()


def processor_digest(*sources: str, revision: str = "main") -> str:
    """Return a digest (hex) of the other files of checkpoints on which an answer depends.

    That is configuration, index of the weights, tokenizer, chat templates, the settings of the feature extractor and of
    generation, and code, those in folders of the checkpoint included.
    """
    digest = hashlib.sha256()
    for source in sources:
        folder = _folder(source, revision)
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            hidden = any(part.startswith((".", "__pycache__")) for part in name.split("/"))
            if path.suffix in PROCESSOR_FILES and path.is_file() and not hidden:
                digest.update(f"{name}|{path.stat().st_size}|".encode() + path.read_bytes())
    return digest.hexdigest()


def _digests(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the SHA-256 (hex) of each file; those that are in the cache are not read."""
    cache = cache_dir() / "digests.json"
    try:
        known: dict[str, str] = json.loads(cache.read_text())
    except (OSError, ValueError):
        known = {}
    keys = {path: "|".join(map(str, _state(path))) for path in paths}
    new = [path for path in paths if not isinstance(known.get(keys[path]), str)]
    if new:
        size = sum(path.stat().st_size for path in new) / 1e9
        logger.info("reading %.1f GB of weights for their digest; it is kept in %s", size, cache)
        with ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="digest") as threads:
            known |= dict(zip((keys[path] for path in new), threads.map(_sha256, new), strict=True))
        with contextlib.suppress(OSError):
            cache.parent.mkdir(parents=True, exist_ok=True)
            written = cache.with_name(f"{cache.name}.{os.getpid()}")
            written.write_text(json.dumps(known, indent=1))
            written.replace(cache)
    return {path: known[key] for path, key in keys.items()}


def _state(path: Path) -> tuple[str, int, int, int]:
    """Return values that change when the file changes."""
    state = path.stat()
    return str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ino


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASHED_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _folder(source: str, revision: str) -> Path:
    folder = Path(source)
    return folder if folder.is_dir() else Path(snapshot_download(source, revision=revision, local_files_only=True))


def _check_hears_and_chats(pretrained: str, family: type[Family], processor: Any) -> None:
    if audio_extractor(processor) is None:
        raise AmbiError(f"{pretrained} is a model without audio support; give an audio-language model")
    tokenizer = getattr(processor, "tokenizer", None)
    template = getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)
    if template is None and family is not Voxtral:
        raise AmbiError(f"{pretrained} has no chat template, so it takes no questions; give an instruction-tuned model")


def _model_class(family: type[Family], config: Any) -> Any:
    """Return the class to load: the family's, the one that the checkpoint names, or transformers' choice."""
    named = family.model_class or next(iter(config.architectures or []), "")
    if hasattr(transformers, named):
        return getattr(transformers, named)
    if type(config) in transformers.AutoModelForSeq2SeqLM._model_mapping:
        return transformers.AutoModelForSeq2SeqLM
    return transformers.AutoModelForMultimodalLM


def _merged(model: Any, adapter: str, **source: Any) -> Any:
    from peft import PeftModel

    try:
        with warnings.catch_warnings():  # peft would continue without the weights of another model's adapter
            warnings.filterwarnings("error", message=".*missing adapter keys")
            return PeftModel.from_pretrained(model, adapter, **source).merge_and_unload()
    except (ValueError, UserWarning) as error:
        place = "/".join([adapter, *filter(None, [source.get("subfolder")])])
        raise AmbiError(
            f"{place} is no adapter of this model ({_first_line(error)}); download the whole repository of the model "
            "anew, or correct peft="
        ) from error


def _cause(error: BaseException) -> BaseException:
    """Return the first cause of an error: transformers hides a broken package behind its own ImportError."""
    return error if error.__cause__ is None else _cause(error.__cause__)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
