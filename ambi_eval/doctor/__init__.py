"""Checks whether a model hears, repeats its answers and gives consistent likelihoods; and checks a task's file."""
