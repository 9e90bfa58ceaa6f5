"""Ultravox for the bridge: `python bridge.py ultravox:generate --name ultravox-v0_4`.

Environment of its own: pip install "transformers<5" peft librosa. Written after the model's own pipeline; without the
weights at hand it could be checked up to the interface only.
"""

import os

import librosa
import torch
import transformers

MODEL = os.environ.get("ULTRAVOX", "fixie-ai/ultravox-v0_4")
pipe = transformers.pipeline(model=MODEL, trust_remote_code=True, torch_dtype=torch.bfloat16, device=0)


def generate(audio_path, prompt, n, *, temperature, top_p, max_tokens, seed, stop, system):
    """Return n answers; see bridge.py."""
    if top_p < 1:
        raise ValueError("Ultravox's pipeline has no top_p")
    if seed is not None:
        transformers.set_seed(seed % 2**32)
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": f"<|audio|>\n{prompt}" if audio_path else prompt})
    inputs = {"turns": turns}
    if audio_path:
        inputs["audio"], inputs["sampling_rate"] = librosa.load(audio_path, sr=16000)
    # The pipeline takes temperature 0 for greedy. Its own repetition penalty of 1.1 would bend the distribution.
    options = {"temperature": temperature, "max_new_tokens": max_tokens, "repetition_penalty": 1.0}
    return [cut(pipe(dict(inputs), **options), stop) for _ in range(n)]


def cut(text, stop):
    """Return the text before the first stop string."""
    return text[: min((text.find(string) for string in stop if string in text), default=len(text))]
