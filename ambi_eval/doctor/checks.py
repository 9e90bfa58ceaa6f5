"""Checks for any engine: whether it hears the audio, repeats its answers, and gives consistent likelihoods."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch

from ambi_eval.answers.label import read_label
from ambi_eval.audio import AudioSpan, load_audio
from ambi_eval.config.prompts import AUDIO_MARK
from ambi_eval.doctor.subject import LABELS, LONG_SECONDS, QUESTION, Subject
from ambi_eval.engines.hf.prompts import Continuation, Prompt
from ambi_eval.engines.prompt import as_messages
from ambi_eval.errors import AmbiError, counted
from ambi_eval.models.audio_lm import open_engine

logger = logging.getLogger(__name__)

OPEN_QUESTION = f"{AUDIO_MARK}Describe this recording in one sentence."
GREEDY = {"do_sample": False, "max_gen_toks": 8}
SAMPLED = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 8}
# Tolerance of a log-likelihood in nats per token, for the rounding of float32 and of half precision.
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.1
# Another voice must change a log-likelihood by more than this (nats); rounding changes it by less.
LEAST_CHANGE = 1e-4
# A model hardly uses the labels if they hold less than this share of the probability, or of 8 answers.
LEAST_MASS, LEAST_SHARE = 0.1, 0.5

Status = Literal["passed", "remark", "refused", "failed"]


class CheckError(Exception):
    """A fault of the model, in one sentence."""


class RemarkError(AmbiError):
    """A property of the model that is no fault but that a user should know, in one sentence."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one check."""

    name: str  # the check
    # `passed`, `failed`, `remark` (no fault, but a user should know it), or `refused` (the model cannot do what the
    # check needs).
    status: Status
    sentence: str  # what the check saw
    seconds: float  # its wall time


def hears(subject: Subject) -> str:
    """Another voice changes the likelihoods of the labels, or the greedy answer of a model without likelihoods."""
    paths = [subject.voice(3.0, number) for number in (0, 1)]
    try:
        one, other = (subject.likelihoods(path) for path in paths)
    except AmbiError:
        answers = [str(pool[0]) for pool in subject.answers([(OPEN_QUESTION, path) for path in paths], GREEDY)]
        _require(answers[0] != answers[1], f"answers {answers[0]!r} to a deep slow voice and to a high fast one")
        return f"{answers[0]!r} about a deep slow voice, {answers[1]!r} about a high fast one"
    change = float(np.abs(one - other).max())
    _require(change > LEAST_CHANGE, f"is deaf: two voices change the likelihoods of the labels by {change:.1g} nats")
    return f"two voices change the likelihoods of the labels by up to {change:.2g} nats"


def hears_to_the_end(subject: Subject) -> str:
    """Another voice at the end of a long clip changes the likelihoods of the labels."""
    seconds = subject.long_seconds
    same, changed = (subject.likelihoods(subject.voice(seconds, *[0] * 7, last)) for last in (0, 1))
    change = float(np.abs(same - changed).max())
    _require(change > LEAST_CHANGE, f"does not hear the last {seconds / 8:.0f} of {seconds:.0f} s")
    return f"the last {seconds / 8:.0f} of {seconds:.0f} s change the likelihoods by up to {change:.2g} nats"


def repeats_greedy_answers(subject: Subject) -> str:
    """The same question gets the same greedy answer twice."""
    asked = [(OPEN_QUESTION, subject.voice(3.0, 0))]
    ((one,),), ((other,),) = subject.answers(asked, GREEDY), subject.answers(asked, GREEDY)
    changes = f"answers {str(one)!r}, and {str(other)!r} when it is asked again"
    if one != other and not subject.runs_here:
        raise RemarkError(f"{changes}: its greedy answers cannot be had again")
    _require(str(one) == str(other), changes)
    return f"{str(one)!r}, twice"


def ignores_the_batch(subject: Subject) -> str:
    """Clips of 0.05 to 30 s get the same answers together as each one alone."""
    exact, lengths = subject.exact, (3.0, 0.05, 0.3, min(30.0, subject.long_seconds))
    asked = [(OPEN_QUESTION, subject.voice(seconds, number % 2)) for number, seconds in enumerate(lengths)]
    together = subject.answers(asked, SAMPLED, count=3)
    alone = [subject.answers([each], SAMPLED, count=3)[0] for each in asked[::-1]][::-1]
    pairs = [pair for pools in zip(together, alone, strict=True) for pair in zip(*pools, strict=True)]
    changed = sum(str(one) != str(other) for one, other in pairs)
    what = f"{changed} of {len(pairs)} answers about clips of {min(lengths)} to {max(lengths):.0f} s change"
    seen = f"{what} when they are decoded together"
    _require(changed <= (0 if exact else len(pairs) // 2), seen)
    return seen


def draws_different_samples(subject: Subject) -> str:
    """The samples of a clip are not all equal."""
    ((*pool,),) = subject.answers([(OPEN_QUESTION, subject.voice(3.0, 0))], SAMPLED, count=8)
    different = len({str(answer) for answer in pool})
    _require(different > 1, f"8 samples at temperature 1 are all {str(pool[0])!r}")
    return f"{different} different ones of 8 at temperature 1"


def repeats_samples(subject: Subject) -> str:
    """The same seed gives the same samples, and a smaller pool is the beginning of a larger one."""
    exact, asked = subject.runs_here and subject.exact, [(OPEN_QUESTION, subject.voice(3.0, 0))]
    (eight,), (four,) = subject.answers(asked, SAMPLED, count=8), subject.answers(asked, SAMPLED, count=4)
    same = sum(str(one) == str(other) for one, other in zip(eight, four, strict=False))
    few = f"only {same} of 4 samples are the same with the same seed"
    if same < 4 and not subject.runs_here:
        raise RemarkError(f"{few}: its samples cannot be drawn again")
    _require(same == 4 or (same >= 2 and not exact), few)
    return f"{same} of 4 samples are the first ones of 8"


def honors_the_temperature(subject: Subject) -> str:
    """Answers are equal at temperature 0 and differ at temperature 2; the engine notes the result for later runs."""
    asked = [(OPEN_QUESTION, subject.voice(3.0, 0))]
    cold = len({str(subject.answers(asked, GREEDY)[0][0]) for _ in range(4)})
    hot = len(set(map(str, subject.answers(asked, {**SAMPLED, "temperature": 2.0}, count=8)[0])))
    seen = f"{cold} different answer{'s' * (cold > 1)} of 4 at temperature 0, {hot} of 8 at temperature 2"
    fixed = cold > 1 or hot == 1 or subject.engine.capabilities.sampling_is == "fixed by the provider"
    subject.engine.note_sampling("fixed by the provider" if fixed else "honoured")
    if fixed:
        raise RemarkError(f"the provider fixes the sampling ({seen}): sc and sc_shares draw from another distribution")
    return seen


def gives_several_answers(subject: Subject) -> str:
    """A server gives several samples for one request; otherwise each sample takes a request."""
    before = subject.engine.counts()
    if "requests" not in before:
        raise AmbiError("only a model on a server is asked by requests")
    subject.answers([(OPEN_QUESTION, subject.voice(2.0, 1))], SAMPLED, count=4)
    requests = subject.engine.counts()["requests"] - before["requests"]
    if requests > 1:
        raise RemarkError(f"4 samples take {requests} requests: the server does not give several answers to one (n)")
    return "4 samples come with one request"


def uses_the_labels(subject: Subject) -> str:
    """The model names a label when it is asked for one."""
    path = subject.voice(3.0, 1)
    try:
        mass = float(np.exp(subject.likelihoods(path)).sum())
    except AmbiError:
        (pool,) = subject.answers([(QUESTION, path)], SAMPLED, count=8)
        named = sum(read_label(str(answer), LABELS).shares is not None for answer in pool)
        seen, few = f"{named} of 8 answers name one of {', '.join(LABELS)}", named < LEAST_SHARE * len(pool)
    else:
        seen, few = f"the {len(LABELS)} labels hold {mass:.2g} of the probability", mass < LEAST_MASS
    if few:
        raise RemarkError(f"hardly uses the labels: {seen}")
    return seen


def encodes_once(subject: Subject) -> str:
    """All samples of a clip share one encoding of the audio and one prefill of the prompt."""
    before = subject.engine.counts()
    if "encodes" not in before:
        raise AmbiError("only a model that runs in this process counts its encodings")
    subject.answers([(QUESTION, subject.voice(2.0, 0))], SAMPLED, count=8)
    encodes, prefills = (subject.engine.counts()[name] - before[name] for name in ("encodes", "prefills"))
    _require((encodes, prefills) == (1, 1), f"8 samples cost {encodes} encodings and {prefills} prefills")
    return "8 samples cost one encoding and one prefill"


def agrees_with_generate(subject: Subject) -> str:
    """The greedy answer and its likelihood are those of `generate()` of transformers."""
    family, path = subject.family, subject.voice(3.0, 1)
    audio = family.audio_part(load_audio(AudioSpan(path), family.sample_rate))
    inputs = family.model_inputs(as_messages(QUESTION, [audio])).to(family.model.device, dtype=family.model.dtype)
    output = family.model.generate(
        **inputs,
        max_new_tokens=GREEDY["max_gen_toks"],
        suppress_tokens=family.placeholder_ids or None,
        return_dict_in_generate=True,
        output_logits=True,
    )
    tokens = output.sequences[0, inputs["input_ids"].shape[1] :]
    logprobs = torch.stack(output.logits).float()[:, 0].log_softmax(-1)
    expected = float(logprobs.gather(1, tokens[:, None]).sum())
    text = family.processor.tokenizer.decode(tokens.tolist(), skip_special_tokens=True)

    given = Prompt(inputs, continuations=[Continuation(tokens.tolist(), ends=False)])
    ((_, ((scored, _),)),) = subject.engine.scheduler.loglikelihoods([given])  # type: ignore[attr-defined]
    (((answer,),)) = subject.answers([(QUESTION, path)], GREEDY)
    off = abs(scored - expected) / len(tokens)
    most = TOLERANCE if subject.exact else HALF_TOLERANCE
    _require(off <= most, f"its likelihoods are {off:.2g} nats per token off those of generate()")
    same = str(answer) == text and abs((answer.logprob or 0.0) - expected) <= TOLERANCE * len(tokens)
    differs = f"answers {str(answer)!r} ({answer.logprob} nats) where generate() answers {text!r} ({expected:.4f} nats)"
    _require(same or not subject.exact, differs)
    return f"{text!r}: {off:.1g} nats per token apart"


def sums_to_at_most_one(subject: Subject) -> str:
    """The probabilities of the labels as whole answers sum to at most 1, and each is at most that of its text alone."""
    path = subject.voice(3.0, 0)
    ended, begun = subject.likelihoods(path), subject.likelihoods(path, ends=False)
    mass = float(np.exp(ended).sum())
    _require(mass <= 1 + 1e-3, f"the probabilities of {len(LABELS)} labels sum to {mass:.3f}")
    _require(bool((ended <= begun + 1e-3).all()), "a label and the end of the turn is likelier than the label alone")
    return f"the {len(LABELS)} labels hold {mass:.2g} of the probability"


def stops_at_strings(subject: Subject) -> str:
    """An answer ends before its first stop string."""
    asked = [(OPEN_QUESTION, subject.voice(3.0, 0))]
    ((whole,),) = subject.answers(asked, GREEDY)
    readable = whole.strip().replace("\ufffd", "")  # U+FFFD: a character whose last tokens are missing
    _require(readable != "", f"answers {str(whole)!r}, with nothing to stop at")
    stop = readable[len(readable) // 2]
    ((cut,),) = subject.answers(asked, {**GREEDY, "until": [stop]})
    differs = f"answers {str(cut)!r} ({cut.finish}) where {str(whole)!r} is to end before {stop!r}"
    _require(str(cut) == whole[: whole.find(stop)] and cut.finish == "stop", differs)
    return f"{str(whole)!r} ends before {stop!r} when told to"


def searches_beams(subject: Subject) -> str:
    """Three beams come with their likelihoods, the most likely one first."""
    settings = {"num_beams": 3, "max_gen_toks": GREEDY["max_gen_toks"]}
    ((*beams,),) = subject.answers([(QUESTION, subject.voice(3.0, 0))], settings, count=3)
    logprobs = [beam.logprob for beam in beams if beam.logprob is not None]
    what = f"{counted(len(beams), 'beam')} of {', '.join(f'{logprob:.2f}' for logprob in logprobs) or 'unknown'} nats"
    _require(len(logprobs) == 3 and logprobs == sorted(logprobs, reverse=True), what)
    return what


def hears_its_window(subject: Subject) -> str:
    """Of audio that is longer than the model's window, it hears the beginning and nothing else."""
    window = subject.window_seconds
    if window is None:
        return "hears audio of any length"
    if window > 2 * LONG_SECONDS:
        return f"hears {window:.0f} s, longer than the clips of this check"
    paths = [subject.voice(seconds, 0) for seconds in (window + 2, window)]
    if subject.engine.capabilities.likelihoods:
        longer, whole = (subject.likelihoods(path) for path in paths)
        same = float(np.abs(longer - whole).max()) <= LEAST_CHANGE
    else:
        (one,), (other,) = subject.answers([(QUESTION, path) for path in paths], GREEDY)
        same = one == other
        if not same and subject.engine.capabilities.sampling_is == "fixed by the provider":
            raise RemarkError("its greedy answers differ by themselves, so what it hears of longer audio is not known")
    _require(same, f"hears something of what follows after the {window:.0f} s that it is said to hear")
    return f"hears {window:.0f} s, and nothing of what follows"


def tells_what_it_is(subject: Subject) -> str:
    """Identity, provenance and info are plain JSON, and the identity is not empty."""
    told = [dict(each) for each in (subject.engine.identity, subject.engine.provenance, subject.engine.info())]
    json.dumps(told, allow_nan=False)
    _require(bool(told[0]), "has no identity: stored answers of two models would be taken for one another")
    return counted(sum(map(len, told)), "entry", "entries")


CHECKS: tuple[Callable[[Subject], str], ...] = (
    hears,
    hears_to_the_end,
    repeats_greedy_answers,
    ignores_the_batch,
    draws_different_samples,
    repeats_samples,
    honors_the_temperature,
    gives_several_answers,
    uses_the_labels,
    encodes_once,
    agrees_with_generate,
    sums_to_at_most_one,
    stops_at_strings,
    searches_beams,
    hears_its_window,
    tells_what_it_is,
)


def examine(model: str, model_args: str) -> list[Outcome]:
    """Load a model, given as for `lm_eval`, and run every check; no stored answers are used."""
    engine = open_engine(model, model_args, batch_size=4)
    with TemporaryDirectory(prefix="ambi_eval_doctor_") as folder:
        return list(run_checks(Subject(engine, Path(folder))))


def run_checks(subject: Subject) -> Iterator[Outcome]:
    """Yield the outcome of every check in order; AmbiError if the model refuses the first, which needs an answer."""
    for check in CHECKS:
        begun = time.perf_counter()
        status: Status = "passed"
        try:
            sentence = check(subject)
        except CheckError as failure:
            status, sentence = "failed", str(failure)
        except RemarkError as remark:
            status, sentence = "remark", str(remark)
        except AmbiError as refusal:
            if check is CHECKS[0]:
                raise
            status, sentence = "refused", str(refusal)
        except Exception as error:  # the check has failed; the other checks may show why
            logger.debug("%s", check.__name__, exc_info=True)
            status, sentence = "failed", f"breaks down: {type(error).__name__}: {error}"
        yield Outcome(check.__name__.replace("_", " "), status, sentence, time.perf_counter() - begun)


def table(outcomes: Sequence[Outcome]) -> Any:
    """Return the outcomes as a table of rich."""
    from rich.table import Table

    colors = {"passed": "green", "remark": "cyan", "refused": "yellow", "failed": "red"}
    grid = Table("check", "outcome", "what was seen", "s", box=None, pad_edge=False)
    for each in outcomes:
        grid.add_row(each.name, each.status, each.sentence, f"{each.seconds:.1f}", style=colors[each.status])
    return grid


def verdict(outcomes: Sequence[Outcome]) -> str:
    """Return one line that sums up all outcomes."""
    counts = Counter(each.status for each in outcomes)
    refused = counted(counts["refused"], "does", "do")
    seen = f"{counts['passed']} of {len(outcomes)} checks passed, {refused} not apply to it"
    seen += "".join(f"; {each.sentence}" for each in outcomes if each.status == "remark")
    if failed := [f"'{each.name}'" for each in outcomes if each.status == "failed"]:
        return f"ill: {counted(len(failed), 'check')} failed ({', '.join(failed)}); {seen}"
    return f"healthy: {seen}"


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise CheckError(sentence)
