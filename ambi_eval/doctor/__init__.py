"""Checks whether a model hears, repeats itself and gives likelihoods that sum to one."""
