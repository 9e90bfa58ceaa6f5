"""Train `ambi-tiny`, the audio-language model of the demo and the tests: a real Qwen2-Audio, only tiny."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from tqdm import tqdm
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from ambi_eval.demo.corpus import TRAINING_SPEAKERS, Utterance, utterances
from ambi_eval.demo.speech import SAMPLE_RATE
from ambi_eval.demo.training_examples import Kind, Prompt, demo_prompts, training_example

CHECKPOINT = Path(__file__).parent / "ambi-tiny"
PROMPTS_FILE = "prompts.json"  # beside the weights: the prompts that the checkpoint was trained on

WINDOW_SECONDS = 6  # seconds that the model hears; the rest of a clip is cut
TRAINING_WINDOW_SECONDS = 3  # no utterance is longer, and the encoder's work grows with its window
MEL_BINS = 128
CLIPS_PER_SPEAKER = 80
MUTED_EVERY = 10
QUESTIONS_PER_STEP = 32
QUESTIONS_PER_PASS = 8  # similar lengths go together, which saves padding
PEAK_LEARNING_RATE = 2e-3
# The share of each kind of prompt in the training; all prompts of a kind are equally frequent.
KIND_SHARES: dict[Kind, float] = {"label": 0.3, "shares": 0.35, "reasons": 0.25, "rating": 0.1}

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
END, _, END_OF_TURN, AUDIO, _, _ = SPECIAL_TOKENS
TOKEN_ROLES = {"bos_token_id": END, "eos_token_id": END_OF_TURN, "pad_token_id": END}


def build_processor(texts: Sequence[str]) -> Qwen2AudioProcessor:
    """Return feature extractor and tokenizer: byte-level BPE in which every word of the texts is one token."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=1000,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END_OF_TURN,
        pad_token=END,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    extractor = WhisperFeatureExtractor(
        feature_size=MEL_BINS, sampling_rate=SAMPLE_RATE, chunk_length=WINDOW_SECONDS, return_attention_mask=True
    )
    return Qwen2AudioProcessor(feature_extractor=extractor, tokenizer=tokenizer)


def build_model(tokenizer: PreTrainedTokenizerFast, seconds: int) -> Qwen2AudioForConditionalGeneration:
    """Return the untrained model with 1.1 million weights; its window is the first `seconds` of a clip."""
    vocabulary = tokenizer.get_vocab()
    ids = {role: vocabulary[token] for role, token in TOKEN_ROLES.items()}
    config = Qwen2AudioConfig(
        audio_config={
            "d_model": 96,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 256,
            "num_mel_bins": MEL_BINS,
            "max_source_positions": seconds * 50,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 2048,
            **ids,
        },
        audio_token_index=vocabulary[AUDIO],
    )
    model = Qwen2AudioForConditionalGeneration(config)
    model.generation_config.update(**ids)
    positions = model.model.audio_tower.embed_positions.weight
    positions.data.copy_(sinusoids(*positions.shape))
    return model


def widen(
    model: Qwen2AudioForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, seconds: int
) -> Qwen2AudioForConditionalGeneration:
    """Return the same model with a longer window.

    Only the table of position embeddings depends on the window. It is not learned, and padding is masked, so the
    outputs for shorter clips do not change.
    """
    wider = build_model(tokenizer, seconds)
    learned = {name: weight for name, weight in model.state_dict().items() if "embed_positions" not in name}
    wider.load_state_dict(learned, strict=False)
    return wider


def sinusoids(length: int, width: int) -> Tensor:
    """Return Whisper's table of fixed positions, shape (length, width)."""
    rates = torch.exp(-np.log(10_000) * torch.arange(width // 2) / (width // 2 - 1))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def mute(utterance: Utterance, rng: np.random.Generator) -> Utterance:
    """Return an utterance with the same votes, but with silence or white noise of the same level instead of the voice.

    From these a model learns the mean of all votes, which it should predict under the controls.
    """
    level = np.sqrt(np.mean(utterance.samples**2)) * rng.integers(2)
    noise = level * rng.standard_normal(len(utterance.samples))
    return replace(utterance, samples=noise.astype(np.float32))


class TrainingBatches:
    """Draws new training examples for every step; the audio features are computed once."""

    def __init__(
        self,
        spoken: Sequence[Utterance],
        prompts: Sequence[Prompt],
        processor: Qwen2AudioProcessor,
        rng: np.random.Generator,
    ) -> None:
        """Compute the features of all utterances and keep them in memory, in half precision."""
        self.spoken, self.prompts, self.processor, self.rng = spoken, prompts, processor, rng
        kinds = [prompt.kind for prompt in prompts]
        self.weights = [KIND_SHARES[kind] / kinds.count(kind) for kind in kinds]
        heard = [
            processor.feature_extractor(
                utterance.samples,
                sampling_rate=SAMPLE_RATE,
                max_length=TRAINING_WINDOW_SECONDS * SAMPLE_RATE,
                return_attention_mask=True,
                return_tensors="pt",
            )
            for utterance in tqdm(spoken, "features", unit="clip")
        ]
        self.features = torch.cat([one["input_features"].half() for one in heard])
        self.masks = torch.cat([one["attention_mask"] for one in heard])

    def questions(self, count: int) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Yield the model's inputs for `count` examples in parts, with the number of tokens of each answer.

        Rows are padded on the left, so every row ends with its answer.
        """
        rows = [self._row(clip) for clip in self.rng.integers(len(self.spoken), size=count)]
        rows.sort(key=lambda row: len(row[1]))
        for start in range(0, count, QUESTIONS_PER_PASS):
            clips, tokens, answer_lengths = map(list, zip(*rows[start : start + QUESTIONS_PER_PASS], strict=True))
            padded = self.processor.tokenizer.pad({"input_ids": tokens}, return_tensors="pt")
            heard = {"input_features": self.features[clips].float(), "feature_attention_mask": self.masks[clips]}
            yield {**padded, **heard}, torch.tensor(answer_lengths)

    def _row(self, clip: int) -> tuple[int, list[int], int]:
        """Return the clip, the tokens of a prompt and its answer, and the number of tokens of the answer."""
        prompt = self.prompts[self.rng.choice(len(self.prompts), p=self.weights)]
        question, answer = training_example(prompt, self.spoken[clip], self.spoken, self.rng)
        message: dict[str, Any] = {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": question}]}
        asked = self.processor.apply_chat_template([message], add_generation_prompt=True)
        frames = int(self.masks[clip].sum())
        heard = AUDIO * (((frames - 1) // 2 - 1) // 2 + 1)  # two strides of 2: one token for every 40 ms
        asked_ids, answer_ids = (
            self.processor.tokenizer(text)["input_ids"] for text in (asked.replace(AUDIO, heard), answer + END_OF_TURN)
        )
        return clip, asked_ids + answer_ids, len(answer_ids)


def answer_loss(model: Qwen2AudioForConditionalGeneration, inputs: dict[str, Tensor], lengths: Tensor) -> Tensor:
    """Return the negative log-likelihood of the answers in nats, summed over the tokens and the rows.

    Inputs are padded on the left, each row ending with its answer. `lengths`, shape (rows,), are the numbers of tokens
    of the answers, end of turn included.
    """
    ids = inputs["input_ids"]
    answered = torch.arange(ids.shape[1], 0, -1) <= lengths[:, None]
    hidden = model.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
    # The output layer is applied to the answers only, since the loss does not use the prompts' tokens.
    logits = model.lm_head(hidden[answered[:, 1:]])
    return torch.nn.functional.cross_entropy(logits, ids[answered], reduction="sum")


def train(out: Path = CHECKPOINT, steps: int = 1000, seed: int = 0) -> None:
    """Train ambi-tiny on the training speakers and save it: about 15 minutes on one free core.

    Args:
        out: Folder of the checkpoint.
        steps: Number of steps, with 32 examples each.
        seed: Seed of the weights and of the examples.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    total = len(TRAINING_SPEAKERS) * CLIPS_PER_SPEAKER
    spoken = list(tqdm(utterances(TRAINING_SPEAKERS, CLIPS_PER_SPEAKER), "utterances", total, unit="clip"))
    spoken += [mute(one, rng) for one in spoken[::MUTED_EVERY]]
    prompts = demo_prompts()

    texts = [text for prompt in prompts for one in spoken[:100] for text in training_example(prompt, one, spoken, rng)]
    processor = build_processor(texts)
    model = build_model(processor.tokenizer, TRAINING_WINDOW_SECONDS).train()
    batches = TrainingBatches(spoken, prompts, processor, rng)

    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps, pct_start=0.1)
    with tqdm(range(steps), "training", unit="step") as progress:
        for _ in progress:
            loss = 0.0
            for inputs, lengths in batches.questions(QUESTIONS_PER_STEP):
                part = answer_loss(model, inputs, lengths) / QUESTIONS_PER_STEP
                part.backward()
                loss += part.item()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            progress.set_postfix_str(f"{loss:.2f} nats per answer")

    widen(model, processor.tokenizer, WINDOW_SECONDS).save_pretrained(out)
    processor.save_pretrained(out)
    hashes = [{"kind": prompt.kind, "sha256": prompt.sha256} for prompt in prompts]
    (out / PROMPTS_FILE).write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(train)
