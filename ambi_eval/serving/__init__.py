"""Starts model servers, each in its own Python environment, and stops them when this process ends."""
