"""Servers of models that are started here, in an environment of their own, and stopped with this process."""
