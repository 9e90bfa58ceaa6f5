"""The settings of tasks, models and sweeps: every key with its type, default and description."""
