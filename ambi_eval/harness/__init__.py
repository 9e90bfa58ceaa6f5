"""Connects ambi_eval to lm-evaluation-harness."""
