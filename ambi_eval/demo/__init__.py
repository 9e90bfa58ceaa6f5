"""The demo: synthetic voices, SIMULATED raters, and a tiny audio-language model trained on them."""
