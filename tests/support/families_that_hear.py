"""How tiny random models of the families that only hear are built offline, from the real classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers as hf

from support import checkpoints as tiny

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16384,
}
WHISPER = {
    "hidden_size": 32,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_mel_bins": 128,
}
WINDOW = 10  # seconds, of which an encoder hears each as 50 positions; the families' own windows are of 30 s


def template(begin: str, end: str, audio: str, first: str = "") -> str:
    """Return a chat template: `begin` holds ROLE, the audio becomes `audio`."""
    before, after = begin.split("ROLE")
    part = "{% if c['type'] == 'audio' %}" + audio + "{% else %}{{ c['text'] }}{% endif %}"
    message = before + "{{ m['role'] }}" + after + "{% for c in m['content'] %}" + part + "{% endfor %}" + end
    answer = "{% if add_generation_prompt %}" + before + "assistant" + after + "{% endif %}"
    return first + "{% for m in messages %}" + message + "{% endfor %}" + answer


def whisper_extractor(window: int = 30) -> Any:
    return hf.WhisperFeatureExtractor(feature_size=128, chunk_length=window, return_attention_mask=True)


def ended(model: Any, *ends: int) -> Any:
    model.generation_config.update(eos_token_id=list(ends), pad_token_id=0)
    return model


def audio_flamingo_3() -> tuple[Any, Any]:
    tokenizer = tiny.train_tokenizer(["<|endoftext|>", "<|im_end|>", "<sound>"], end="<|im_end|>")
    config = hf.AudioFlamingo3Config(
        audio_config={**WHISPER, "max_source_positions": 50 * WINDOW},
        text_config={"model_type": "qwen2", "vocab_size": len(tokenizer), **TEXT},
        audio_token_id=2,
    )
    chat = template("<|im_start|>ROLE\n", "<|im_end|>\n", "<sound>")
    processor = hf.AudioFlamingo3Processor(whisper_extractor(WINDOW), tokenizer, chat_template=chat)
    return ended(hf.AudioFlamingo3ForConditionalGeneration(config), 1), processor


def music_flamingo() -> tuple[Any, Any]:
    special = ["<|endoftext|>", "<|im_end|>", "<sound>", "<|sound_bos|>", "<|sound_eos|>"]
    tokenizer = tiny.train_tokenizer(special, end="<|im_end|>")
    config = hf.MusicFlamingoConfig(
        audio_config={"model_type": "audioflamingo3_encoder", "max_source_positions": 50 * WINDOW, **WHISPER},
        text_config={"model_type": "qwen2", "vocab_size": len(tokenizer), **TEXT},
        audio_token_id=2,
        audio_bos_token_id=3,
        audio_eos_token_id=4,
    )
    chat = template("<|im_start|>ROLE\n", "<|im_end|>\n", "<sound>")
    processor = hf.MusicFlamingoProcessor(whisper_extractor(WINDOW), tokenizer, chat_template=chat)
    return ended(hf.MusicFlamingoForConditionalGeneration(config), 1), processor


def glm_asr() -> tuple[Any, Any]:
    tokenizer = tiny.train_tokenizer(["<|endoftext|>", "<|user|>", "<|assistant|>", "<|pad|>"], end="<|user|>")
    config = hf.GlmAsrConfig(
        audio_config={**WHISPER, "num_key_value_heads": 2, "max_position_embeddings": 50 * WINDOW},
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), **TEXT},
        audio_token_id=3,
    )
    chat = template("<|ROLE|>\n", "", "<|pad|>")
    processor = hf.GlmAsrProcessor(whisper_extractor(WINDOW), tokenizer, chat_template=chat)
    return ended(hf.GlmAsrForConditionalGeneration(config), 1), processor


def granite_speech(plus: bool = False) -> tuple[Any, Any]:
    kind = "GraniteSpeechPlus" if plus else "GraniteSpeech"
    tokenizer = tiny.train_tokenizer(["<|end_of_text|>", "<|audio|>"], end="<|end_of_text|>")
    config = getattr(hf, f"{kind}Config")(
        text_config={"model_type": "granite", "vocab_size": len(tokenizer), **TEXT},
        encoder_config={
            "input_dim": 160,
            "num_layers": 2,
            "hidden_dim": 64,
            "num_heads": 4,
            "dim_head": 16,
            "output_dim": 42,
            "context_size": 200,
            "max_pos_emb": 512,
            "conv_kernel_size": 15,
            **({"cat_hidden_layers": [0]} if plus else {}),
        },
        projector_config={
            "model_type": "blip_2_qformer",
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "encoder_hidden_size": 128 if plus else 64,
            "cross_attention_frequency": 1,
        },
        audio_token_index=1,
        has_lora_adapter=False,
    )
    chat = template("<|start_of_role|>ROLE<|end_of_role|>", "<|end_of_text|>\n", "<|audio|>")
    processor = hf.GraniteSpeechProcessor(hf.GraniteSpeechFeatureExtractor(), tokenizer, chat_template=chat)
    return ended(getattr(hf, f"{kind}ForConditionalGeneration")(config), 0), processor


# The tokenizer is saved by copying this file.
TEKKEN_FOLDER = TemporaryDirectory()


def tekken_tokenizer() -> Any:
    """Return the first tokens of the tokenizer that mistral-common brings along, with the special ones of Voxtral."""
    import mistral_common

    whole = json.loads((Path(mistral_common.__file__).parent / "data" / "tekken_240911.json").read_text())
    # The special tokens that Voxtral's own file has at these places; AVAILABLE_TOOLS and so on are never used here.
    names = "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS]"
    names += " [TOOL_CALLS] [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT]"
    names += " [/SYSTEM_PROMPT] [TOOL_CONTENT] <20> <21> <22> <23> [AUDIO] [BEGIN_AUDIO]"
    names += "".join(f" <{rank}>" for rank in range(26, 34)) + " [TRANSCRIBE]"
    names += "".join(f" <{rank}>" for rank in range(35, 64))
    cut = {
        "config": {
            "pattern": whole["config"]["pattern"],
            "num_vocab_tokens": 400,
            "default_vocab_size": 464,
            "default_num_special_tokens": 64,
            "version": "v7",
        },
        "vocab": whole["vocab"][:400],
        "special_tokens": [
            {"rank": rank, "token_str": name, "is_control": True} for rank, name in enumerate(names.split())
        ],
        "audio": {
            "sampling_rate": 16000,
            "frame_rate": 12.5,
            "chunk_length_s": 30.0,
            "audio_encoding_config": {"num_mel_bins": 128, "hop_length": 160, "window_size": 400},
        },
    }
    path = Path(TEKKEN_FOLDER.name) / "tekken.json"
    path.write_text(json.dumps(cut))
    return hf.MistralCommonBackend(tokenizer_path=str(path))


def voxtral() -> tuple[Any, Any]:
    config = hf.VoxtralConfig(
        audio_config={**WHISPER, "max_source_positions": 1500},
        text_config={"model_type": "llama", "vocab_size": 464, "head_dim": 16, **TEXT},
        audio_token_id=24,
    )
    processor = hf.VoxtralProcessor(whisper_extractor(), tekken_tokenizer())
    return ended(hf.VoxtralForConditionalGeneration(config), 2), processor


BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2_audio": tiny.build_qwen2_audio,
    "audioflamingo3": audio_flamingo_3,
    "musicflamingo": music_flamingo,
    "voxtral": voxtral,
    "granite_speech": granite_speech,
    "granite_speech_plus": lambda: granite_speech(plus=True),
    "glmasr": glm_asr,
}


def draw_weights(model: Any) -> Any:
    """Draw weights with which every input shows in the output, and some tokens are clearly preferred.

    As they are initialised, most families answer the same to whatever they hear.
    """
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=weight[0].numel() ** -0.5)
        head, words = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        if head is not words:  # else a token would call for itself again
            head.mul_(3)
    return model
