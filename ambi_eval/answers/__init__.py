"""Reads the distribution that a model's text states, and computes its scores; independent of the harness."""
