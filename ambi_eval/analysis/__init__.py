"""What a score means: baselines and human references beside it, bins of ambiguity, intervals."""
