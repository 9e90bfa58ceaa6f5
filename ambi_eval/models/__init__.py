"""The models that answer: audio-language models behind the interface of lm-evaluation-harness."""
