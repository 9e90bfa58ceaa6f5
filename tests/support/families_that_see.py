"""How tiny random models of the families that also see are built offline, from the real classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers as hf

from support import families_that_hear as hearing

tiny, template, ended, TEXT = hearing.tiny, hearing.template, hearing.ended, hearing.TEXT

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
        hearing.whisper_extractor(300),
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
        hf.Qwen2VLImageProcessor(),
        hf.Qwen2VLVideoProcessor(),
        hearing.whisper_extractor(),
        tokenizer,
        chat_template=OMNI_CHAT,
    )
    return ended(hf.Qwen3OmniMoeThinkerForConditionalGeneration(config), 1), processor


def gemma4(unified: bool = False) -> tuple[Any, Any]:
    kind = "Gemma4Unified" if unified else "Gemma4"
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
    config = getattr(hf, f"{kind}Config")(
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
        audio_config={}
        if unified
        else {
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "subsampling_conv_channels": [16, 8],
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
    processor = getattr(hf, f"{kind}Processor")(
        feature_extractor=getattr(hf, f"{kind}AudioFeatureExtractor")(**({} if unified else {"feature_size": 16})),
        image_processor=getattr(hf, f"{kind}ImageProcessor")(),
        video_processor=getattr(hf, f"{kind}VideoProcessor")(),
        tokenizer=tokenizer,
        chat_template=template(
            "<start_of_turn>ROLE\n", "<end_of_turn>\n", "<audio_soft_token>", first="{{ bos_token }}"
        ),
    )
    return ended(getattr(hf, f"{kind}ForConditionalGeneration")(config), 1, 3), processor


def gemma3n() -> tuple[Any, Any]:
    # The family wants three blocks of ids: text, eight of vision, eight of audio.
    text = ["<pad>", "<eos>", "<bos>", "<end_of_turn>", "<start_of_image>", "<start_of_audio>"]
    bare = tiny.train_tokenizer(text, end="<eos>")
    size = len(bare)
    names = ["<end_of_image>", "<image_soft_token>", *(f"<vision_{n}>" for n in range(6))]
    names += ["<end_of_audio>", "<audio_soft_token>", *(f"<audio_{n}>" for n in range(6))]
    bare.add_tokens([hf.AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=bare.backend_tokenizer,
        eos_token="<eos>",
        pad_token="<pad>",
        bos_token="<bos>",
        padding_side="left",
        extra_special_tokens={
            "audio_token": "<audio_soft_token>",
            "boa_token": "<start_of_audio>",
            "eoa_token": "<end_of_audio>",
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
    )
    config = hf.Gemma3nConfig(
        text_config={
            **TEXT,
            "vocab_size": size + 16,
            "vocab_size_per_layer_input": size,
            "num_hidden_layers": 4,
            "head_dim": 16,
            "hidden_size_per_layer_input": 16,
            "num_kv_shared_layers": 2,
            "laurel_rank": 8,
            "sliding_window": 128,
            "activation_sparsity_pattern": [0.0] * 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
        audio_config={
            "vocab_size": 8,
            "vocab_offset": size + 8,
            "hidden_size": 64,
            "conf_num_attention_heads": 4,
            "conf_num_hidden_layers": 1,
            "sscp_conv_channel_size": [16, 8],
        },
        vision_config={
            "architecture": "test_efficientnet",
            "hidden_size": 256,
            "vocab_size": 8,
            "vocab_offset": size,
            "model_args": {},
        },
        boi_token_id=4,
        boa_token_id=5,
        eoi_token_id=size,
        image_token_id=size + 1,
        eoa_token_id=size + 8,
        audio_token_id=size + 9,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    chat = template("<start_of_turn>ROLE\n", "<end_of_turn>\n", "<audio_soft_token>", first="{{ bos_token }}")
    processor = hf.Gemma3nProcessor(
        hf.Gemma3nAudioFeatureExtractor(), hf.SiglipImageProcessor(), tokenizer, chat_template=chat
    )
    return ended(hf.Gemma3nForConditionalGeneration(config), 1, 3), processor


def muse_spark() -> tuple[Any, Any]:
    special = ["<|end_of_text|>", "<|eot|>", "<|audio|>", "<|soft_audio_start|>", "<|soft_audio_end|>"]
    special += ["<|patch|>", "<|image_start|>", "<|image_end|>", "<|video|>", "<|vid_start|>", "<|vid_end|>"]
    tokenizer = tiny.train_tokenizer([*special, "<|vid_frame_separator|>"], end="<|eot|>")
    config = hf.MuseSparkConfig(
        text_config={
            **TEXT,
            "vocab_size": len(tokenizer),
            "head_dim": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "moe_hidden_size": 32,
            "sliding_window": 128,
            "output_multiplier": 1.0,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        audio_config={"hidden_sizes": (16, 16, 32, 32), "depths": (1, 1, 1, 1), "out_hidden_size": 64},
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
        },
        out_hidden_size=256,
        projector_hidden_size=64,
        audio_token_id=2,
        image_token_id=5,
        video_token_id=8,
    )
    processor = hf.MuseSparkProcessor(
        hf.MuseGlimmerImageProcessor(),
        hf.MuseGlimmerVideoProcessor(),
        tokenizer,
        hf.MuseSparkFeatureExtractor(),
        chat_template=template("<|ROLE|>", "<|eot|>", "<|audio|>"),
    )
    return ended(hf.MuseSparkForConditionalGeneration(config), 0, 1), processor


def phi4_multimodal() -> tuple[Any, Any]:
    tokens = {"image_token": "<|image|>", "audio_token": "<|audio|>"}
    special = ["<|endoftext|>", "<|end|>", *tokens.values()]
    tokenizer = tiny.train_tokenizer(special, end="<|endoftext|>", extra_special_tokens=tokens)
    config = hf.Phi4MultimodalConfig(
        **{**TEXT, "original_max_position_embeddings": TEXT["max_position_embeddings"]},
        vocab_size=len(tokenizer),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_token_id": 2,
        },
        audio_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_blocks": 1,
            "num_attention_heads": 2,
            "ext_pw_out_channel": 32,
            "depthwise_separable_out_channel": 32,
            "nemo_conv_channels": 32,
            "audio_token_id": 3,
        },
        bos_token_id=0,
        eos_token_id=[0, 1],
        pad_token_id=0,
    )
    processor = hf.Phi4MultimodalProcessor(
        image_processor=hf.Phi4MultimodalImageProcessor(),
        audio_processor=hf.Phi4MultimodalFeatureExtractor(),
        tokenizer=tokenizer,
        chat_template=template("<|ROLE|>", "<|end|>", "<|audio|>"),
    )
    return ended(hf.Phi4MultimodalForCausalLM(config), 0, 1), processor


BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2_5_omni_thinker": qwen2_5_omni,
    "qwen3_omni_moe_thinker": qwen3_omni,
    "phi4_multimodal": phi4_multimodal,
    "gemma3n": gemma3n,
    "gemma4": gemma4,
    "gemma4_unified": lambda: gemma4(unified=True),
    "muse_spark": muse_spark,
}
