"""Counts what replies hold, and warns once of each thing that a user should know of them."""

from __future__ import annotations

import logging
from collections import Counter
from threading import Lock

from ambi_eval.config.model_names import is_same_model
from ambi_eval.engines.openai.choices import FINISHES, thinking_length
from ambi_eval.engines.openai.replies import Reply, Usage

logger = logging.getLogger(__name__)

TOKENS = ("prompt_tokens", "generated_tokens", "audio_tokens", "thinking_tokens")
COUNTERS = ("requests", "retries", "failed", "uncounted_replies", *TOKENS)


class Tally:
    """Counts the tokens, the system fingerprints and the names of models in replies; any number of threads may add.

    Attributes:
        counts: The counts of a `ChatServer`.
        fingerprints: Number of replies by system fingerprint.
        names: Number of replies by the name of the model that they give.
    """

    def __init__(self, server: str, model: str, think_end: str | None) -> None:
        """Set up for a model of a server; `think_end` is what the model writes at the end of its thinking."""
        self.server, self.model, self.think_end = server, model, think_end
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.fingerprints: Counter[str] = Counter()
        self.names: Counter[str] = Counter()
        self._told_of_thinking = False
        self._unknown_finishes: set[str] = set()
        self._lock = Lock()

    def add(self, reply: Reply) -> bool:
        """Count a reply, and return whether the server has counted its tokens."""
        usage = reply.usage or Usage()
        thought = usage.thinking_tokens
        if thought is None:
            thought = sum(thinking_length(choice, self.think_end) for choice in reply.choices)
        is_counted = usage.prompt_tokens is not None and usage.completion_tokens is not None
        with self._lock:
            self.counts["uncounted_replies"] += not is_counted
            for name, tokens in {**usage.paid, "thinking_tokens": thought}.items():
                self.counts[name] += tokens
            if reply.system_fingerprint:
                self.fingerprints[reply.system_fingerprint] += 1
            self._tell(reply)
            if reply.model:
                self.names[reply.model] += 1
        return is_counted

    def _tell(self, reply: Reply) -> None:
        if reply.model and reply.model not in self.names and not is_same_model(reply.model, self.model):
            what = "%s answers as '%s', but '%s' was asked for: make sure that it does not ask another model"
            logger.warning(what, self.server, reply.model, self.model)
        reasons = {each.finish_reason for each in reply.choices if each.finish_reason and not each.failed}
        for reason in {each for each in reasons if each.lower() not in FINISHES} - self._unknown_finishes:
            self._unknown_finishes.add(reason)
            what = "%s ends an answer with finish_reason '%s', which we do not know: it counts as an answer"
            logger.warning(what, self.server, reason)
        if not self._told_of_thinking and any(each.thought_apart and not each.text for each in reply.choices):
            self._told_of_thinking = True
            what = "%s gives thinking without an answer, which counts as an empty answer: allow more tokens (%s); %s"
            fix = "if this is no model that thinks, start it without a reasoning parser"
            logger.warning(what, self.server, "--gen_kwargs max_gen_toks=2048", fix)
