import pytest
import torch

from ambi_eval.audio import AudioSpan, load_audio
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.hf.decoding import Decoder
from ambi_eval.engines.hf.loading import load_family
from ambi_eval.engines.hf.prompts import Continuation, Prompt
from ambi_eval.engines.prompt import as_messages
from ambi_eval.errors import AmbiError

CONTEXTS = [
    "<audio>Which emotion does the speaker express?",
    "<audio>Happy or sad?",
    "<audio>Which emotion does the speaker express? Answer with one word of: angry, happy, neutral, sad.",
    "<audio>Which emotion",
]


@pytest.fixture(scope="module")
def family(qwen2_audio_checkpoint):
    return load_family(str(qwen2_audio_checkpoint), revision="main", dtype=torch.float32, device=torch.device("cpu"))


@pytest.fixture
def prompt(family, voice):
    """Build a prompt about clips of these numbers."""

    def of(context, *clips, shared=True, **wanted):
        audios = [load_audio(AudioSpan(voice(2.0, clip)), family.sample_rate) for clip in clips]
        inputs = family.model_inputs(as_messages(context, [family.audio_part(audio) for audio in audios]))
        return Prompt(inputs, audios=len(audios), heard=clips if shared else None, **wanted)

    return of


@pytest.fixture(params=[True, False], ids=["shared", "copies"])
def decoder(request, family):
    return Decoder(family, share_prefixes=request.param)


@pytest.fixture
def passes(family):
    """Tokens of every forward pass of the language model: shape (rows, tokens)."""
    seen = []
    handle = family.model.register_forward_pre_hook(
        lambda model, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    yield seen
    handle.remove()


@torch.inference_mode()
def assert_read(family, prompt, read):
    """All that is kept of a prompt is what the model makes of it alone, without anything of ours."""
    alone = family.model(**prompt.inputs, use_cache=True)
    torch.testing.assert_close(read.logits, alone.logits[0, -1], atol=1e-4, rtol=0)
    assert torch.equal(read.input_ids, prompt.inputs["input_ids"])
    for number, layer in enumerate(alone.past_key_values.layers):
        for which, expected in enumerate((layer.keys, layer.values)):
            beginning = read.root.layers[number][which][:, :, : read.shared]
            whole = torch.cat([beginning, read.layers[number][which]], dim=2)
            torch.testing.assert_close(whole, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_prompts_about_a_clip_are_read_as_each_is_alone(family, prompt, decoder, order):
    prompts = [prompt(CONTEXTS[n], clip) for clip in (0, 1) for n in order]
    for asked, read in zip(prompts, decoder.prefill(prompts), strict=True):
        assert_read(family, asked, read)
    assert decoder.counts == {"encodes": 2, "prefills": 8}


def test_all_but_the_first_go_together_from_where_they_differ(prompt, decoder, passes):
    prompts = [prompt(context, 0) for context in CONTEXTS]
    decoder.prefill(prompts)
    assert [rows for rows, _ in passes] == [1, 3]
    lengths = [each.length for each in prompts]
    assert passes[0][1] == lengths[0]
    same = [length - 1 for length in lengths[1:]]  # of each with the first one
    for n, (a, b) in differing(prompts):
        same[n] = (a != b)[0].nonzero()[0].item()
    if not decoder.shares_prefixes:  # copies have one length
        same = [min(same)] * len(same)
    assert passes[1][1] == max(length - begun for length, begun in zip(lengths[1:], same, strict=True))


def differing(prompts):
    """Yield the number of each prompt that is not the beginning of the first one, and the tokens of both."""
    first, *others = (prompt.inputs["input_ids"] for prompt in prompts)
    for n, other in enumerate(others):
        least = min(first.shape[1], other.shape[1])
        if not torch.equal(first[:, :least], other[:, :least]):
            yield n, (first[:, :least], other[:, :least])


def test_the_same_prompt_is_read_once(family, prompt, decoder, passes):
    prompts = [prompt(CONTEXTS[n], 0) for n in (0, 1, 0, 1, 0)]
    read = decoder.prefill(prompts)
    assert decoder.counts == {"encodes": 1, "prefills": 2}
    assert [rows for rows, _ in passes] == [1, 1]
    for asked, each in zip(prompts, read, strict=True):
        assert_read(family, asked, each)


def test_audio_is_encoded_once_as_long_as_a_prompt_about_it_is_held(family, prompt, decoder):
    held = decoder.prefill([prompt(CONTEXTS[0], 0), prompt(CONTEXTS[0], 1)])[1]
    later = [prompt(CONTEXTS[2], 1), prompt(CONTEXTS[2], 0)]
    for asked, read in zip(later, decoder.prefill(later), strict=True):
        assert_read(family, asked, read)
    assert decoder.counts == {"encodes": 3, "prefills": 4}
    assert dict(decoder.prefiller.audio)[(1,)] is held


def test_nothing_is_shared_where_the_same_tokens_end_before_the_audio(family, prompt, decoder):
    prompts = [prompt(context, 0) for context in ("<audio>Which?", "Listen: <audio>Which?", "Hear: <audio>Which?")]
    for asked, read in zip(prompts, decoder.prefill(prompts), strict=True):
        assert_read(family, asked, read)
    assert decoder.counts == {"encodes": 3, "prefills": 3}


def test_a_second_audio_behind_what_differs_is_encoded(family, prompt, decoder):
    prompts = [prompt(f"<audio>{word} <audio>Which?", 0, 1) for word in ("and", "then")]
    for asked, read in zip(prompts, decoder.prefill(prompts), strict=True):
        assert_read(family, asked, read)
    assert decoder.counts["encodes"] == 4


def test_prompts_that_say_nothing_of_what_they_hear_share_nothing(family, prompt, decoder):
    prompts = [prompt(CONTEXTS[0], clip, shared=False) for clip in (0, 1)]
    for asked, read in zip(prompts, decoder.prefill(prompts), strict=True):
        assert_read(family, asked, read)
    assert decoder.counts["encodes"] == 2
    assert not decoder.prefiller.audio


def test_the_head_computes_one_position_of_each_prompt(family, prompt, decoder):
    seen = []
    handle = family.model.lm_head.register_forward_hook(lambda head, args, output: seen.append(output.shape[:2]))
    decoder.prefill([prompt(context, 0) for context in CONTEXTS])
    handle.remove()
    assert seen == [(1, 1), (3, 1)]


@pytest.mark.parametrize(
    "wanted",
    [
        {"settings": GenerationSettings(max_gen_toks=2000)},
        {"continuations": [Continuation([60], True), Continuation([60] * 2000, False)]},
    ],
)
def test_a_prompt_too_long_for_its_answer_is_said_before_anything_is_read(prompt, decoder, wanted):
    with pytest.raises(AmbiError, match=r"a prompt of \d+ tokens and 2000 of its answer .* lower max_gen_toks"):
        decoder.prefill([prompt(CONTEXTS[0], 0), prompt(CONTEXTS[0], 1, **wanted)])
    assert not decoder.counts
