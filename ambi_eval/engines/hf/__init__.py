"""The engine of transformers: a clip is read once and answered N times."""
