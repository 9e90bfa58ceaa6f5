"""Translates requests of a chat server into those of the Gemini API, and its replies into those of a chat server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ambi_eval.services.uploads import MIME

# Field of a chat request -> field of Gemini's configuration; other fields have the same name.
FIELDS = {
    "max_tokens": "max_output_tokens",
    "stop": "stop_sequences",
    "n": "candidate_count",
    "logprobs": "response_logprobs",
    "top_logprobs": "logprobs",
}
# Words of a refusal -> the field of a chat request that is refused.
REFUSALS = {
    "candidate": "n",
    "logprob": "logprobs",
    "seed": "seed",
    "stop.?sequence": "stop",
    "temperature": "temperature",
    "thinking": "thinking_token_budget",
    "top.?p": "top_p",
}


def refused_field(told: str) -> str | None:
    """Return the field of a chat request that an error message of Gemini is about; None if it names none."""
    return next((field for words, field in REFUSALS.items() if re.search(words, told, re.IGNORECASE)), None)


FINISHES = {"STOP": "stop", "MAX_TOKENS": "length"}
# Finish reasons of withheld answers. Any other reason, except the two above, is a failure: the request is repeated.
WITHHELD = ("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")


def to_gemini(body: Mapping[str, Any], uri: Callable[[bytes], str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the contents and the configuration of a request, as google-genai takes them.

    The request is one to a chat server, with audios as `{"wav": bytes}`; `uri` uploads one and returns its address.
    """
    contents = []
    config = {FIELDS.get(name, name): value for name, value in body.items() if name not in ("model", "messages")}
    if "response_logprobs" not in config:
        config.pop("logprobs", None)
    if budget := config.pop("thinking_token_budget", None):
        config["thinking_config"] = {"thinking_budget": budget, **config.get("thinking_config", {})}
    for message in body["messages"]:
        content = message["content"]
        parts = [{"text": content}] if isinstance(content, str) else [_part(each, uri) for each in content]
        if message["role"] == "system":
            config["system_instruction"] = {"parts": parts}
        else:
            contents.append({"role": "user", "parts": parts})
    return contents, config


def _part(part: Mapping[str, Any], uri: Callable[[bytes], str]) -> dict[str, Any]:
    if "wav" in part:
        return {"fileData": {"fileUri": uri(part["wav"]), "mimeType": MIME}}
    return {"text": part["text"]}


def as_line(contents: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as the line of a batch, with the field names of the HTTP API."""
    own = ("system_instruction", "safety_settings")
    generation = {name: value for name, value in config.items() if name not in own}
    beside = {name: config[name] for name in own if name in config}
    named: dict[str, Any] = _camel({"contents": contents, "generation_config": generation, **beside})
    return named


def _camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {re.sub(r"_(\w)", lambda found: found[1].upper(), name): _camel(each) for name, each in value.items()}
    return [_camel(each) for each in value] if isinstance(value, list) else value


def to_chat_reply(reply: Mapping[str, Any]) -> bytes:
    """Return a reply of google-genai (as JSON values) in the format of a chat server."""
    blocked = (reply.get("prompt_feedback") or {}).get("block_reason")
    candidates = reply.get("candidates") or ([{"finish_reason": "SAFETY"}] if blocked else [])
    used = reply.get("usage_metadata") or {}
    thought = used.get("thoughts_token_count") or 0
    details = used.get("prompt_tokens_details") or []
    audio = sum(each.get("token_count") or 0 for each in details if each.get("modality") == "AUDIO")
    usage = {
        "prompt_tokens": used.get("prompt_token_count"),
        "completion_tokens": (used.get("candidates_token_count") or 0) + thought,
        "prompt_tokens_details": {"audio_tokens": audio},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    choices = [_choice(number, candidate) for number, candidate in enumerate(candidates)]
    version = reply.get("model_version")
    chat = {"choices": choices, "usage": usage, "model": version, "system_fingerprint": version}
    chat["prompt_withheld"] = bool(blocked and not reply.get("candidates"))
    return json.dumps(chat).encode()


def _choice(number: int, candidate: Mapping[str, Any]) -> dict[str, Any]:
    parts = (candidate.get("content") or {}).get("parts") or []
    text = "".join(part.get("text") or "" for part in parts if not part.get("thought"))
    reason = candidate.get("finish_reason") or "STOP"
    finish = "content_filter" if reason in WITHHELD else FINISHES.get(reason, "error")
    choice = {"index": number, "message": {"content": text}, "finish_reason": finish}
    found = candidate.get("logprobs_result") or {}
    if chosen := found.get("chosen_candidates"):
        top = [each.get("candidates") or [] for each in found.get("top_candidates") or []]
        tokens = [
            {**_token(each), "top_logprobs": [_token(other) for other in (top[place] if place < len(top) else [])]}
            for place, each in enumerate(chosen)
        ]
        choice["logprobs"] = {"content": tokens}
    return choice


def _token(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"token": found.get("token") or "", "logprob": found.get("log_probability")}
