"""Every family's states are recorded at the places that its classes promise, and recording changes nothing."""

import numpy as np
import pytest
import torch

from ambi_eval.audio import AudioSpan, load_audio
from ambi_eval.engines.base import Job
from ambi_eval.engines.prompt import as_messages
from ambi_eval.funnel.recorder import ENCODER, PROJECTED, StateRecorder
from ambi_eval.models.hf_audio import HFAudio

QUESTION = "<audio>Which emotion?"


@pytest.fixture(scope="module")
def engine(checkpoint):
    return HFAudio(str(checkpoint), device="cpu", seed=0, store="none").engine


@pytest.fixture(scope="module")
def jobs(voice):
    continuations = [("happy", True), ("sad", True)]
    return [Job(QUESTION, (AudioSpan(voice(seconds, 0)),), continuations=continuations) for seconds in (2.0, 0.7)]


def hooks_of(model):
    return [[*module._forward_hooks, *module._forward_pre_hooks] for module in model.modules()]


def test_the_states_of_every_family_are_those_of_an_independent_forward_pass(engine, jobs):
    family = engine.family
    likelihoods = dict(engine.loglikelihoods(jobs))
    hooks = hooks_of(family.model)
    with StateRecorder(family) as recorder:
        found = {}
        for job, again in engine.loglikelihoods(jobs):
            found[job] = recorder.take(job.prompt_tokens)
            assert again == likelihoods[job]
    assert list(next(iter(found.values()))) == recorder.places
    assert (ENCODER in recorder.places) is (family.encoder_layers is not None)
    assert hooks_of(family.model) == hooks
    inputs = family.model_inputs(
        as_messages(QUESTION, [family.audio_part(load_audio(AudioSpan(jobs[0].spans[0].path), family.sample_rate))])
    )
    with torch.inference_mode():
        output = family.model(**inputs, output_hidden_states=True)
    # Gemma 3n has four streams, of which the first one is the model's own.
    hidden = [(each[0] if each.dim() == 4 else each)[0].float() for each in output.hidden_states]
    audio = inputs["input_ids"][0] == family.audio_token_id
    states = found[jobs[0]]
    layers = recorder.places[recorder.places.index("layer 1") :]
    for layer, place in enumerate(layers[:-1], start=1):  # after the last layer comes a norm
        here = hidden[layer][int(audio.int().argmax()) :]
        expected = torch.cat([here.mean(0), here.std(0, correction=0), here[-1]]).numpy()
        assert np.allclose(states[place], expected, atol=1e-4)
    width = hidden[0].shape[-1]
    assert states[PROJECTED].shape == (2 * width,)
    assert np.allclose(states[PROJECTED][:width], hidden[0][audio].mean(0).numpy(), atol=1e-4)
    heard = recorder.places[0]
    assert not np.allclose(states[heard], found[jobs[1]][heard], atol=1e-3)
    assert all(np.isfinite(each).all() for each in states.values())
