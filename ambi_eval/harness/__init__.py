"""What ties ambi_eval to lm-evaluation-harness."""
