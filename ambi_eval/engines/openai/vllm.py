"""The requests of vLLM beyond the chat protocol: beam search, and the likelihoods of given answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ambi_eval.engines.base import Continuation, Job, Likelihood
from ambi_eval.engines.openai.client import ChatServer
from ambi_eval.errors import AmbiError

INSTEAD = "use sc, which samples answers, or hf-audio"


class VLLM:
    """Makes the requests that only vLLM understands, and reads its replies (tested with vLLM 0.32)."""

    def __init__(self, server: ChatServer) -> None:
        """Set up for a server; it is not asked before the first job."""
        self.server = server
        self._tokens: dict[str, list[int]] = {}

    def beam_fields(self, job: Job) -> dict[str, Any]:
        """Return the fields of a request for all beams of a job, which may have no length penalty.

        The beams go on after a stop string, and include the token that ends the turn. So the log-likelihood of an
        answer is complete; `choices.cut` cuts the answer.
        """
        if penalty := job.settings.length_penalty:
            why = f"length_penalty is {penalty:g}, and vLLM would count the tokens of the prompt too"
            raise AmbiError(f"{job.task}: {why}; leave it out (0)")
        ending = {"stop": None, "include_stop_str_in_output": True}
        return {"use_beam_search": True, "n": job.settings.num_beams, "length_penalty": 0.0, **ending}

    def loglikelihoods(self, job: Job, question: Mapping[str, Any]) -> list[Likelihood]:
        """Return the likelihoods of the continuations of a job, with one request for each."""
        return [self._loglikelihood(job, question, continuation) for continuation in job.continuations]

    def _loglikelihood(self, job: Job, question: Mapping[str, Any], continuation: Continuation) -> Likelihood:
        """Return the likelihood of one continuation, which the prompt holds as the model's own answer.

        vLLM gives the log-probability of each token of a prompt; the token that ends the turn is part of the prompt if
        it counts. `logprob_token_ids` is no way to its likelihood: with it, vLLM 0.32 drops the alternatives of all
        other requests of the same step (`vllm/v1/sample/sampler.py`), so that parallel beam searches lose beams.
        """
        text, ends = continuation
        tail = self.end if ends else []
        wanted = [*self.tokens(text), *tail]
        reply = self.server.ask(
            {
                **question,
                "messages": [*question["messages"], {"role": "assistant", "content": text}],
                "add_generation_prompt": False,
                "continue_final_message": not ends,
                "prompt_logprobs": 0,
                "max_tokens": 1,
                "temperature": 0,
                "return_token_ids": True,
            }
        )
        if reply.prompt_token_ids is None or reply.prompt_logprobs is None:
            what = f"{self.server.base_url} gives no log-likelihoods of prompts, as vLLM 0.32 does"
            raise AmbiError(f"{job.task}: {what}; update it, or use sc, which samples answers")
        if reply.prompt_token_ids[-len(wanted) :] != wanted:
            what = f"the chat template of {self.server.model} changes the answer {text!r}"
            raise AmbiError(f"{job.task}: {what}, so vLLM cannot tell its likelihood; {INSTEAD}")
        # What the template puts after the end of the turn (a line break) is no choice of the model.
        chosen = wanted[: len(wanted) - len(tail) + 1] if ends else wanted
        places = reply.prompt_logprobs[-len(wanted) :]
        read = [place[str(token)] for place, token in zip(places, chosen, strict=False) if place is not None]
        return sum(each.logprob for each in read), all(each.rank == 1 for each in read)

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text by the server's own tokenizer."""
        if text not in self._tokens:
            self._tokens[text] = self._tokenized({"prompt": text, "add_special_tokens": False})
        return self._tokens[text]

    @cached_property
    def end(self) -> list[int]:
        """The tokens that the chat template puts after an answer: the end of the turn, and what follows it."""
        conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        body = {"messages": conversation, "add_generation_prompt": False}
        ended, open_ended = (self._tokenized({**body, "continue_final_message": goes_on}) for goes_on in (False, True))
        if len(ended) <= len(open_ended) or ended[: len(open_ended)] != open_ended:
            what = f"the chat template of {self.server.model} puts no token after an answer"
            raise AmbiError(f"{what}, so vLLM cannot tell the likelihood of a whole answer; {INSTEAD}")
        return ended[len(open_ended) :]

    def _tokenized(self, body: Mapping[str, Any]) -> list[int]:
        reply = self.server.post("/tokenize", body)
        if not isinstance(reply, dict) or not isinstance(reply.get("tokens"), list):
            what = f"{self.server.base_url} gives no tokens of a text (/tokenize)"
            raise AmbiError(f"{what}, as vLLM does: give vLLM's own address as base_url; {INSTEAD}")
        return list(reply["tokens"])
