"""Benchmark how well audio-language models predict the distribution of human emotion votes (imports nothing)."""
