"""The task class at the address that YAML files name: `class: !function ambi_eval.task.AmbiguousEmotionTask`."""

from ambi_eval.harness.task import AmbiguousEmotionTask

__all__ = ["AmbiguousEmotionTask"]
