"""Runs lm_eval on a grid of models, corpora, strategies and seeds, on one machine or many."""
