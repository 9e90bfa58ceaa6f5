"""A model that thinks first, beside generate() of transformers."""

from functools import cache

import numpy as np
import pytest
import torch

from ambi_eval.audio import AudioSpan
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.config.model_arguments import HFAudioArguments
from ambi_eval.demo.training_examples import demo_prompts
from ambi_eval.engines.base import Job
from ambi_eval.engines.hf.engine import HFEngine
from ambi_eval.errors import AmbiError

THINKING, ANSWER = 8, 5


@pytest.fixture(scope="module")
def load():
    @cache
    def engine(end=None):
        given = {"pretrained": "ambi-tiny", "device": "cpu", "think_end_token": end}
        return HFEngine(HFAudioArguments.read(given, "test"))

    return engine


@pytest.fixture(scope="module")
def job(voice):
    """Ask for reasons and shares: long answers."""
    question = next(prompt.text for prompt in demo_prompts() if prompt.kind == "reasons")

    def ask(numbers=(0,), **settings):
        settings = GenerationSettings.read({"max_gen_toks": ANSWER, **settings}, "generation_kwargs")
        return Job(question, (AudioSpan(voice(1.0)),), settings, numbers=numbers, task="mine")

    return ask


def answers(engine, job):
    engine.check([job])
    ((_, found),) = engine.generate([job])
    return [found[number] for number in job.numbers]


def counted(engine, job):
    """Return the answer, and how many tokens were generated and how many of them were thinking."""
    before = engine.counts()
    (answer,) = answers(engine, job)
    made, thought = (engine.counts()[name] - before[name] for name in ("generated_tokens", "thinking_tokens"))
    assert (answer.n_tokens + answer.thinking_tokens, answer.thinking_tokens) == (made, thought)
    return answer, made, thought


def generated(engine, job, before, tokens):
    """Return the tokens that generate() gives after the prompt and `before`, greedily, and their log-likelihood."""
    ((_, inputs),) = engine._inputs([job])
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([before], dtype=torch.long)], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    output = engine.family.model.generate(
        **inputs,
        max_new_tokens=tokens,
        do_sample=False,
        suppress_tokens=engine.family.placeholder_ids,
        output_logits=True,
        return_dict_in_generate=True,
    )
    new = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    steps = [logits[0].log_softmax(-1)[token].item() for logits, token in zip(output.logits, new, strict=True)]
    return new, sum(steps)


def text(engine, tokens):
    return engine.family.processor.tokenizer.decode([each for each in tokens if each not in engine.family.end_ids])


@pytest.fixture(scope="module")
def thoughts(load, job):
    """The tokens that the model generates first."""
    return generated(load(), job(), [], THINKING)[0]


def test_thinking_that_is_too_long_is_ended_and_the_answer_follows_it(load, job, thoughts):
    engine = load("Z")
    end = engine.scheduler.decoder.thinking.end
    assert end[0] not in thoughts
    answer, made, thought = counted(engine, job(max_thinking_toks=THINKING))
    expected, logprob = generated(engine, job(), [*thoughts[: THINKING - len(end)], *end], ANSWER)
    assert (str(answer), answer.n_tokens) == (text(engine, expected), len(expected))
    assert answer.logprob == pytest.approx(logprob, abs=1e-4)
    assert (thought, made) == (THINKING, THINKING + len(expected))


def test_thinking_ends_where_the_model_ends_it(load, job, thoughts):
    length = next(n for n in range(2, THINKING) if thoughts[n - 1] not in thoughts[: n - 1])
    engine = load(text(load(), thoughts[length - 1 : length]))
    assert engine.scheduler.decoder.thinking.end == thoughts[length - 1 : length]
    answer, _, thought = counted(engine, job(max_thinking_toks=50))
    expected, logprob = generated(engine, job(), thoughts[:length], ANSWER)
    assert str(answer) == text(engine, expected)
    assert answer.logprob == pytest.approx(logprob, abs=1e-4)
    assert thought == length


def test_without_room_of_its_own_thinking_is_taken_off_the_answer(load, job, thoughts):
    length = next(n for n in range(2, THINKING) if thoughts[n - 1] not in thoughts[: n - 1])
    engine = load(text(load(), thoughts[length - 1 : length]))
    (whole,) = answers(load(), job(max_gen_toks=length + 1))
    answer, _, thought = counted(engine, job(max_gen_toks=length + 1))
    assert whole.endswith(str(answer))
    assert (answer.n_tokens, answer.logprob, thought) == (1, None, length)


def test_stop_strings_end_answers_and_not_the_thinking_before_them(load, job, thoughts):
    engine = load("Z")
    (stop,) = text(engine, thoughts[:1])[:1]
    (free,) = answers(engine, job(max_thinking_toks=THINKING))
    stopped, _, thought = counted(engine, job(max_thinking_toks=THINKING, until=[stop]))
    assert thought == THINKING
    assert str(stopped) == str(free).split(stop)[0]


def test_samples_with_thinking_do_not_depend_on_their_company(load, job):
    engine = load("Z")
    sampled = {"do_sample": True, "temperature": 1.0, "max_thinking_toks": THINKING}
    whole = answers(engine, job(range(4), **sampled))
    some = answers(engine, job((3, 1), **sampled))
    assert [str(each) for each in some] == [str(whole[3]), str(whole[1])]
    assert np.allclose([each.logprob for each in some], [whole[3].logprob, whole[1].logprob], atol=1e-4)
    assert len(set(map(str, whole))) > 1


def test_other_answers_are_the_same_with_and_without_an_end_of_thinking(load, job):
    sampled = {"do_sample": True, "temperature": 1.0}
    assert answers(load("Z9Z"), job(range(3), **sampled)) == answers(load(), job(range(3), **sampled))


def test_stored_answers_know_where_thinking_ends(load):
    assert load("Z").identity == {**load().identity, "think_end_token": "Z"}


@pytest.mark.parametrize(
    ("end", "tokens", "sentence"),
    [
        (
            None,
            8,
            "mine: max_thinking_toks is 8, and nobody says where the thinking of the model ends; give --model",
        ),
        (
            "ZZZZZZZZ angry",
            1,
            r"mine: max_thinking_toks is 1, and the end of the thinking alone has \d+ tokens; give",
        ),
    ],
)
def test_thinking_that_cannot_end_is_refused(end, tokens, sentence, load, job):
    with pytest.raises(AmbiError, match=sentence):
        load(end).check([job(max_thinking_toks=tokens)])


def test_beams_do_not_think():
    with pytest.raises(AmbiError, match="beams are searched over answers alone; leave out num_beams or max_thinking"):
        GenerationSettings.read({"num_beams": 2, "max_thinking_toks": 8}, "generation_kwargs")
