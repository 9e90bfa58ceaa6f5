"""Tiny random checkpoints of real audio-language families, built offline in about a second each."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

torch.set_num_threads(1)

SENTENCES = [
    "Which emotion does the speaker express? Answer with one word of: angry, happy, neutral, sad.",
    "system user assistant You are a helpful assistant. Audio 1: 0 1 2 3 4 5 6 7 8 9 . , : ?",
]


def train_tokenizer(special_tokens: list[str], end: str, **options: Any) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of a few hundred tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 8, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, pad_token=special_tokens[0], padding_side="left", **options
    )


def build_qwen2_audio(window: int = 30) -> tuple[Any, Any]:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
    tokenizer = train_tokenizer(special, end="<|im_end|>")
    pad, _, end, audio, *_ = tokenizer.convert_tokens_to_ids(special)
    config = Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "d_model": 32,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "num_mel_bins": 128,
            "max_source_positions": window * 50,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
        },
        audio_token_index=audio,
    )
    torch.manual_seed(0)
    model = Qwen2AudioForConditionalGeneration(config).eval()
    # The recipe of Qwen2-Audio-7B-Instruct: none of it may show.
    model.generation_config.update(
        eos_token_id=[end, pad], pad_token_id=pad, do_sample=True, top_k=20, top_p=0.5, repetition_penalty=1.1
    )
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=window, return_attention_mask=True)
    return model, Qwen2AudioProcessor(feature_extractor=extractor, tokenizer=tokenizer)


def sharpen(model: Any, scale: float = 8.0) -> Any:
    """Let a random model prefer some tokens clearly, as a trained one does; else its answers are uniform noise."""
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(scale)
    return model
