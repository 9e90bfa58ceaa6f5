"""What differs between the families of audio-language models: their classes, processors, windows and special tokens."""

from __future__ import annotations

import base64
import hashlib
import io
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import soundfile
import torch
import transformers
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import AutoConfig, AutoProcessor, BatchFeature, GenerationConfig

from ambi_eval.audio import Samples
from ambi_eval.engines.hf.features import remember_features
from ambi_eval.errors import AmbiError


class Family:
    """A loaded model with its processor: any family whose chat template takes `{"type": "audio", "audio": samples}`.

    Attributes:
        model: The transformers model, in evaluation mode.
        processor: Its processor.
        sample_rate: Rate in Hz at which it hears.
        end_ids: Tokens that end the model's turn.
        placeholder_ids: Tokens that stand for audio, images and video in a prompt. As text they mean nothing, and an
            answer that holds one cannot be read back by the model (it looks for the audio behind it), so they are
            never generated.
        max_positions: Tokens of prompt and answer together that the model was built for, or None where it says nothing.
    """

    # Modules that the family needs beyond ours, and the extra of this package that installs them.
    needs: tuple[str, ...] = ()
    extra = ""
    # The class to load, where the one that the checkpoint names does more than to answer in text.
    model_class: str | None = None
    # A folder of the checkpoint with an adapter without which the model hears nothing.
    adapter: str | None = None
    # What the family's own processor takes.
    one_audio_only = False
    system_beside_audio = True

    def __init__(self, model: Any, processor: Any) -> None:
        """Wrap a transformers model and its processor; the model's own generation settings are dropped."""
        self.model = model.eval()
        self.processor = processor
        remember_features(audio_extractor(processor))
        text = model.config.get_text_config()
        self.sample_rate = int(getattr(audio_extractor(processor), "sampling_rate", 16000))
        self.end_ids = _as_list(
            model.generation_config.eos_token_id
            or getattr(text, "eos_token_id", None)
            or processor.tokenizer.eos_token_id
        )
        self.placeholder_ids = [token for token in _placeholder_ids(model.config) if token < text.vocab_size]
        self.max_positions: int | None = getattr(text, "max_position_embeddings", None)
        # A checkpoint's own recipe (Qwen2-Audio-Instruct: top_p 0.5, repetition penalty 1.1) must not slip in under a
        # task's settings.
        model.generation_config = GenerationConfig(eos_token_id=self.end_ids, pad_token_id=self.end_ids[0])
        # Some processors lose their template on the way through AutoProcessor (Phi-4); the tokenizer still has it.
        if getattr(processor, "chat_template", None) is None:
            processor.chat_template = getattr(processor.tokenizer, "chat_template", None)

    @property
    def window_seconds(self) -> float | None:
        """The longest audio that the model hears whole, in seconds; None where there is no such limit."""
        most = getattr(self.processor, "max_audio_len", None)
        if most is None:
            return None
        # Audio is cut into windows, of which only whole ones count: GLM-ASR says 655 s and hears 21 of 30 s.
        window = audio_extractor(self.processor).chunk_length
        return float(most // window * window)

    def audio_part(self, samples: Samples) -> dict[str, Any]:
        """Return the part of a chat message that holds one audio."""
        return {"type": "audio", "audio": samples}

    def model_inputs(self, messages: list[dict[str, Any]]) -> BatchFeature:
        """Return what the model reads: the messages in its chat template, ready for its answer, with audio features.

        Raises:
            AmbiError: If the family does not take such messages.
        """
        name = self.model.config.model_type
        audios = sum(part["type"] == "audio" for message in messages for part in message["content"])
        if audios > 1 and self.one_audio_only:
            raise AmbiError(f"{name} takes one audio in a prompt, not {audios}; write one <audio> in doc_to_text")
        if audios and messages[0]["role"] == "system" and not self.system_beside_audio:
            raise AmbiError(f"{name} takes no system message beside audio; leave out --system_instruction")
        return self.processor.apply_chat_template(
            messages,
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            return_tensors="pt",
        )

    @property
    def rope_delta(self) -> int:
        """What the model's last prompt adds to the positions of all later tokens.

        The omni families count positions per modality, and keep the difference to the number of tokens on themselves.
        """
        deltas = [getattr(module, "rope_deltas", None) for module in self._position_counters]
        return int(deltas[0].flatten()[0]) if deltas and deltas[0] is not None else 0

    @property
    def counts_positions(self) -> bool:
        """Whether the model remembers what its last prompt adds to positions, so that prompts cannot go together."""
        return bool(self._position_counters)

    @property
    def _position_counters(self) -> list[Any]:
        modules = (self.model, getattr(self.model, "model", None))
        return [module for module in modules if hasattr(module, "rope_deltas")]


class OneWindow(Family):
    """A family whose feature extractor cuts the audio off after one window, without a word."""

    @property
    def window_seconds(self) -> float:
        """The length of the window in seconds."""
        return float(audio_extractor(self.processor).chunk_length)


class OneAudio(Family):
    """A family of which each prompt has one audio, of many minutes."""

    one_audio_only = True


class Omni(Family):
    """The part of an omni model that listens and writes (the thinker); the part that speaks is not loaded."""

    needs = ("PIL", "torchvision")
    extra = "omni"


class Qwen25Omni(Omni, OneWindow):
    """Qwen2.5-Omni, whose window is 300 s."""

    model_class = "Qwen2_5OmniThinkerForConditionalGeneration"


class Qwen3Omni(Omni):
    """Qwen3-Omni, which hears audio of any length."""

    model_class = "Qwen3OmniMoeThinkerForConditionalGeneration"


class Gemma4Unified(Family):
    """Gemma 4 without an encoder of its own for audio, which hears audio of any length."""

    needs: tuple[str, ...] = ("PIL", "torchvision")
    extra = "gemma"


class Gemma4(Gemma4Unified):
    """Gemma 4: audio is cut off after 30 s."""

    window_seconds = 30.0


class Gemma3n(Gemma4):
    """Gemma 3n, which is always built with the part that sees."""

    needs = ("PIL", "torchvision", "timm")


class Granite(Family):
    """Granite Speech."""

    needs = ("torchaudio",)
    extra = "granite"


class Phi4(Family):
    """Phi-4-multimodal."""

    needs = ("PIL", "torchvision", "peft")
    extra = "phi4"
    adapter = "speech-lora"


class Voxtral(Family):
    """Voxtral, whose processor takes audio as a file only, and no system message beside it."""

    needs = ("mistral_common",)
    extra = "voxtral"
    system_beside_audio = False

    def audio_part(self, samples: Samples) -> dict[str, Any]:
        """Return the audio as a WAV file of floats, which loses nothing."""
        file = io.BytesIO()
        soundfile.write(file, samples, self.sample_rate, format="WAV", subtype="FLOAT")
        return {"type": "audio", "base64": base64.b64encode(file.getvalue()).decode()}


FAMILIES: dict[str, type[Family]] = {
    "qwen2_audio": OneWindow,
    "audioflamingo3": OneAudio,
    "musicflamingo": OneAudio,
    "glmasr": OneAudio,
    "qwen2_5_omni": Qwen25Omni,
    "qwen2_5_omni_thinker": Qwen25Omni,
    "qwen3_omni_moe": Qwen3Omni,
    "qwen3_omni_moe_thinker": Qwen3Omni,
    "gemma3n": Gemma3n,
    "gemma4": Gemma4,
    "gemma4_unified": Gemma4Unified,
    "granite_speech": Granite,
    "granite_speech_plus": Granite,
    "phi4_multimodal": Phi4,
    "voxtral": Voxtral,
}


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
        dtype: Of the weights; "auto" is the checkpoint's own.
        device: Where the model computes; not used with a `device_map`.
        device_map: Spreads the model over several devices ("auto", or as in transformers).
        attn_implementation: "sdpa", "flash_attention_2", "eager" ...; None is the family's default.
        peft: Folder or repository of an adapter, merged into the weights.
        trust_remote_code: Whether code that comes with the checkpoint may run.

    Raises:
        AmbiError: If the checkpoint is not to be had, is no model that answers about audio, or needs a package that is
            not installed.
    """
    source = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(pretrained, **source)
        family = FAMILIES.get(config.model_type, Family)
        lacking = [module for module in family.needs if find_spec(module) is None]
        if lacking:
            raise AmbiError(
                f"{pretrained} ({config.model_type}) needs {' and '.join(lacking)}: "
                f"pip install 'ambi_eval[{family.extra}]'"
            )
        processor = AutoProcessor.from_pretrained(pretrained, **source)
        _check_hears_and_chats(pretrained, family, processor)
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
    if missing := sorted(report["missing_keys"]):
        # transformers would go on with random weights in their place.
        raise AmbiError(f"{pretrained} lacks {len(missing)} weights of a {type(model).__name__}, {missing[0]} first")
    return family(model if device_map is not None else model.to(device), processor)


def audio_extractor(processor: Any) -> Any:
    """Return the part of a processor that makes features of audio, or None."""
    return getattr(processor, "feature_extractor", None) or getattr(processor, "audio_processor", None)


def weights_digest(*sources: str, revision: str = "main") -> str:
    """Return a digest (hex) of the weights of checkpoints (a model, and its adapter), wherever they lie.

    Hashes the names and sizes of the weight files and evenly spaced blocks of them: every training step changes all
    weights, and 16 GB are done in a moment.
    """
    digest = hashlib.sha256()
    for source in sources:
        folder = _folder(source, revision)
        weights = [*folder.glob("*.safetensors"), *folder.glob("*/adapter_model.safetensors")]
        for path in sorted(weights) or sorted(folder.glob("*.bin")):
            size = path.stat().st_size
            digest.update(f"{path.name}|{size}|".encode())
            with path.open("rb") as file:
                for offset in range(0, size, max(DIGEST_BLOCK, size // DIGEST_BLOCKS)):
                    file.seek(offset)
                    digest.update(file.read(DIGEST_BLOCK))
    return digest.hexdigest()


def processor_digest(*sources: str, revision: str = "main") -> str:
    """Return a digest (hex) of what else in checkpoints an answer depends on, wherever they lie.

    That is configuration, tokenizer, chat template, the settings of the feature extractor, and code.
    """
    digest = hashlib.sha256()
    for source in sources:
        for path in sorted(_folder(source, revision).iterdir()):
            if path.suffix in PROCESSOR_FILES:
                digest.update(f"{path.name}|{path.stat().st_size}|".encode() + path.read_bytes())
    return digest.hexdigest()


def _folder(source: str, revision: str) -> Path:
    folder = Path(source)
    return folder if folder.is_dir() else Path(snapshot_download(source, revision=revision, local_files_only=True))


DIGEST_BLOCK = 1 << 16
DIGEST_BLOCKS = 256
PROCESSOR_FILES = (".jinja", ".json", ".model", ".py", ".txt")


def _check_hears_and_chats(pretrained: str, family: type[Family], processor: Any) -> None:
    if audio_extractor(processor) is None:
        raise AmbiError(f"{pretrained} is a model without audio support; give an audio-language model")
    tokenizer = getattr(processor, "tokenizer", None)
    template = getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)
    if template is None and family is not Voxtral:
        raise AmbiError(f"{pretrained} has no chat template, so it takes no questions; give an instruction-tuned model")


def _model_class(family: type[Family], config: Any) -> Any:
    """Return the class to load: the family's, the one that the checkpoint names, or what transformers maps it to."""
    named = family.model_class or next(iter(config.architectures or []), "")
    if hasattr(transformers, named):
        return getattr(transformers, named)
    if type(config) in transformers.AutoModelForSeq2SeqLM._model_mapping:
        return transformers.AutoModelForSeq2SeqLM
    return transformers.AutoModelForMultimodalLM


def _merged(model: Any, adapter: str, **source: Any) -> Any:
    from peft import PeftModel

    try:
        with warnings.catch_warnings():  # of an adapter of another model peft would go on without the weights
            warnings.filterwarnings("error", message=".*missing adapter keys")
            return PeftModel.from_pretrained(model, adapter, **source).merge_and_unload()
    except (ValueError, UserWarning) as error:
        place = "/".join([adapter, *filter(None, [source.get("subfolder")])])
        raise AmbiError(
            f"{place} is no adapter of this model ({_first_line(error)}); download the whole repository of the model "
            "anew, or correct peft="
        ) from error


def _placeholder_ids(config: Any) -> list[int]:
    parts = [config, getattr(config, "audio_config", None), getattr(config, "vision_config", None)]
    names = [f"{kind}_token_{suffix}" for kind in ("audio", "image", "video") for suffix in ("id", "index")]
    found = {getattr(part, name, None) for part in parts for name in names}
    return sorted(token for token in found if token is not None)


def _as_list(ids: int | list[int]) -> list[int]:
    return [ids] if isinstance(ids, int) else list(ids)


def _cause(error: BaseException) -> BaseException:
    """Return what an error began with: transformers hides a broken package behind its own ImportError."""
    return error if error.__cause__ is None else _cause(error.__cause__)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
