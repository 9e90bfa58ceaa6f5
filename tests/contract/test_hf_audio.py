"""What every audio-language family must do behind `hf-audio`, held against `generate()` of transformers itself."""

import json
from types import MethodType
from unittest.mock import patch

import pytest
import torch
from transformers import LogitsProcessor

from ambi_eval.audio import AudioSpan, load_audio
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.hf.prefill import TOGETHER
from ambi_eval.engines.hf.prompts import Prompt
from ambi_eval.engines.prompt import as_messages
from ambi_eval.errors import AmbiError
from ambi_eval.models.hf_audio import HFAudio
from ambi_eval.models.requests import asked_questions
from ambi_eval.sampling.gumbel import choose_tokens
from ambi_eval.testing import EngineContract

# Seconds of each audio of a prompt: of every length, over the window of some families (who get several windows), two.
CLIPS = [
    ([3.0], "<audio>Which emotion?"),
    ([0.05], "<audio>Happy or sad, angry or neutral?"),
    ([38.0], "<audio>Which?"),
    ([9.5], "Listen: <audio> Which emotion does the speaker express?"),
    ([2.0, 0.7], "First <audio>, then <audio> Which?"),
]
GREEDY = {"max_gen_toks": 6}
SAMPLED = {"do_sample": True, "temperature": 0.8, "top_k": 50, "top_p": 0.95, "max_gen_toks": 6}
BEAMS = {"num_beams": 3, "max_gen_toks": 6}

# What a family's own processor does not take. All the rest of this file holds for every family.
ONE_AUDIO_ONLY = {"audioflamingo3", "musicflamingo", "glmasr"}
NO_SYSTEM_MESSAGE = {"voxtral"}

# Families that hear a long clip in windows of 30 s.
SEVERAL_WINDOWS = {"audioflamingo3", "musicflamingo", "glmasr", "voxtral"}


@pytest.fixture(scope="module")
def load(checkpoint):
    return lambda **options: HFAudio(str(checkpoint), device="cpu", seed=0, store="none", **options)


@pytest.fixture(scope="module")
def lm(load):
    return load(batch_size=3)


@pytest.fixture(scope="module")
def model_type(lm):
    return lm.engine.family.model.config.model_type


@pytest.fixture(scope="module")
def clips(model_type):
    """The clips that the family takes."""
    return [clip for clip in CLIPS if len(clip[0]) == 1 or model_type not in ONE_AUDIO_ONLY]


@pytest.fixture(scope="module")
def read(lm, voice):
    """What the model reads, by its own processor: no more of each audio than its window."""

    def of(context, *seconds):
        rate = lm.engine.family.sample_rate
        audios = [load_audio(AudioSpan(voice(length, seed)), rate) for seed, length in enumerate(seconds)]
        window = round(rate * (lm.engine.family.window_seconds or 1000))
        return lm.engine.family.model_inputs(
            as_messages(context, [lm.engine.family.audio_part(audio[:window]) for audio in audios])
        )

    return of


@pytest.fixture(scope="module")
def inputs(read, clips):
    return [read(context, *seconds) for seconds, context in clips]


@pytest.fixture
def requests(ask, voice, clips):
    return lambda **options: [
        ask(context, *(voice(length, seed) for seed, length in enumerate(seconds)), **options)
        for seconds, context in clips
    ]


class Seeded(LogitsProcessor):
    """Leaves generate() no choice but the token that the noise of one answer chooses."""

    def __init__(self, settings, key, prompt_length):
        self.settings, self.key, self.prompt_length = settings, torch.tensor([key]), prompt_length

    def __call__(self, input_ids, scores):
        step = torch.tensor([input_ids.shape[1] - self.prompt_length])
        chosen = choose_tokens(scores.float(), self.settings, self.key, step)
        return torch.full_like(scores, -torch.inf).index_fill(1, chosen, 0.0)


def reference(lm, inputs, **options):
    """Let the public generate() of transformers answer one clip; return texts and log-likelihoods."""
    output = lm.engine.family.model.generate(
        **inputs,
        suppress_tokens=lm.engine.family.placeholder_ids,
        max_new_tokens=6,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        **options,
    )
    beams = {"beam_indices": output.beam_indices} if "num_beams" in options else {"normalize_logits": True}
    given = output.scores if "num_beams" in options else output.logits
    scores = lm.engine.family.model.compute_transition_scores(output.sequences, given, **beams).sum(1).tolist()
    answers = output.sequences[:, inputs["input_ids"].shape[1] :]
    return lm.engine.family.processor.tokenizer.batch_decode(answers.tolist(), skip_special_tokens=True), scores


@pytest.fixture
def expands_whole_prompts(lm, monkeypatch):
    """Return what lets generate() repeat the audio of one prompt as a whole; by itself it repeats row after row."""

    def expand(self, expand_size=1, is_encoder_decoder=False, input_ids=None, **kwargs):
        def tiled(value, name=""):
            if not isinstance(value, torch.Tensor):
                return value
            prompts = 1 if name == "position_ids" and value.dim() == 3 else 0  # the omni families count in three ways
            return torch.cat([value] * expand_size, dim=prompts)

        return tiled(input_ids), {name: tiled(value, name) for name, value in kwargs.items()}

    return lambda: monkeypatch.setattr(
        lm.engine.family.model, "_expand_inputs_for_generation", MethodType(expand, lm.engine.family.model)
    )


def test_it_is_loaded_by_its_own_class(lm, checkpoint):
    (name,) = json.loads((checkpoint / "config.json").read_text())["architectures"]
    assert type(lm.engine.family.model).__name__ == name


class TestEngine(EngineContract):
    @pytest.fixture
    def engine(self, lm):
        return lm.engine


def test_greedy_answers_of_a_mixed_batch_are_those_of_generate_on_each_clip_alone(lm, inputs, requests):
    answers = lm.generate_until(requests(**GREEDY))
    for answer, alone in zip(answers, inputs, strict=True):
        (text,), (score,) = reference(lm, alone)
        assert answer == text
        assert answer.logprob == pytest.approx(score, abs=1e-4)


def test_samples_of_a_mixed_batch_are_those_of_generate_with_the_same_noise(lm, inputs, requests):
    asked = requests(repeats=2, **SAMPLED)
    answers = lm.generate_until([request for request in asked for _ in range(2)])
    settings = GenerationSettings.read(SAMPLED, "generation_kwargs")
    for n, (question, alone) in enumerate(zip(asked_questions(asked), inputs, strict=True)):
        keys = lm.engine._noise_keys(question.job(0, range(2)))
        for answer, key in zip(answers[2 * n : 2 * n + 2], keys, strict=True):
            seeded = Seeded(settings, key, alone["input_ids"].shape[1])
            (text,), (score,) = reference(lm, alone, logits_processor=[seeded])
            assert answer == text
            assert answer.logprob == pytest.approx(score, abs=1e-4)
    assert len(set(map(str, answers))) >= 7


def test_beams_are_those_of_generate(lm, inputs, requests, expands_whole_prompts):
    answers = lm.generate_until([request for request in requests(repeats=3, **BEAMS) for _ in "123"])
    expands_whole_prompts()
    for n, alone in enumerate(inputs):
        texts, scores = reference(lm, alone, num_beams=3, num_return_sequences=3, length_penalty=0.0)
        beams = answers[3 * n : 3 * n + 3]
        assert [str(beam) for beam in beams] == texts
        assert [beam.logprob for beam in beams] == pytest.approx(scores, abs=1e-4)


@torch.inference_mode()
def test_prompts_go_through_the_model_together_as_each_does_alone(lm, inputs):
    family, prefiller = lm.engine.family, lm.engine.scheduler.decoder.prefiller
    if not family.encodes_together:
        pytest.skip("the family's prompts go through the model one by one")
    prompts = [Prompt(each) for each in inputs]
    before = prefiller.counts["prefills"]
    forward = patch.object(prefiller, "_forward", wraps=prefiller._forward)
    with patch.object(prefiller, "at_once", TOGETHER), forward as passes:  # as on a GPU
        together = prefiller.encode(prompts)
    assert passes.call_count == 1
    assert prefiller.counts["prefills"] - before == len(prompts)
    for prompt, found in zip(prompts, together, strict=True):
        (alone,) = prefiller.encode([prompt])
        assert torch.equal(found.input_ids, alone.input_ids)
        torch.testing.assert_close(found.logits, alone.logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.layers, alone.layers, atol=1e-5, rtol=0)


def test_questions_about_a_clip_are_answered_as_each_is_alone(lm, read, ask, voice):
    contexts = ["<audio>Which emotion?", "<audio>Which emotion does the speaker express?", "<audio>Happy?"]
    asked = [ask(context, voice(seconds, 0), **GREEDY) for seconds in (3.0, 0.4) for context in contexts]
    answers = lm.generate_until(asked)
    scores = lm.loglikelihood([ask(each.args[0], voice(3.0, 0), continuation="happy") for each in asked[:3]])
    for n, answer in enumerate(answers):
        (text,), (score,) = reference(lm, read(contexts[n % 3], 3.0 if n < 3 else 0.4))
        assert answer == text
        assert answer.logprob == pytest.approx(score, abs=1e-4)
    for context, (together, _) in zip(contexts, scores, strict=True):
        ((alone, _),) = lm.loglikelihood([ask(context, voice(3.0, 0), continuation="happy")])
        assert together == pytest.approx(alone, abs=1e-4)


@torch.inference_mode()
def test_likelihoods_are_those_of_teacher_forcing(lm, inputs, requests):
    labels = ["happy", "angry and sad"]
    asked = [request for label in labels for request in requests(continuation=label, end_of_turn=True)]
    scores = lm.loglikelihood(asked)
    for (logprob, _), request, alone in zip(scores, asked, inputs * 2, strict=True):
        tokens = lm.engine.family.processor.tokenizer.encode(request.args[1], add_special_tokens=False)
        ids = torch.cat([alone["input_ids"], torch.tensor([tokens])], dim=1)
        more = {
            name: torch.nn.functional.pad(value, (0, len(tokens)))
            for name, value in alone.items()
            if name.endswith("token_type_ids")
        }
        output = lm.engine.family.model(**{**alone, **more, "input_ids": ids, "attention_mask": torch.ones_like(ids)})
        logprobs = output.logits[0, -len(tokens) - 1 :].double().log_softmax(-1)
        expected = logprobs[:-1].gather(1, torch.tensor(tokens)[:, None]).sum()
        expected = expected + logprobs[-1, lm.engine.family.end_ids].logsumexp(-1)
        assert logprob == pytest.approx(expected.item(), abs=1e-5 * (len(tokens) + 1))  # 1e-5 for each token


def test_samples_of_generate_itself_hear_the_audio_of_other_samples(lm, inputs, clips, model_type):
    """Why `num_return_sequences` is never used on audio: the first token of all samples has the same logits, or not.

    transformers 5.23 repeats every row of features for itself. Where a prompt owns several, [A, B] becomes [A, A, B, B]
    for texts that want [A, B, A, B].
    """
    for (seconds, _), alone in zip(clips, inputs, strict=True):
        output = lm.engine.family.model.generate(
            **alone,
            max_new_tokens=1,
            do_sample=True,
            num_return_sequences=3,
            return_dict_in_generate=True,
            output_logits=True,
        )
        first = output.logits[0]
        several_rows = len(seconds) > 1 or (seconds[0] > 30 and model_type in SEVERAL_WINDOWS)
        assert bool((first - first[0]).abs().max() > 1e-2) is several_rows


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED, BEAMS], ids=["greedy", "samples", "beams"])
def test_a_token_that_stands_for_audio_is_never_generated(lm, requests, settings):
    """The model could not read its answer back: it would look for the audio behind the token."""
    fed = []

    def prefer_placeholders(head, args, logits):
        ids = torch.tensor(lm.engine.family.placeholder_ids)
        return logits.index_add(-1, ids, torch.full_like(logits[..., : len(ids)], 50.0))

    hooks = [
        lm.engine.family.model.get_output_embeddings().register_forward_hook(prefer_placeholders),
        lm.engine.family.model.register_forward_pre_hook(
            lambda model, args, kwargs: fed.append(kwargs["input_ids"]), with_kwargs=True
        ),
    ]
    repeats = settings.get("num_beams", 1)
    lm.generate_until([each for each in requests(repeats=repeats, **settings)[:2] for _ in range(repeats)])
    for hook in hooks:
        hook.remove()
    generated = torch.cat([ids.flatten() for ids in fed if ids.shape[1] == 1])
    assert len(generated) > 5
    assert not torch.isin(generated, torch.tensor(lm.engine.family.placeholder_ids)).any()


def test_placeholders_are_known_and_the_clip_stands_in_the_prompt_by_them(lm, inputs):
    assert lm.engine.family.placeholder_ids
    lengths = [
        int(torch.isin(each["input_ids"], torch.tensor(lm.engine.family.placeholder_ids)).sum()) for each in inputs
    ]
    assert 0 < lengths[1] <= lengths[0] <= lengths[3] <= lengths[2]


def test_several_audios_in_a_prompt_are_read_in_their_order_or_refused(lm, ask, voice, model_type):
    context = "First <audio>, then <audio> Which?"
    two, swapped = (ask(context, *map(voice, seconds), continuation="happy") for seconds in ((2.0, 0.7), (0.7, 2.0)))
    if model_type in ONE_AUDIO_ONLY:
        with pytest.raises(AmbiError, match="takes one audio in a prompt, not 2; write one <audio> in doc_to_text"):
            lm.loglikelihood([two])
    else:
        (one, _), (other, _) = lm.loglikelihood([two, swapped])
        assert abs(one - other) > 1e-4


def test_a_system_message_is_read_or_refused(lm, ask, voice, model_type):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "<audio>Which?"}]
    plain, spoken_to = (
        ask(context, voice(1.0), continuation="happy") for context in ("<audio>Which?", lm.apply_chat_template(chat))
    )
    if model_type in NO_SYSTEM_MESSAGE:
        with pytest.raises(AmbiError, match="takes no system message beside audio; leave out --system_instruction"):
            lm.loglikelihood([spoken_to])
    else:
        (one, _), (other, _) = lm.loglikelihood([plain, spoken_to])
        assert abs(one - other) > 1e-4


def test_audio_beyond_the_window_is_cut_by_us_and_counted_or_refused(lm, ask, voice, monkeypatch):
    if hasattr(lm.engine.family.processor, "max_audio_len"):
        # Two windows, and not a third, instead of 10 minutes and more.
        window = lm.engine.family.processor.feature_extractor.chunk_length
        monkeypatch.setattr(lm.engine.family.processor, "max_audio_len", 2.2 * window)
    window, before = lm.engine.family.window_seconds, lm.get_model_info()["ambi"]["truncated_audio"]
    request = ask("<audio>Which?", voice((window or 60) + 2.0), **GREEDY)
    (answer,) = lm.generate_until([request])
    assert lm.get_model_info()["ambi"]["truncated_audio"] - before == (window is not None)
    if window is not None:
        whole = load_audio(AudioSpan(voice(window + 2.0)), 16000)[: round(window * 16000)]
        alone = lm.engine.family.model_inputs(as_messages("<audio>Which?", [lm.engine.family.audio_part(whole)]))
        (text,), (score,) = reference(lm, alone)
        assert answer == text
        assert answer.logprob == pytest.approx(score, abs=1e-4)
        lm.engine.is_cut.clear()
        monkeypatch.setattr(lm.engine, "arguments", lm.engine.arguments.model_copy(update={"long_audio": "refuse"}))
        with pytest.raises(AmbiError, match=rf"s of audio, of which .* hears {window:g} s; give long_audio=cut"):
            lm.generate_until([request])
