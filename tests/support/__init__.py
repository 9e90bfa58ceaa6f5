"""What tests share that is no fixture."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
