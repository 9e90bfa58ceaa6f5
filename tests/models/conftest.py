"""Tiny random checkpoints of real audio-language families, built offline in about a second each."""

from __future__ import annotations

import http.server
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lm_eval.api.instance import Instance
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

torch.set_num_threads(1)

SENTENCES = [
    "Which emotion does the speaker express? Answer with one word of: angry, happy, neutral, sad.",
    "system user assistant You are a helpful assistant. Audio 1: 0 1 2 3 4 5 6 7 8 9 . , : ?",
]


def train_tokenizer(special_tokens: list[str], end: str, **options: Any) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of a few hundred tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 8, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, pad_token=special_tokens[0], padding_side="left", **options
    )


def build_qwen2_audio(window: int = 30) -> tuple[Any, Any]:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
    tokenizer = train_tokenizer(special, end="<|im_end|>")
    pad, _, end, audio, *_ = tokenizer.convert_tokens_to_ids(special)
    config = Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "d_model": 32,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "num_mel_bins": 128,
            "max_source_positions": window * 50,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
        },
        audio_token_index=audio,
    )
    torch.manual_seed(0)
    model = Qwen2AudioForConditionalGeneration(config).eval()
    # The recipe of Qwen2-Audio-7B-Instruct: none of it may show.
    model.generation_config.update(
        eos_token_id=[end, pad], pad_token_id=pad, do_sample=True, top_k=20, top_p=0.5, repetition_penalty=1.1
    )
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=window, return_attention_mask=True)
    return model, Qwen2AudioProcessor(feature_extractor=extractor, tokenizer=tokenizer)


def sharpen(model: Any, scale: float = 8.0) -> Any:
    """Let a random model prefer some tokens clearly, as a trained one does; else its answers are uniform noise."""
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(scale)
    return model


@pytest.fixture(scope="session")
def qwen2_audio_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Qwen2-Audio of 0.2 M parameters."""
    folder = tmp_path_factory.mktemp("qwen2_audio")
    for part in build_qwen2_audio():
        (sharpen(part) if isinstance(part, torch.nn.Module) else part).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float, int], str]:
    """Write a voice-like wav of so many seconds, one for each seed, and give its path."""
    folder = tmp_path_factory.mktemp("voices")

    def path(seconds: float, seed: int = 0) -> str:
        file = folder / f"{seconds}_{seed}.wav"
        if not file.exists():
            rng = np.random.default_rng(seed)
            time = np.arange(round(seconds * 16000)) / 16000
            tone = 0.3 * np.sin(2 * np.pi * (150 + 60 * seed) * time * (1 + 0.1 * np.sin(5 * time)))
            soundfile.write(file, tone + 0.05 * rng.standard_normal(len(time)), 16000)
        return str(file)

    return path


@pytest.fixture(scope="session")
def ask() -> Callable[..., Instance]:
    """Build a request as the harness does."""

    def request(
        context: str,
        *paths: str,
        repeats: int = 1,
        continuation: str | None = None,
        end_of_turn: bool = False,
        **kwargs,
    ) -> Instance:
        audio = [{"path": path, "start": None, "end": None, "control": None} for path in paths]
        if continuation is not None:
            arguments = (context, continuation, {"audio": audio, "end_of_turn": end_of_turn})
            return Instance("loglikelihood", {}, arguments, 0, metadata=("task", 0, repeats))
        return Instance("generate_until", {}, (context, kwargs, {"audio": audio}), 0, metadata=("task", 0, repeats))

    return request


class ChatTestServer:
    """An OpenAI-compatible chat server whose answers follow from what it is asked, and that can be told to fail.

    Attributes:
        url: Where it is.
        bodies: Every request for answers that arrived.
        keys: The keys that came with them.
        faults: What happens to the next requests instead of an answer, in turn: `(status, headers, content)`, "cut" or
            "hang"; None is an answer. A callable is asked with each body for as long as it is there.
        most: The most choices that it gives, whatever `n` says.
        owner: Who owns the model in its list of models.
        at_once: The most requests that were there at the same time.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.faults: list[Any] = []
        self.most = 100
        self.owner = "a test"
        self.at_once = self._now = 0
        self.lock = threading.Lock()
        chat = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send(200, {}, {"object": "list", "data": [{"id": "listener", "owned_by": chat.owner}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with chat.lock:
                    chat.bodies.append(body)
                    chat.keys.append(self.headers["Authorization"])
                    chat._now += 1
                    chat.at_once = max(chat.at_once, chat._now)
                    fault = chat.faults[0] if chat.faults else None
                    if callable(fault):
                        fault = fault(body)
                    elif chat.faults:
                        chat.faults.pop(0)
                time.sleep(0.02)
                with chat.lock:
                    chat._now -= 1
                if fault == "cut":
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                elif fault == "hang":
                    time.sleep(1.5)
                    self.close_connection = True
                else:
                    self.send(*(fault or (200, {}, chat.answer(body))))

            def send(self, status: int, headers: dict[str, str], content: Any) -> None:
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return an answer that hangs on the messages and on the seed of each choice."""
        asked = json.dumps(body["messages"])
        digits = "Rate it" in asked
        choices = []
        for number in range(min(body.get("n") or 1, self.most)):
            drawn = f"{asked}{body.get('seed', 0) + number if body['temperature'] else ''}"
            words = "12345" if digits else ["angry", "happy", "neutral", "sad"]
            word = random.Random(drawn).choice(words)
            others = [("1", -1.0), (" 5", -1.0), ("x", 0.0)] if "top_logprobs" in body else []
            alternatives = [{"token": token, "logprob": logprob} for token, logprob in others]
            token = {"token": word, "logprob": -0.5, "top_logprobs": alternatives}
            choices.append(
                {
                    "index": number,
                    "message": {"role": "assistant", "content": word},
                    "finish_reason": "stop",
                    "logprobs": {"content": [token, {"token": "", "logprob": -0.25}]} if body.get("logprobs") else None,
                }
            )
        usage = {
            "prompt_tokens": 100,
            "completion_tokens": 2 * len(choices),
            "prompt_tokens_details": {"audio_tokens": 80},
        }
        return {"choices": choices, "usage": usage, "system_fingerprint": "fp_1"}

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def chat_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatTestServer]:
    """Start a chat server on this machine, with no key in the environment."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    server = ChatTestServer()
    yield server
    server.close()
