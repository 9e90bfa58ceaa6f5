from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import t as student_t
from transformers import AutoConfig, AutoProcessor, Qwen2AudioForConditionalGeneration

from ambi_eval.answers.shares import read_shares
from ambi_eval.demo.corpus import TEST_CLIPS_PER_SPEAKER, TEST_SPEAKERS, TRAINING_SPEAKERS, Utterance, utterances
from ambi_eval.demo.raters import LABELS
from ambi_eval.demo.train import CHECKPOINT, PROMPTS_FILE
from ambi_eval.demo.training_examples import Prompt, as_json, demo_prompts, describe, in_tenths, votes_of
from ambi_eval.metrics.clustered import clustered_standard_error, influence_on_mean
from ambi_eval.metrics.distribution import jensen_shannon_divergence_bits
from ambi_eval.votes import shares

pytestmark = pytest.mark.slow  # what is in the checkpoint changes by training alone

PROMPTS = demo_prompts()
Array = NDArray[np.float64]


class Listener:
    """The checkpoint as anybody would use it: transformers' own classes, batches padded on the left."""

    def __init__(self) -> None:
        self.processor = AutoProcessor.from_pretrained(CHECKPOINT)
        self.model = Qwen2AudioForConditionalGeneration.from_pretrained(CHECKPOINT).eval()

    def inputs(self, heard: Sequence[Utterance], questions: Sequence[str]) -> dict[str, Any]:
        conversations = [
            [{"role": "user", "content": [{"type": "audio", "audio": one.samples}, {"type": "text", "text": question}]}]
            for one, question in zip(heard, questions, strict=True)
        ]
        return self.processor.apply_chat_template(
            conversations,
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            return_tensors="pt",
            processor_kwargs={"text_kwargs": {"padding": True}},
        )

    @torch.inference_mode()
    def probabilities(self, heard: Sequence[Utterance], questions: Sequence[str], words: Sequence[str]) -> Array:
        """The probability that each answer begins with each of the words, shape (clips, words)."""
        tokens = [self.processor.tokenizer(word)["input_ids"] for word in words]
        assert all(len(ids) == 1 for ids in tokens)
        parts = [
            self.model(**self.inputs(heard[i : i + 16], questions[i : i + 16])).logits[:, -1].softmax(-1)
            for i in range(0, len(heard), 16)
        ]
        return torch.cat(parts)[:, [ids[0] for ids in tokens]].double().numpy()

    @torch.inference_mode()
    def answers(self, heard: Sequence[Utterance], question: str) -> list[str]:
        """The greedy answers."""
        inputs = self.inputs(heard, [question] * len(heard))
        generated = self.model.generate(**inputs, max_new_tokens=128, do_sample=False)
        return self.processor.batch_decode(generated[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener()


@pytest.fixture(scope="module")
def heard() -> list[Utterance]:
    return list(utterances(TEST_SPEAKERS, TEST_CLIPS_PER_SPEAKER))


@pytest.fixture(scope="module")
def some(heard: list[Utterance]) -> list[Utterance]:
    """Half of each speaker's clips."""
    return heard[::2]


@pytest.fixture(scope="module")
def votes(heard: list[Utterance]) -> Array:
    return np.array([votes_of(one) for one in heard])


@pytest.fixture(scope="module")
def likelihoods(listener: Listener, heard: list[Utterance]) -> Array:
    (prompt,) = (prompt for prompt in PROMPTS if prompt.kind == "label")
    return listener.probabilities(heard, [prompt.text] * len(heard), LABELS)


@pytest.fixture(scope="module")
def prior() -> Array:
    """The mean distribution of clips that the model was trained on."""
    return shares([votes_of(one) for one in utterances(TRAINING_SPEAKERS, 8)]).mean(axis=0)


def assert_higher(scores: Array, others: Array, heard: Sequence[Utterance]) -> None:
    """Scores of the same clips, compared pairwise; clips of one speaker are not independent."""
    difference = scores - others
    error, speakers = clustered_standard_error(influence_on_mean(difference), [one.clip.speaker for one in heard])
    assert student_t.sf(difference.mean() / error, speakers - 1) < 0.01


def test_the_checkpoint_is_a_qwen2_audio_of_at_most_8_mb():
    assert AutoConfig.from_pretrained(CHECKPOINT).architectures == ["Qwen2AudioForConditionalGeneration"]
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) < 8e6


def test_the_checkpoint_was_trained_on_todays_prompts():
    trained = json.loads((CHECKPOINT / PROMPTS_FILE).read_text(encoding="utf-8"))
    today = [{"kind": prompt.kind, "sha256": prompt.sha256} for prompt in PROMPTS]
    by_hash = {prompt.sha256: prompt.text for prompt in PROMPTS}
    new = [by_hash[one["sha256"]] for one in today if one not in trained]
    assert not new, f"ambi-tiny never saw these prompts; train it anew: python -m ambi_eval.demo.train\n{new}"


def test_label_likelihoods_fit_the_votes_of_unseen_speakers_better_than_the_prior(
    likelihoods: Array, votes: Array, prior: Array, heard: list[Utterance]
):
    jsd = jensen_shannon_divergence_bits(shares(likelihoods), votes)
    assert jsd.mean() < 0.13
    assert_higher(jensen_shannon_divergence_bits(prior, votes), jsd, heard)


def test_they_fit_better_than_what_the_model_says_of_another_clip_of_the_same_speaker(
    likelihoods: Array, votes: Array, heard: list[Utterance]
):
    by_speaker = likelihoods.reshape(len(TEST_SPEAKERS), TEST_CLIPS_PER_SPEAKER, len(LABELS))
    shuffled = np.roll(by_speaker, 1, axis=1).reshape(likelihoods.shape)
    assert_higher(
        jensen_shannon_divergence_bits(shares(shuffled), votes),
        jensen_shannon_divergence_bits(shares(likelihoods), votes),
        heard,
    )


def test_nearly_all_of_the_models_mass_is_on_the_labels(likelihoods: Array):
    assert likelihoods.sum(axis=1).mean() > 0.98


@pytest.mark.parametrize(
    "prompt", [prompt for prompt in PROMPTS if prompt.kind in ("shares", "reasons")], ids=lambda prompt: prompt.kind
)
def test_every_answer_that_states_shares_is_valid_and_tells_more_than_the_prior(
    prompt: Prompt, listener: Listener, some: list[Utterance], prior: Array
):
    answers = [read_shares(text, LABELS) for text in listener.answers(some, prompt.text)]
    assert [answer.reason for answer in answers] == [None] * len(answers)
    votes = np.array([votes_of(one) for one in some])
    assert_higher(
        jensen_shannon_divergence_bits(prior, votes),
        jensen_shannon_divergence_bits([answer.shares for answer in answers], votes),
        some,
    )


def test_reasons_describe_the_voice_as_it_was_synthesized(listener: Listener, some: list[Utterance]):
    (prompt,) = (prompt for prompt in PROMPTS if prompt.kind == "reasons")
    words = re.compile(r"pitch is (\w+), .* is (\w+), .* pace is (\w+) .* tone is (\w+)\.")
    right = [
        said == meant
        for one, answer in zip(some, listener.answers(some, prompt.text), strict=True)
        for said, meant in zip(
            words.search(answer).groups(), words.search(describe(one.delivery, np.ones(4))).groups(), strict=True
        )
    ]
    assert len(right) == 4 * len(some)
    assert np.mean(right) > 0.7


def test_a_question_for_a_rating_is_answered_by_a_rating(listener: Listener, heard: list[Utterance]):
    """Whether the rating means anything is another matter: a model of this size does not learn to compare."""
    (prompt,) = (prompt for prompt in PROMPTS if prompt.kind == "rating")
    clips = heard[::2]
    questions = [prompt.text.replace("{{ candidate }}", as_json(in_tenths(shares(votes_of(one))))) for one in clips]
    assert listener.probabilities(clips, questions, list("12345")).sum(axis=1).min() > 0.95
