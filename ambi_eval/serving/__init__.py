"""Starts servers of models, each in an environment of its own, and stops them with this process."""
