"""What differs between the families of audio-language models: their classes, processors, windows and special tokens."""

from __future__ import annotations

import base64
import io
from typing import Any

import soundfile
from transformers import BatchFeature, GenerationConfig

from ambi_eval.audio import Samples
from ambi_eval.engines.hf.features import remember_features, take_short_features
from ambi_eval.errors import AmbiError


class Family:
    """A loaded model with its processor: any family whose chat template takes `{"type": "audio", "audio": samples}`.

    Attributes:
        model: The transformers model, in evaluation mode.
        processor: Its processor.
        sample_rate: Sample rate in Hz of the audio that it takes.
        end_ids: Tokens that end the model's turn.
        placeholder_ids: Tokens that stand for audio, images and video in a prompt. As text they mean nothing, and the
            model cannot read back an answer that holds one (it looks for an audio that belongs to it). So they are
            never generated.
        audio_token_id: The token that stands for audio in a prompt.
        max_positions: Tokens of prompt and answer together that the model was built for, or None where it says nothing.
    """

    # Modules that the family needs beyond ours, and the extra of this package that installs them.
    needs: tuple[str, ...] = ()
    extra = ""
    # The class to load, where the one that the checkpoint names does more than to answer in text.
    model_class: str | None = None
    # A folder of the checkpoint with an adapter without which the model hears nothing.
    adapter: str | None = None
    # Inputs of the family's own processor.
    one_audio_only = False
    # Whether features are padded to the window; False where the model looks at those of the audio alone.
    pad_to_window = True
    system_beside_audio = True
    # Whether several prompts, padded on the right, give what each gives alone; tests/contract says so of each family.
    encodes_together = False
    # The layers of the audio encoder, by their path in the model; None where the model has no encoder for audio.
    encoder_layers: str | None = "model.audio_tower.layers"

    def __init__(self, model: Any, processor: Any) -> None:
        """Wrap a transformers model and its processor; the model's own generation settings are dropped."""
        self.model = model.eval()
        self.prepare(model)
        self.processor = processor
        remember_features(audio_extractor(processor), pad_to_window=self.pad_to_window)
        text = model.config.get_text_config()
        self.sample_rate = int(getattr(audio_extractor(processor), "sampling_rate", 16000))
        self.end_ids = _as_list(
            model.generation_config.eos_token_id
            or getattr(text, "eos_token_id", None)
            or processor.tokenizer.eos_token_id
        )
        self.placeholder_ids = [token for token in _placeholder_ids(model.config) if token < text.vocab_size]
        configs = [part for part in (model.config, getattr(model.config, "audio_config", None)) if part is not None]
        found = [part.audio_token_id for part in configs if hasattr(part, "audio_token_id")]
        self.audio_token_id: int | None = found[0] if found else None
        self.max_positions: int | None = getattr(text, "max_position_embeddings", None)
        # A checkpoint's own recipe (Qwen2-Audio-Instruct: top_p 0.5, repetition penalty 1.1) must not slip in under a
        # task's settings.
        model.generation_config = GenerationConfig(eos_token_id=self.end_ids, pad_token_id=self.end_ids[0])
        # Some processors lose their template on the way through AutoProcessor (Phi-4); the tokenizer still has it.
        if getattr(processor, "chat_template", None) is None:
            processor.chat_template = getattr(processor.tokenizer, "chat_template", None)

    @classmethod
    def prepare(cls, model: Any) -> None:
        """Change what must be changed in a model of this family before its first forward pass."""

    @property
    def window_seconds(self) -> float | None:
        """The longest audio that the model hears whole, in seconds; None where there is no such limit."""
        return self.window_of(self.processor)

    @classmethod
    def window_of(cls, processor: Any) -> float | None:
        """Return the `window_seconds` of a model with this processor."""
        most = getattr(processor, "max_audio_len", None)
        if most is None:
            return None
        # Audio is cut into windows, and only whole windows count: GLM-ASR names 655 s and hears 21 windows of 30 s.
        window = audio_extractor(processor).chunk_length
        return float(most // window * window)

    def audio_part(self, samples: Samples) -> dict[str, Any]:
        """Return the part of a chat message that holds one audio."""
        return {"type": "audio", "audio": samples}

    def model_inputs(self, messages: list[dict[str, Any]]) -> BatchFeature:
        """Return what the model reads: the messages in its chat template, ready for its answer, with audio features.

        Raises:
            AmbiError: If the family does not take these messages.
        """
        name = self.model.config.model_type
        audios = sum(part["type"] == "audio" for message in messages for part in message["content"])
        if audios > 1 and self.one_audio_only:
            raise AmbiError(
                f"{name} takes one audio in a prompt, not {audios}; write one <audio> in doc_to_text, and take "
                "no strategy that shows examples or pairs"
            )
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
        """Number that the model's last prompt adds to the positions of all later tokens.

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

    @classmethod
    def window_of(cls, processor: Any) -> float:
        """Return the length of the window in seconds."""
        return float(audio_extractor(processor).chunk_length)


class Qwen2Audio(OneWindow):
    """Qwen2-Audio, whose encoder looks at nothing but the audio in its window of 30 s."""

    pad_to_window = False
    encodes_together = True

    @classmethod
    def prepare(cls, model: Any) -> None:
        """Let the encoder take features of the audio alone."""
        take_short_features(model.model.audio_tower)


class OneAudio(Family):
    """A family whose prompts have one audio each, up to many minutes long."""

    one_audio_only = True
    encodes_together = True


class Omni(Family):
    """The part of an omni model that listens and writes (the thinker); the part that speaks is not loaded."""

    needs = ("PIL", "torchvision")
    extra = "omni"


class Qwen25Omni(Omni, OneWindow):
    """Qwen2.5-Omni, whose window is 300 s."""

    model_class = "Qwen2_5OmniThinkerForConditionalGeneration"
    pad_to_window = False  # 300 s of features are 15 MB, and take seven times as long as those of 30 s


class Qwen3Omni(Omni):
    """Qwen3-Omni, which hears audio of any length."""

    model_class = "Qwen3OmniMoeThinkerForConditionalGeneration"


class Gemma4Unified(Family):
    """Gemma 4 without an encoder of its own for audio, which hears audio of any length."""

    needs: tuple[str, ...] = ("PIL", "torchvision")
    extra = "gemma"
    encoder_layers: str | None = None


class Gemma4(Gemma4Unified):
    """Gemma 4: audio is cut off after 30 s."""

    encoder_layers = "model.audio_tower.layers"

    @classmethod
    def window_of(cls, processor: Any) -> float:
        """Return the length of the window in seconds."""
        return 30.0


class Gemma3n(Gemma4):
    """Gemma 3n, which is always built with the part that sees."""

    needs = ("PIL", "torchvision", "timm")
    encoder_layers = "model.audio_tower.conformer"


class Granite(Family):
    """Granite Speech."""

    needs = ("torchaudio",)
    extra = "granite"
    encoder_layers = "model.encoder.layers"


class Phi4(Family):
    """Phi-4-multimodal."""

    needs = ("PIL", "torchvision", "peft")
    extra = "phi4"
    adapter = "speech-lora"
    encoder_layers = "model.embed_tokens_extend.audio_embed.encoder.encoders"


class Voxtral(Family):
    """Voxtral, whose processor takes audio as a file only, and no system message beside it."""

    needs = ("mistral_common",)
    extra = "voxtral"
    system_beside_audio = False
    encodes_together = True

    def audio_part(self, samples: Samples) -> dict[str, Any]:
        """Return the audio as a WAV file of floats, which loses nothing."""
        file = io.BytesIO()
        soundfile.write(file, samples, self.sample_rate, format="WAV", subtype="FLOAT")
        return {"type": "audio", "base64": base64.b64encode(file.getvalue()).decode()}


class MuseSpark(Family):
    """Muse Spark, which hears audio of any length, at 24 kHz."""

    needs = ("PIL", "torchvision")
    extra = "omni"


FAMILIES: dict[str, type[Family]] = {
    "qwen2_audio": Qwen2Audio,
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
    "muse_spark": MuseSpark,
}


def audio_extractor(processor: Any) -> Any:
    """Return the part of a processor that makes features of audio, or None."""
    return getattr(processor, "feature_extractor", None) or getattr(processor, "audio_processor", None)


def _placeholder_ids(config: Any) -> list[int]:
    parts = [config, getattr(config, "audio_config", None), getattr(config, "vision_config", None)]
    names = [f"{kind}_token_{suffix}" for kind in ("audio", "image", "video") for suffix in ("id", "index")]
    found = {getattr(part, name, None) for part in parts for name in names}
    return sorted(token for token in found if token is not None)


def _as_list(ids: int | list[int]) -> list[int]:
    return [ids] if isinstance(ids, int) else list(ids)
