"""What a score means: baselines, human references, bins of ambiguity, confidence intervals and tests."""
