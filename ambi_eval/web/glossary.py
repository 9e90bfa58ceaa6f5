"""The glossary of the pages: strategies, terms and controls in one sentence each; metrics have theirs in `METRICS`."""

from __future__ import annotations

from ambi_eval.metrics import METRICS

STRATEGIES = {
    "direct": "One greedy answer that states a share for each label.",
    "cot": "The same after the model has described the voice: chain of thought.",
    "bon": "Best of N: five beams that state shares; 'best' takes the likeliest, 'mean' the mean of all.",
    "wbon": "Weighted best of N: the same five beams, weighted by their likelihood.",
    "almv": "Three beams, each rated by a verifier (the model itself or another); 'best' takes the best rated.",
    "walmv": "The same three beams, weighted by the verifier's ratings.",
    "sc": "Self-consistency: 20 sampled answers that name one label each; 'dist' is their histogram, 'vote' the label "
    "that most of them name.",
    "sc_shares": "20 sampled answers that state shares; 'mean' is their mean, 'vote' the label that most favor.",
    "asc": "Adaptive self-consistency: like 'sc', but no more answers are drawn once the outcome is settled.",
    "ens": "One greedy answer to each of five wordings of the question; the mean of their shares.",
    "few_shot": "As 'direct', after three clips of other speakers with the shares of their raters.",
    "pairs": "Two clips of one speaker: in which one do more people hear the label? Both orders; .5 is chance.",
    "voxemo": "VoxEmo's protocol, our wordings: one label for each of five prompts; 'uniform_fallback' fills gaps.",
    "aer_llm": "AER-LLM's protocol, our wording: a dictionary of probabilities; 'neutral_fallback' fills failures.",
    "exact": "No sampling: the likelihood of each label is read out. What the histogram of 'sc' tends to.",
}
WORDS = {
    "JSD": "Jensen-Shannon divergence in bits between prediction and votes: 0 is perfect, 1 the worst.",
    "half a panel": "Half of a clip's raters predict the other half: how well people predict people.",
    "prior": "The mean of all clips' votes, predicted for every clip: a prediction without listening.",
    "perfect model": "The votes' own shares, judged by new panels of the same size: no model can expect to do better.",
    "worth raters": "The number of raters whose mean is expected to be as close to the truth as the prediction.",
    "pairs told apart": "How often the predictions for two clips by one speaker fit the right clips; 0.5 is chance.",
    "gap closed": "0 is as good as the prior, 1 as good as half a panel of raters, judged by the same raters.",
    "invalid clips": "Clips without any usable answer. They score the worst value and are never left out.",
    "spread": "Standard deviation of the divergence over runs with different seeds.",
}
SIMULATED = "SIMULATED RATERS: synthetic speech, judged by a program. This says nothing about people or models."
# The control that tells most about listening comes first.
CONTROLS = {
    "shuffle": "Another clip of the corpus: keeps what all clips have in common.",
    "shuffle_same_sentence": "Another speaker's clip of the same sentence: keeps the words.",
    "shuffle_same_speaker": "Another clip of the same speaker: keeps the speaker.",
    "silence_fixed": "Digital silence of one length for all clips: keeps nothing of the clip.",
    "silence": "Digital silence of the clip's length: keeps how long the clip is.",
    "noise": "Noise of the clip's length and level: keeps how long and how loud the clip is.",
    "transcript": "The words in writing and no audio: keeps what is said.",
}


def metrics() -> dict[str, str]:
    """Return the description of each metric."""
    return {name: metric.description for name, metric in METRICS.items()}
