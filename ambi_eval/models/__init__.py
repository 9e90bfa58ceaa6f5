"""The harness's models: what lm-evaluation-harness sees of an engine."""
