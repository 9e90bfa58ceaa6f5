from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2AudioForConditionalGeneration

from ambi_eval.demo import train as training
from ambi_eval.demo.corpus import TRAINING_SPEAKERS, Utterance, utterances
from ambi_eval.demo.train import (
    END_OF_TURN,
    TRAINING_WINDOW_SECONDS,
    WINDOW_SECONDS,
    TrainingBatches,
    answer_loss,
    build_model,
    build_processor,
    mute,
    sinusoids,
    train,
    widen,
)
from ambi_eval.demo.training_examples import Prompt, demo_prompts, training_example


@pytest.fixture(scope="module")
def spoken() -> list[Utterance]:
    return list(utterances(TRAINING_SPEAKERS[:2], 2))


@pytest.fixture(scope="module")
def batches(spoken: Sequence[Utterance]) -> TrainingBatches:
    rng = np.random.default_rng(0)
    prompts = demo_prompts()
    texts = [text for prompt in prompts for one in spoken for text in training_example(prompt, one, spoken, rng)]
    return TrainingBatches(spoken, prompts, build_processor(texts), rng)


@pytest.fixture(scope="module")
def model(batches: TrainingBatches) -> Qwen2AudioForConditionalGeneration:
    torch.manual_seed(0)
    return build_model(batches.processor.tokenizer, TRAINING_WINDOW_SECONDS).eval()


def test_a_question_reads_and_sounds_as_it_does_to_the_saved_model(
    spoken: list[Utterance], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(training, "KIND_SHARES", {"shares": 1.0})
    prompt = Prompt("shares", "How likely is each of angry, happy, neutral, sad?")
    processor = build_processor([prompt.text])
    torch.manual_seed(0)
    model = build_model(processor.tokenizer, TRAINING_WINDOW_SECONDS).eval()
    saved = widen(model, processor.tokenizer, WINDOW_SECONDS).eval()
    for one in spoken:
        ((inputs, lengths),) = TrainingBatches([one], [prompt], processor, np.random.default_rng(0)).questions(1)
        content = [{"type": "audio", "audio": one.samples}, {"type": "text", "text": prompt.text}]
        asked = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            return_tensors="pt",
        )
        end = -int(lengths)
        assert torch.equal(inputs["input_ids"][:, :end], asked["input_ids"])
        with torch.inference_mode():
            torch.testing.assert_close(
                model(**inputs).logits[:, end - 1], saved(**asked).logits[:, -1], atol=1e-3, rtol=0
            )


def test_every_row_ends_with_its_answer_and_the_end_of_turn(batches: TrainingBatches):
    tokenizer = batches.processor.tokenizer
    seen = 0
    for inputs, lengths in batches.questions(20):
        for ids, mask, length in zip(inputs["input_ids"], inputs["attention_mask"], lengths, strict=True):
            seen += 1
            assert ids[-1] == tokenizer.convert_tokens_to_ids(END_OF_TURN)
            assert tokenizer.decode(ids[:-length]).endswith("<|im_start|>assistant\n")
            assert mask.sum() == (ids != tokenizer.pad_token_id).sum()
    assert seen == 20


def test_the_loss_is_the_models_own_summed_over_the_answers(
    batches: TrainingBatches, model: Qwen2AudioForConditionalGeneration
):
    inputs, lengths = next(batches.questions(8))
    labels = inputs["input_ids"].clone()
    for row, length in zip(labels, lengths, strict=True):
        row[:-length] = -100
    with torch.no_grad():
        mean = model(**inputs, labels=labels).loss
        torch.testing.assert_close(answer_loss(model, inputs, lengths), mean * lengths.sum())


def test_muted_utterances_are_silence_or_noise_as_loud_with_the_votes_as_they_were(spoken: list[Utterance]):
    levels = []
    for seed in range(8):
        muted = mute(spoken[0], np.random.default_rng(seed))
        assert muted.clip == spoken[0].clip
        assert muted.samples.shape == spoken[0].samples.shape
        levels.append(np.std(muted.samples) / np.sqrt(np.mean(spoken[0].samples ** 2)))
    assert set(np.round(levels, 1)) == {0.0, 1.0}


def test_the_position_table_is_whispers():
    table = sinusoids(50, 16)
    assert table.shape == (50, 16)
    np.testing.assert_allclose(table[:, 0], np.sin(np.arange(50)), atol=1e-5)
    np.testing.assert_allclose(table[:, -1], np.cos(np.arange(50) / 10_000), atol=1e-5)


@pytest.mark.slow
def test_training_is_a_function_of_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training, "CLIPS_PER_SPEAKER", 1)
    monkeypatch.setattr(training, "TRAINING_SPEAKERS", TRAINING_SPEAKERS[:3])
    monkeypatch.setattr(training, "QUESTIONS_PER_STEP", 4)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / name, steps=2, seed=seed)
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abc"}
    assert weights["a"] == weights["b"] != weights["c"]
    assert (tmp_path / "a" / training.PROMPTS_FILE).is_file()
