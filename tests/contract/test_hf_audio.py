"""What every audio-language family must do behind `hf-audio`."""

import json

import pytest
import torch

from ambi_eval.audio import AudioSpan, load_audio
from ambi_eval.models.hf_audio import HFAudio
from ambi_eval.models.requests import as_messages

CLIPS = [(3.0, "<audio>Which emotion?"), (0.05, "<audio>Happy or sad, angry or neutral?"), (9.5, "<audio>Which?")]
SAMPLED = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 6}


@pytest.fixture(scope="module")
def load(checkpoint):
    return lambda **options: HFAudio(str(checkpoint), device="cpu", seed=0, store="none", **options)


@pytest.fixture(scope="module")
def lm(load):
    return load(batch_size=3)


@pytest.fixture(scope="module")
def inputs(lm, voice):
    """What the model reads for each clip, by its own processor."""

    def of(seconds, context):
        samples = load_audio(AudioSpan(voice(seconds)), 16000)
        return lm.family.model_inputs(as_messages(context, [lm.family.audio_part(samples)]))

    return [of(*clip) for clip in CLIPS]


@pytest.fixture
def requests(ask, voice):
    return lambda **options: [ask(context, voice(seconds), **options) for seconds, context in CLIPS]


def reference(lm, inputs, **options):
    """Let the public generate() of transformers answer one clip; return texts and log-likelihoods."""
    output = lm.family.model.generate(
        **inputs,
        suppress_tokens=lm.family.placeholder_ids,
        max_new_tokens=6,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        **options,
    )
    beams = {"beam_indices": output.beam_indices} if "num_beams" in options else {"normalize_logits": True}
    given = output.scores if "num_beams" in options else output.logits
    scores = lm.family.model.compute_transition_scores(output.sequences, given, **beams).sum(1).tolist()
    answers = output.sequences[:, inputs["input_ids"].shape[1] :]
    return lm.family.processor.tokenizer.batch_decode(answers, skip_special_tokens=True), scores


def test_it_is_loaded_by_its_own_class(lm, checkpoint):
    (name,) = json.loads((checkpoint / "config.json").read_text())["architectures"]
    assert type(lm.family.model).__name__ == name


def test_greedy_answers_of_a_mixed_batch_are_those_of_generate_on_each_clip_alone(lm, inputs, requests):
    answers = lm.generate_until(requests(max_gen_toks=6))
    for answer, alone in zip(answers, inputs, strict=True):
        (text,), (score,) = reference(lm, alone)
        assert answer == text
        assert answer.logprob == pytest.approx(score, abs=1e-4)


def test_samples_do_not_depend_on_batch_or_order(lm, load, requests):
    def pools(lm, order):
        asked = requests(repeats=3, **SAMPLED)[::order]
        answers = lm.generate_until([request for request in asked for _ in range(3)])
        return [answers[n : n + 3] for n in (0, 3, 6)][::order]

    together = pools(lm, 1)
    assert pools(load(batch_size=1), -1) == together
    assert len({str(answer) for pool in together for answer in pool}) > 3


def test_beams_are_those_of_generate(lm, inputs, requests):
    answers = lm.generate_until(
        [request for request in requests(repeats=3, num_beams=3, max_gen_toks=6) for _ in "123"]
    )
    for n, alone in enumerate(inputs):
        texts, scores = reference(lm, alone, num_beams=3, num_return_sequences=3, length_penalty=0.0)
        beams = answers[3 * n : 3 * n + 3]
        assert [str(beam) for beam in beams] == texts
        assert [beam.logprob for beam in beams] == pytest.approx(scores, abs=1e-4)


@torch.inference_mode()
def test_likelihoods_are_those_of_teacher_forcing(lm, inputs, requests):
    labels = ["happy", "sad", "angry and sad"]
    asked = [request for label in labels for request in requests(continuation=label, end_of_turn=True)]
    scores = lm.loglikelihood(asked)
    for (logprob, _), request, alone in zip(scores, asked, inputs * 3, strict=True):
        tokens = lm.family.processor.tokenizer.encode(request.args[1], add_special_tokens=False)
        ids = torch.cat([alone["input_ids"], torch.tensor([tokens])], dim=1)
        more = {
            name: torch.nn.functional.pad(value, (0, len(tokens)))
            for name, value in alone.items()
            if name.endswith("token_type_ids")
        }
        output = lm.family.model(**{**alone, **more, "input_ids": ids, "attention_mask": torch.ones_like(ids)})
        logprobs = output.logits[0, -len(tokens) - 1 :].log_softmax(-1)
        expected = logprobs[:-1].gather(1, torch.tensor(tokens)[:, None]).sum()
        expected = expected + logprobs[-1, lm.family.end_ids].logsumexp(-1)
        assert logprob == pytest.approx(expected.item(), abs=1e-4)


def test_each_clip_is_encoded_and_read_once(load, requests):
    lm = load(batch_size=2)
    lm.generate_until([request for request in requests(repeats=20, **SAMPLED) for _ in range(20)])
    info = lm.get_model_info()["ambi"]
    assert (info["encodes"], info["prefills"]) == (3, 3)


def test_the_audio_matters(lm, ask, voice):
    labels = ["happy", "sad"]
    scores = [
        lm.loglikelihood([ask("<audio>Which?", voice(2.0, seed), continuation=label) for label in labels])
        for seed in (0, 1)
    ]
    assert all(abs(one - other) > 1e-4 for (one, _), (other, _) in zip(*scores, strict=True))


def test_a_prompt_without_audio_and_one_with_a_system_message_are_answered(lm, ask, voice):
    context = lm.apply_chat_template(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "<audio>Which?"}]
    )
    answers = lm.generate_until([ask("Which?", max_gen_toks=4), ask(context, voice(1.0), max_gen_toks=4)])
    assert all(answer.n_tokens > 0 for answer in answers)


def test_placeholders_are_known_and_the_clip_stands_in_the_prompt_by_them(lm, inputs):
    assert lm.family.placeholder_ids
    lengths = [int(torch.isin(each["input_ids"], torch.tensor(lm.family.placeholder_ids)).sum()) for each in inputs]
    assert 0 < lengths[1] <= lengths[0] <= lengths[2]


def test_what_is_beyond_the_window_is_cut_by_us_and_not_by_the_processor(load, ask, voice):
    lm = load()
    window = lm.family.window_seconds
    if window is None or window > 60:
        pytest.skip("the window is longer than any clip here")
    lm.generate_until([ask("<audio>Which?", voice(window + 2.0), max_gen_toks=1)])
    assert lm.get_model_info()["ambi"]["truncated_audio"] == 1
