"""From a model's answers to a predicted distribution and its scores; independent of the harness."""
