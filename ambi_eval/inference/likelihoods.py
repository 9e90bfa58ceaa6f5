"""Likelihoods of given continuations: from the store if it has them, else from the engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ambi_eval.engines.base import Job, Likelihood
from ambi_eval.inference.answer_cache import AnswerCache


def loglikelihoods(cache: AnswerCache, jobs: Sequence[Job]) -> Iterator[tuple[Job, list[Likelihood]]]:
    """Yield each job with the likelihoods of its continuations, in any order, and store new ones at once.

    Jobs on which the engine fails are left out.
    """
    keys = {job: cache.key(job.prompt, job.spans, job.task, method="likelihood") for job in jobs}
    known = cache.likelihoods({key: job.continuations for job, key in keys.items()})
    to_do = []
    for job in jobs:
        found = [each for each in known[keys[job]] if each is not None]
        if len(found) == len(job.continuations):
            yield job, found
        else:
            to_do.append(job)
    for job, made in cache.engine.loglikelihoods(to_do) if to_do else ():
        cache.keep_prompt(keys[job], job.prompt_tokens)  # stored together with the likelihoods
        cache.keep_likelihoods(keys[job], job.continuations, made)
        yield job, made
