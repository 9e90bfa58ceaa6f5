"""A whole grid of runs of lm_eval - models, corpora, strategies, seeds - on one machine or many."""
