"""What must be equal between vLLM and hf-audio, whether the replies of vLLM were written down or are fresh."""

import numpy as np
import pytest
from scipy.stats import chisquare

# Likelihoods of both engines may differ by that, in nats: they add up the same numbers in another order.
TOLERANCE = 1e-4


def candidates(of_task, key):
    return [sample["doc"]["candidates"][key] for sample in of_task if sample["doc"].get("candidates")]


class EqualsHFAudio:
    """Inherit from it, and give `samples`: the logged samples by task, of vLLM and of hf-audio."""

    @pytest.mark.parametrize("strategy", ["direct", "cot", "ens", "bon", "wbon", "almv", "walmv"])
    def test_greedy_answers_and_beams_are_those_of_hf_audio(self, samples, strategy):
        ours, theirs = (of_all[f"ambi_demo_{strategy}"] for of_all in samples)
        assert [sample["resps"] for sample in ours] == [sample["resps"] for sample in theirs]
        for key in ("logprob", "n_tokens"):
            one, other = (np.array(candidates(of_task, key), dtype=float) for of_task in (ours, theirs))
            assert one.size
            assert np.allclose(one, other, rtol=0, atol=TOLERANCE)

    @pytest.mark.parametrize("strategy", ["almv", "walmv"])
    def test_ratings_are_those_of_hf_audio(self, samples, strategy):
        one, other = (
            np.array(candidates(of_all[f"ambi_demo_{strategy}"], "rating"), dtype=float) for of_all in samples
        )
        assert np.isfinite(one).all()
        assert np.allclose(one, other, rtol=0, atol=TOLERANCE)

    def test_likelihoods_of_labels_are_those_of_hf_audio(self, samples):
        ours, theirs = (of_all["ambi_demo_exact"] for of_all in samples)
        one, other = (
            np.array([[logprob for ((logprob, _),) in sample["resps"]] for sample in of_task], dtype=float)
            for of_task in (ours, theirs)
        )
        assert one.shape == (len(ours), 4)
        assert np.allclose(one, other, rtol=0, atol=TOLERANCE)
        assert [[greedy for ((_, greedy),) in sample["resps"]] for sample in ours] == [
            [greedy for ((_, greedy),) in sample["resps"]] for sample in theirs
        ]

    def test_samples_are_drawn_from_the_likelihoods_of_the_labels(self, samples):
        """Chi-square test of all labels drawn; by chance one recording in a thousand fails it."""
        labels = ["angry", "happy", "neutral", "sad"]
        observed, expected = np.zeros(4), np.zeros(4)
        once = [sample for sample in samples[0]["ambi_demo_sc"] if sample["filter"] == "dist"]
        for drawn, exact in zip(once, samples[0]["ambi_demo_exact"], strict=True):
            answers = [str(answer) for answer in drawn["resps"][0]]
            p = np.exp([logprob for ((logprob, _),) in exact["resps"]])
            assert set(answers) <= set(labels)
            observed += [answers.count(label) for label in labels]
            expected += len(answers) * p / p.sum()
        assert chisquare(observed, expected).pvalue > 0.001
