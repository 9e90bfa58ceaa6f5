"""From a model's text to a distribution, and from a distribution to its scores; knows nothing of the harness."""
