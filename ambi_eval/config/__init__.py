"""What a task, a model, a run may be told: every key, its type, its default."""
