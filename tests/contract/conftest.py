"""A tiny random checkpoint of every audio-language family, built offline; those that lack a package are skipped."""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

# The same tiny Qwen2-Audio, tokenizer and voices as in the tests of models/.
tiny: Any = SourceFileLoader(
    "tiny_checkpoints", str(Path(__file__).parents[1] / "models" / "conftest.py")
).load_module()
voice, ask = tiny.voice, tiny.ask

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
WHISPER = {
    "hidden_size": 32,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_mel_bins": 128,
}


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
        audio_config=WHISPER,
        text_config={"model_type": "qwen2", "vocab_size": len(tokenizer), **TEXT},
        audio_token_id=2,
    )
    chat = template("<|im_start|>ROLE\n", "<|im_end|>\n", "<sound>")
    processor = hf.AudioFlamingo3Processor(whisper_extractor(), tokenizer, chat_template=chat)
    return ended(hf.AudioFlamingo3ForConditionalGeneration(config), 1), processor


def music_flamingo() -> tuple[Any, Any]:
    special = ["<|endoftext|>", "<|im_end|>", "<sound>", "<|sound_bos|>", "<|sound_eos|>"]
    tokenizer = tiny.train_tokenizer(special, end="<|im_end|>")
    config = hf.MusicFlamingoConfig(
        audio_config={"model_type": "audioflamingo3_encoder", **WHISPER},
        text_config={"model_type": "qwen2", "vocab_size": len(tokenizer), **TEXT},
        audio_token_id=2,
        audio_bos_token_id=3,
        audio_eos_token_id=4,
    )
    chat = template("<|im_start|>ROLE\n", "<|im_end|>\n", "<sound>")
    processor = hf.MusicFlamingoProcessor(whisper_extractor(), tokenizer, chat_template=chat)
    return ended(hf.MusicFlamingoForConditionalGeneration(config), 1), processor


def glm_asr() -> tuple[Any, Any]:
    tokenizer = tiny.train_tokenizer(["<|endoftext|>", "<|user|>", "<|assistant|>", "<|pad|>"], end="<|user|>")
    config = hf.GlmAsrConfig(
        audio_config={**WHISPER, "num_key_value_heads": 2, "max_position_embeddings": 1500},
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), **TEXT},
        audio_token_id=3,
    )
    chat = template("<|ROLE|>\n", "", "<|pad|>")
    processor = hf.GlmAsrProcessor(whisper_extractor(), tokenizer, chat_template=chat)
    return ended(hf.GlmAsrForConditionalGeneration(config), 1), processor


OMNI_TOKENS = {
    "audio_token": "<|AUDIO|>",
    "image_token": "<|IMAGE|>",
    "video_token": "<|VIDEO|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
}
OMNI_CHAT = template("<|im_start|>ROLE\n", "<|im_end|>\n", "<|audio_bos|><|AUDIO|><|audio_eos|>")


def omni_tokenizer() -> Any:
    special = ["<|endoftext|>", "<|im_end|>", *OMNI_TOKENS.values()]
    return tiny.train_tokenizer(special, end="<|im_end|>", extra_special_tokens=OMNI_TOKENS)


def omni_encoder(**options: Any) -> dict[str, Any]:
    return {
        "d_model": 32,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "num_mel_bins": 128,
        "output_dim": 64,
        **options,
    }


def omni_eyes(**options: Any) -> dict[str, Any]:
    return {"depth": 1, "hidden_size": 64, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 64, **options}


def qwen2_5_omni() -> tuple[Any, Any]:
    tokenizer = omni_tokenizer()
    config = hf.Qwen2_5OmniThinkerConfig(
        audio_config=omni_encoder(n_window=100),
        vision_config=omni_eyes(patch_size=14, fullatt_block_indexes=[0]),
        text_config={
            "vocab_size": len(tokenizer),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            **TEXT,
        },
        audio_token_index=2,
        image_token_index=3,
        video_token_index=4,
        audio_start_token_id=5,
        audio_end_token_id=6,
        vision_start_token_id=7,
        vision_end_token_id=8,
        pad_token_id=0,
        eos_token_id=1,
    )
    processor = hf.Qwen2_5OmniProcessor(
        hf.Qwen2VLImageProcessor(),
        hf.Qwen2VLVideoProcessor(),
        whisper_extractor(300),
        tokenizer,
        chat_template=OMNI_CHAT,
    )
    return ended(hf.Qwen2_5OmniThinkerForConditionalGeneration(config), 1), processor


def qwen3_omni() -> tuple[Any, Any]:
    tokenizer = omni_tokenizer()
    config = hf.Qwen3OmniMoeThinkerConfig(
        audio_config=omni_encoder(n_window=50, downsample_hidden_size=32),
        vision_config=omni_eyes(patch_size=16, deepstack_visual_indexes=[0], num_position_embeddings=256),
        text_config={
            "vocab_size": len(tokenizer),
            "head_dim": 16,
            "moe_intermediate_size": 32,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [2, 3, 3],
                "mrope_interleaved": True,
            },
            **TEXT,
        },
        audio_token_id=2,
        image_token_id=3,
        video_token_id=4,
        audio_start_token_id=5,
        audio_end_token_id=6,
        vision_start_token_id=7,
        vision_end_token_id=8,
        pad_token_id=0,
        eos_token_id=1,
    )
    processor = hf.Qwen3OmniMoeProcessor(
        hf.Qwen2VLImageProcessor(), hf.Qwen2VLVideoProcessor(), whisper_extractor(), tokenizer, chat_template=OMNI_CHAT
    )
    return ended(hf.Qwen3OmniMoeThinkerForConditionalGeneration(config), 1), processor


def gemma4() -> tuple[Any, Any]:
    tokens = {
        "audio_token": "<audio_soft_token>",
        "boa_token": "<start_of_audio>",
        "eoa_token": "<end_of_audio>",
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    special = ["<pad>", "<eos>", "<bos>", "<end_of_turn>", *tokens.values(), "<|video|>"]
    tokenizer = tiny.train_tokenizer(special, end="<eos>", bos_token="<bos>", extra_special_tokens=tokens)
    config = hf.Gemma4Config(
        text_config={
            **TEXT,
            "vocab_size": len(tokenizer),
            "vocab_size_per_layer_input": len(tokenizer),
            "num_hidden_layers": 4,
            "head_dim": 16,
            "global_head_dim": 16,
            "hidden_size_per_layer_input": 16,
            "sliding_window": 128,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
        audio_config={
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "subsampling_conv_channels": [128, 8],
            "output_proj_dims": 64,
        },
        vision_config=None,
        audio_token_id=4,
        boa_token_id=5,
        eoa_token_index=6,
        image_token_id=7,
        boi_token_id=8,
        eoi_token_id=9,
        video_token_id=10,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    processor = hf.Gemma4Processor(
        feature_extractor=hf.Gemma4AudioFeatureExtractor(),
        image_processor=hf.Gemma4ImageProcessor(),
        video_processor=hf.Gemma4VideoProcessor(),
        tokenizer=tokenizer,
        chat_template=template(
            "<start_of_turn>ROLE\n", "<end_of_turn>\n", "<audio_soft_token>", first="{{ bos_token }}"
        ),
    )
    return ended(hf.Gemma4ForConditionalGeneration(config), 1, 3), processor


def granite_speech() -> tuple[Any, Any]:
    tokenizer = tiny.train_tokenizer(["<|end_of_text|>", "<|audio|>"], end="<|end_of_text|>")
    config = hf.GraniteSpeechConfig(
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
        },
        projector_config={
            "model_type": "blip_2_qformer",
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "encoder_hidden_size": 64,
            "cross_attention_frequency": 1,
        },
        audio_token_index=1,
        has_lora_adapter=False,
    )
    chat = template("<|start_of_role|>ROLE<|end_of_role|>", "<|end_of_text|>\n", "<|audio|>")
    processor = hf.GraniteSpeechProcessor(hf.GraniteSpeechFeatureExtractor(), tokenizer, chat_template=chat)
    return ended(hf.GraniteSpeechForConditionalGeneration(config), 0), processor


# How a checkpoint is built, and what must be installed for it.
BUILDERS: dict[str, tuple[Callable[[], tuple[Any, Any]], tuple[str, ...]]] = {
    "qwen2_audio": (tiny.build_qwen2_audio, ()),
    "audioflamingo3": (audio_flamingo_3, ()),
    "musicflamingo": (music_flamingo, ()),
    "glmasr": (glm_asr, ()),
    "qwen2_5_omni_thinker": (qwen2_5_omni, ("PIL", "torchvision")),
    "qwen3_omni_moe_thinker": (qwen3_omni, ("PIL", "torchvision")),
    "gemma4": (gemma4, ("PIL", "torchvision")),
    "granite_speech": (granite_speech, ("torchaudio",)),
}


@pytest.fixture(scope="session", params=BUILDERS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random checkpoint of one family."""
    build, needs = BUILDERS[request.param]
    if lacking := [module for module in needs if find_spec(module) is None]:
        pytest.skip(f"{request.param} needs {' and '.join(lacking)}")
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    model, processor = build()
    tiny.sharpen(model).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
