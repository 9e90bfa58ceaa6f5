import logging
import math
from collections import Counter
from itertools import chain

import pytest
import torch
from scipy import stats
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ambi_eval.audio import AudioSpan, load_audio
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.config.model_arguments import HFAudioArguments
from ambi_eval.engines.base import Job
from ambi_eval.engines.hf import decoding, room
from ambi_eval.engines.hf.batch import MOST_USED, Batch, Row
from ambi_eval.engines.hf.decoding import Decoder
from ambi_eval.engines.hf.engine import HFEngine
from ambi_eval.engines.hf.loading import load_family
from ambi_eval.engines.hf.prompts import Continuation, Prompt
from ambi_eval.engines.hf.scheduler import Scheduler
from ambi_eval.engines.prompt import as_messages
from ambi_eval.errors import AmbiError
from ambi_eval.sampling import gumbel
from ambi_eval.sampling.gumbel import choose_tokens
from ambi_eval.sampling.keys import row_key

GREEDY = GenerationSettings(max_gen_toks=10)
SAMPLED = GenerationSettings(temperature=1.0, max_gen_toks=10)
# Clips of different lengths, prompts of different lengths, one without audio.
CLIPS = [
    (3.0, "<audio>Which emotion does the speaker express?"),
    (0.3, "<audio>Happy or sad?"),
    (30.0, "<audio>One word."),
    (12.5, "Listen: <audio> Which emotion does the speaker express? Answer with one word of: angry, happy."),
    (None, "Which emotion does the speaker express?"),
    (1.7, "<audio>Happy or sad?"),
]


@pytest.fixture(scope="module")
def family(qwen2_audio_checkpoint):
    return load_family(str(qwen2_audio_checkpoint), revision="main", dtype=torch.float32, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def inputs(family, voice):
    """What the model reads for each of the clips."""

    def of(seconds, context):
        audios = [] if seconds is None else [load_audio(AudioSpan(voice(seconds)), family.sample_rate)]
        return family.model_inputs(as_messages(context, [family.audio_part(audio) for audio in audios]))

    return [of(*clip) for clip in CLIPS]


@pytest.fixture
def prompts(inputs):
    """Build the prompts of all clips, with so many answers each."""
    return lambda answers=1: [
        Prompt(inputs[n], [row_key(n, k) for k in range(answers)], audios="<audio>" in context, owner=n)
        for n, (_, context) in enumerate(CLIPS)
    ]


@pytest.fixture
def calls(family):
    """What the model is called with, one entry per forward pass."""
    seen = []
    handle = family.model.register_forward_pre_hook(lambda model, args, kwargs: seen.append(kwargs), with_kwargs=True)
    yield seen
    handle.remove()


def answers(scheduler, prompts, settings):
    for prompt in prompts:
        prompt.settings = settings
    return dict(sorted((prompt.owner, candidates) for prompt, candidates in scheduler.generate(prompts)))


@torch.inference_mode()
def forward(family, inputs, tokens=()):
    """Return the logits of a whole forward pass without any cache, shape (tokens + 1, vocabulary)."""
    ids = torch.cat([inputs["input_ids"], torch.tensor([tokens], dtype=torch.long)], dim=1)
    output = family.model(**{**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}, use_cache=False)
    return output.logits[0, -len(tokens) - 1 :]


def naive_answer(family, inputs, settings, key):
    """Answer without cache, batch or expansion: a whole forward pass per token. Return text, log-likelihood, tokens."""
    tokens, logprob = [], 0.0
    while len(tokens) < settings.max_gen_toks and not (tokens and tokens[-1] in family.end_ids):
        logits = forward(family, inputs, tokens)[-1:]
        allowed = logits.clone()
        allowed[:, family.placeholder_ids] = -torch.inf
        token = choose_tokens(allowed, settings, torch.tensor([key]), torch.tensor([len(tokens)])).item()
        tokens.append(token)
        logprob += logits.log_softmax(-1)[0, token].item()
    return family.processor.tokenizer.decode(tokens, skip_special_tokens=True), logprob, len(tokens)


@pytest.mark.parametrize(("batch_size", "encoded_at_once"), [(1, 1), (2, 1), (6, 1), (6, 8)])
def test_greedy_answers_are_those_of_generate_on_each_clip_alone(family, prompts, batch_size, encoded_at_once):
    scheduler = Scheduler(family, batch_size)
    scheduler.decoder.prefiller.at_once = encoded_at_once
    found = answers(scheduler, prompts(), GREEDY)
    for prompt in prompts():
        output = family.model.generate(
            **prompt.inputs,
            max_new_tokens=10,
            suppress_tokens=family.placeholder_ids,
            return_dict_in_generate=True,
            output_logits=True,
        )
        tokens = output.sequences[:, prompt.inputs["input_ids"].shape[1] :]
        scores = family.model.compute_transition_scores(output.sequences, output.logits, normalize_logits=True)
        (answer,) = found[prompt.owner]
        assert answer == family.processor.tokenizer.decode(tokens[0], skip_special_tokens=True)
        assert answer.n_tokens == tokens.shape[1]
        assert answer.logprob == pytest.approx(scores.sum().item(), abs=1e-4)


def test_samples_and_their_likelihoods_are_those_of_whole_forward_passes(family, prompts):
    settings = GenerationSettings(temperature=0.8, top_k=50, top_p=0.95, max_gen_toks=6)
    found = answers(Scheduler(family, 3), prompts(2), settings)
    for prompt in prompts(2):
        for answer, key in zip(found[prompt.owner], prompt.keys, strict=True):
            text, logprob, n_tokens = naive_answer(family, prompt.inputs, settings, key)
            assert (answer, answer.n_tokens) == (text, n_tokens)
            assert answer.logprob == pytest.approx(logprob, abs=1e-4)


@pytest.mark.parametrize("batch_size", [2, 3, None])
def test_samples_do_not_depend_on_the_batch(family, prompts, batch_size):
    alone = answers(Scheduler(family, 1), prompts(4), SAMPLED)
    together = answers(Scheduler(family, batch_size), prompts(4), SAMPLED)
    assert together == alone
    for one, other in zip(chain(*alone.values()), chain(*together.values()), strict=True):
        assert (one.finish, one.n_tokens, one.number) == (other.finish, other.n_tokens, other.number)
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


MIXED = [
    (GREEDY, 1),
    (GenerationSettings(num_beams=3, max_gen_toks=6), 3),
    (SAMPLED, 4),
    (GenerationSettings(temperature=0.7, top_k=20, max_gen_toks=3), 2),
    (GenerationSettings(num_beams=2, max_gen_toks=4), 2),
]


def mixed_prompts(prompts):
    """Return the prompts of all clips for all of these settings, those about one clip behind one another."""
    of_all = []
    for n, (settings, n_answers) in enumerate(MIXED):
        for prompt in prompts(n_answers):
            prompt.settings, prompt.owner = settings, (prompt.owner, n)
            of_all.append(prompt)
    return sorted(of_all, key=lambda prompt: prompt.owner)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2, 6, None])
def test_all_strategies_go_together_and_answer_as_they_do_alone(family, prompts, batch_size):
    together = {
        prompt.owner: found for prompt, found in Scheduler(family, batch_size).generate(mixed_prompts(prompts), 4)
    }
    for n, (settings, n_answers) in enumerate(MIXED):
        for clip, alone in answers(Scheduler(family), prompts(n_answers), settings).items():
            assert together.pop((clip, n)) == alone
    assert not together


def test_samples_do_not_depend_on_the_order_or_on_what_else_is_asked(family, prompts):
    everything = answers(Scheduler(family, 3), prompts(4), SAMPLED)
    assert answers(Scheduler(family, 3), prompts(4)[::-1], SAMPLED) == everything
    assert answers(Scheduler(family, 3), prompts(4)[3:5], SAMPLED) == {3: everything[3], 4: everything[4]}
    assert answers(Scheduler(family, 3), prompts(2), SAMPLED) == {n: pool[:2] for n, pool in everything.items()}


def test_the_first_token_follows_the_softmax_of_the_model(family, inputs):
    settings = GenerationSettings(temperature=1.0, max_gen_toks=1)
    prompt = Prompt(inputs[1], [row_key("chi-square", k) for k in range(3000)])
    prompt.settings = settings
    ((_, drawn),) = Scheduler(family).generate([prompt])
    probabilities = forward(family, inputs[1])[0].softmax(-1).double()
    probabilities[family.placeholder_ids] = 0
    expected = Counter()
    for token, probability in enumerate(probabilities.tolist()):
        text = family.processor.tokenizer.decode([token], skip_special_tokens=True)
        expected[text] += probability * 3000 / probabilities.sum().item()
    counts = Counter(map(str, drawn))
    often = [text for text in expected if expected[text] >= 5]
    rest = (3000 - sum(counts[text] for text in often), 3000 - sum(expected[text] for text in often))
    observed = [counts[text] for text in often] + [rest[0]]
    assert len(often) > 20
    assert stats.chisquare(observed, [expected[text] for text in often] + [rest[1]]).pvalue > 0.001


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_beams_are_those_of_generate(family, prompts, length_penalty):
    settings = GenerationSettings(num_beams=4, max_gen_toks=8, length_penalty=length_penalty)
    found = answers(Scheduler(family), prompts(4), settings)
    for prompt in prompts():
        output = family.model.generate(
            **prompt.inputs,
            num_beams=4,
            num_return_sequences=4,
            max_new_tokens=8,
            length_penalty=length_penalty,
            suppress_tokens=family.placeholder_ids,
            return_dict_in_generate=True,
            output_scores=True,
        )
        tokens = output.sequences[:, prompt.inputs["input_ids"].shape[1] :]
        texts = family.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        scores = family.model.compute_transition_scores(output.sequences, output.scores, output.beam_indices).sum(1)
        beams = found[prompt.owner]
        assert [str(beam) for beam in beams] == texts
        assert [beam.number for beam in beams] == [0, 1, 2, 3]
        assert [beam.logprob for beam in beams] == pytest.approx(scores.tolist(), abs=1e-4)


def test_fewer_beams_may_be_asked_for_than_are_searched(family, prompts):
    four = answers(Scheduler(family), prompts(4)[:1], GenerationSettings(num_beams=4, max_gen_toks=8))
    two = answers(Scheduler(family), prompts(2)[:1], GenerationSettings(num_beams=4, max_gen_toks=8))
    assert two[0] == four[0][:2]


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("clip", range(len(CLIPS)))
def test_likelihoods_of_continuations_are_those_of_teacher_forcing(family, prompts, clip, ends):
    scheduler, prompt = Scheduler(family), prompts()[clip]
    best = family.model.generate(**prompt.inputs, max_new_tokens=3)[0, prompt.inputs["input_ids"].shape[1] :].tolist()
    wanted = [Continuation(tokens, ends) for tokens in ([60, 70, 80], [90], [60, 70], best[:2])]
    prompt.continuations = wanted
    ((_, scores),) = scheduler.loglikelihoods([prompt])
    for each, (logprob, is_greedy) in zip(wanted, scores, strict=True):
        logprobs = forward(family, prompt.inputs, each.tokens).log_softmax(-1)
        expected = sum(logprobs[step, token].item() for step, token in enumerate(each.tokens))
        if ends:
            expected += logprobs[-1].exp()[family.end_ids].sum().log().item()
        assert logprob == pytest.approx(expected, abs=1e-5)
        best_end = logprobs[-1].argmax().item() in family.end_ids
        assert is_greedy == (each.tokens == best[: len(each.tokens)] and (not ends or best_end))


WORDS = [Continuation([60, 70, 80], True), Continuation([90], True), Continuation([60, 70], False)]


@pytest.fixture
def scored_prompts(prompts):
    """Build three prompts about each of two clips, with the continuations to be scored."""

    def build():
        questions = [prompt for prompt in prompts() if prompt.owner in (0, 1)]
        for clip, question in enumerate(questions):
            for n in range(3):
                inputs = {name: value.clone() for name, value in question.inputs.items()}
                inputs["input_ids"][0, -2 - n] = 65 + n
                yield Prompt(inputs, continuations=WORDS[: 3 - n], heard=clip, owner=(clip, n))

    return build


def scores_of(scheduler, prompts):
    return {prompt.owner: scores for prompt, scores in scheduler.loglikelihoods(prompts)}


@pytest.mark.parametrize("share_prefixes", [True, False])
def test_likelihoods_are_the_same_whatever_else_is_asked(family, scored_prompts, share_prefixes):
    """So a run that was stopped, and asks for the rest, ends like one that was not."""

    def assert_same(scheduler, prompts):
        for owner, scores in scores_of(scheduler, prompts).items():
            assert [each for each, _ in scores] == pytest.approx([each for each, _ in whole[owner]], abs=1e-5)
            assert [is_greedy for _, is_greedy in scores] == [is_greedy for _, is_greedy in whole[owner]]

    whole = scores_of(Scheduler(family), scored_prompts())
    for part in ([0], [1, 2], [5, 4, 3], [2, 1, 0, 4], [*range(6)]):
        prompts = list(scored_prompts())
        assert_same(Scheduler(family, 2, share_prefixes=share_prefixes), [prompts[n] for n in part])
    generating = Scheduler(family, share_prefixes=share_prefixes)
    answered = next(scored_prompts())  # its answers hold a prompt about the audio, from which the likelihoods go on
    answered.continuations, answered.keys, answered.settings = (), [0], GREEDY
    for _ in generating.generate([answered]):
        assert_same(generating, list(scored_prompts())[1:3])


@pytest.mark.parametrize(("batch_size", "passes"), [(1, 4), (2, 3), (None, 3)])
def test_likelihoods_about_as_many_clips_as_the_batch_holds_take_one_pass_that_reads_equal_beginnings_once(
    family, scored_prompts, calls, batch_size, passes
):
    asked = list(scored_prompts())
    for n, prompt in enumerate(asked):
        prompt.inputs["input_ids"][0, -4:] = torch.tensor([60, 61, 62, 63])
        prompt.inputs["input_ids"][0, -4] = 64 + n % 3  # the others differ from the first one at one place
    scores_of(Scheduler(family, batch_size), asked)
    shapes = [tuple(kwargs["input_ids"].shape) for kwargs in calls]
    sequences = [[*each.tokens[-4:], *more.tokens] for each in asked[1:3] for more in each.continuations]
    beginnings = {tuple(sequence[: n + 1]) for sequence in sequences for n in range(len(sequence))}
    # Two rows for a clip, because the first prompt about it has been read with it.
    assert shapes[-1] == (2 * (5 - passes), len(beginnings))
    assert len(shapes) == passes


def test_likelihoods_that_do_not_fit_in_memory_together_are_computed_apart(family, scored_prompts):
    expected = scores_of(Scheduler(family), scored_prompts())
    memory = RunsOutOfMemory(family.model, rows=1)
    found = scores_of(Scheduler(family, 2), scored_prompts())
    memory.handle.remove()
    for owner, scores in found.items():
        assert [each for each, _ in scores] == pytest.approx([each for each, _ in expected[owner]], abs=1e-5)


def test_likelihoods_share_the_audio_that_others_hold_and_leave_it_to_them(family, scored_prompts):
    scheduler = Scheduler(family, 2)
    first, *others = scored_prompts()
    (held,) = scheduler.decoder.prefill([first])
    scores_of(scheduler, others)
    assert scheduler.counts["encodes"] == 2
    assert dict(scheduler.decoder.prefiller.audio) == {0: held}


def test_a_prompt_whose_continuations_do_not_fit_is_said(family, scored_prompts):
    memory = RunsOutOfMemory(family.model, rows=0)
    with pytest.raises(AmbiError, match="do not fit in memory"):
        scores_of(Scheduler(family, 2), scored_prompts())
    memory.handle.remove()


@pytest.mark.parametrize("settings", [SAMPLED, GenerationSettings(temperature=1.0, top_k=2, max_gen_toks=6)])
def test_twenty_answers_cost_one_encoding_one_prefill_and_their_different_tokens(
    family, prompts, calls, settings, monkeypatch
):
    encoded, needed, candidates = [], set(), Decoder.candidates

    def watched(decoder, rows):
        for row in rows:  # the last token of an answer is not read
            needed.update((rows[0].key, *row.tokens[:k]) for k in range(1, len(row.tokens)))
        return candidates(decoder, rows)

    monkeypatch.setattr(Decoder, "candidates", watched)
    tower = family.model.model.audio_tower
    handle = tower.register_forward_hook(lambda module, args, output: encoded.append(len(output.last_hidden_state)))
    scheduler = Scheduler(family, batch_size=2)
    pools = answers(scheduler, prompts(20)[:4], settings)
    handle.remove()
    assert encoded == [1] * 4
    assert [len(kwargs["input_ids"]) for kwargs in calls if kwargs["input_ids"].shape[1] > 1] == [1] * 4
    tokens = sum(answer.n_tokens for pool in pools.values() for answer in pool)
    fed = sum(len(kwargs["input_ids"]) for kwargs in calls if kwargs["input_ids"].shape[1] == 1)
    assert len(needed) <= fed <= len(needed) / MOST_USED
    assert (fed < (tokens - 80) / 2) == (settings.top_k == 2)
    assert scheduler.counts == {"encodes": 4, "prefills": 4, "generated_tokens": tokens}


def test_a_batch_of_one_clip_holds_all_answers_to_it(qwen2_audio_checkpoint, voice):
    engine = HFEngine(HFAudioArguments(pretrained=str(qwen2_audio_checkpoint)))
    read = []
    engine.family.model.register_forward_pre_hook(
        lambda model, args, kwargs: read.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    clips = [(AudioSpan(voice(1.0, seed)),) for seed in (0, 1)]
    jobs = [Job(f"<audio>{n}", clip, SAMPLED, numbers=range(n), task="t") for clip in clips for n in (1, 5, 2)]
    engine.check([*jobs, *jobs])  # tasks that ask alike share a pool
    list(engine.generate(jobs))
    assert max(rows for rows, tokens in read if tokens == 1) == 8


def test_two_clips_get_different_answers(family, inputs, voice):
    def heard(*seeds):
        parts = [family.audio_part(load_audio(AudioSpan(voice(3.0, seed)), 16000)) for seed in seeds]
        inputs = family.model_inputs(as_messages("<audio>" * len(seeds) + "Happy or sad?", parts))
        (read,) = Decoder(family).prefill([Prompt(inputs, [0], audios=len(seeds))])
        return read.logits

    assert (heard(0) - heard(1)).abs().max() > 1e-3
    assert (heard(0, 1) - heard(1, 0)).abs().max() > 1e-3
    torch.testing.assert_close(heard(0, 1), heard(0, 1))


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED, GenerationSettings(num_beams=3, max_gen_toks=10)])
def test_an_answer_ends_before_its_first_stop_string(family, prompts, settings):
    whole = answers(Scheduler(family, 3), prompts(3), settings)
    seen = Counter(letter for pool in whole.values() for answer in pool for letter in answer[3:] if letter.isascii())
    stop, _ = seen.most_common(1)[0]
    cut = GenerationSettings(**{**vars(settings), "until": (stop, "not in any answer")})
    found = answers(Scheduler(family, 3), prompts(3), cut)
    assert not any(stop in answer for pool in found.values() for answer in pool)
    if settings.num_beams == 1:  # with stop strings, other beams are the best ones
        pairs = list(zip(chain(*whole.values()), chain(*found.values()), strict=True))
        assert [str(short) for _, short in pairs] == [answer.split(stop)[0] for answer, _ in pairs]
        assert {short.finish for answer, short in pairs if stop in answer} == {"stop"}
        assert sum(short.n_tokens for _, short in pairs) < sum(answer.n_tokens for answer, _ in pairs)


def test_a_stop_string_of_several_tokens_is_found_where_it_is_completed(family, prompts):
    (whole,) = answers(Scheduler(family), prompts()[:1], GREEDY)[0]
    for start in range(len(whole) - 4):
        stop = whole[start : start + 4]
        settings = GenerationSettings(until=(stop,), max_gen_toks=10)
        (short,) = answers(Scheduler(family), prompts()[:1], settings)[0]
        assert short == whole[: whole.find(stop)]
        assert short.finish == "stop"


def test_an_answer_that_ends_its_turn_counts_the_token_that_ended_it(family, prompts):
    settings = GenerationSettings(temperature=1.5, max_gen_toks=60)
    pools = answers(Scheduler(family, 3), prompts(8), settings)
    ended = [(n, k) for n, pool in pools.items() for k, answer in enumerate(pool) if answer.finish == "stop"]
    assert 0 < len(ended) < 48
    for n, k in ended[:3]:
        answer, prompt = pools[n][k], prompts(8)[n]
        text, logprob, n_tokens = naive_answer(family, prompt.inputs, settings, prompt.keys[k])
        assert (answer, answer.n_tokens) == (text, n_tokens)
        assert answer.logprob == pytest.approx(logprob, abs=1e-4)
    assert all(a.n_tokens == 60 for pool in pools.values() for a in pool if a.finish == "length")


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED, GenerationSettings(num_beams=3, max_gen_toks=10)])
def test_a_token_that_stands_for_audio_is_never_generated(family, prompts, calls, settings):
    (placeholder,) = family.placeholder_ids

    def prefer_placeholder(head, args, logits):
        return logits.index_add(-1, torch.tensor([placeholder]), torch.full_like(logits[..., :1], 50.0))

    handle = family.model.lm_head.register_forward_hook(prefer_placeholder)
    answers(Scheduler(family, 2), prompts(3)[:3], settings)
    handle.remove()
    generated = [kwargs["input_ids"] for kwargs in calls if kwargs["input_ids"].shape[1] == 1]
    assert len(generated) > 5
    assert all((ids != placeholder).all() for ids in generated)


class RunsOutOfMemory:
    """Raises as a GPU does when a forward pass has more rows than fit."""

    def __init__(self, model, rows):
        self.handle = model.register_forward_pre_hook(self.check, with_kwargs=True)
        self.rows, self.passes = rows, 0

    def check(self, model, args, kwargs):
        self.passes += 1
        if len(kwargs["input_ids"]) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory.")


def test_out_of_memory_halves_the_batch_and_changes_no_answer(family, prompts, caplog):
    expected = answers(Scheduler(family, 1), prompts(4), SAMPLED)
    memory = RunsOutOfMemory(family.model, rows=7)
    with caplog.at_level(logging.WARNING):
        found = answers(Scheduler(family, 6), prompts(4), SAMPLED)
    memory.handle.remove()
    assert found == expected
    assert [record.args for record in caplog.records] == [(24, 12), (12, 6)]


@pytest.mark.slow
def test_strategies_that_go_together_recover_from_out_of_memory_as_well(family, prompts, caplog):
    expected = {prompt.owner: found for prompt, found in Scheduler(family).generate(mixed_prompts(prompts), 4)}
    memory = RunsOutOfMemory(family.model, rows=5)
    with caplog.at_level(logging.WARNING):
        found = {prompt.owner: found for prompt, found in Scheduler(family, 6).generate(mixed_prompts(prompts), 4)}
    memory.handle.remove()
    assert found == expected
    assert caplog.records[0].args == (24, 12)


def test_a_clip_that_does_not_fit_alone_is_said(family, prompts):
    memory = RunsOutOfMemory(family.model, rows=3)
    with pytest.raises(AmbiError, match="the answers to one clip do not fit in memory; lower repeats"):
        answers(Scheduler(family, 2), prompts(4), SAMPLED)
    memory.handle.remove()


@pytest.mark.parametrize(("free", "most", "clips"), [(10**12, 64, 6), (10**12, 2, 2), (1, 64, 1)])
def test_batch_size_auto_fits_the_memory(family, prompts, calls, monkeypatch, free, most, clips):
    monkeypatch.setattr(room, "_free_memory", lambda device: free)
    monkeypatch.setattr(room.Pace, "rows", math.inf, raising=False)
    monkeypatch.setattr(room.Pace, "__init__", lambda pace, rows: pace._start())
    monkeypatch.setattr(room.Pace, "watch", lambda *step: None)
    answers(Scheduler(family, None, max_batch_size=most), prompts(4), SAMPLED)
    rows = [len(kwargs["input_ids"]) for kwargs in calls]
    assert 4 * (clips - 1) < max(rows) <= 4 * clips


def test_a_prompt_waits_until_half_of_the_room_is_free(family, prompts, calls):
    asked = prompts()
    for number, prompt in enumerate(asked):
        prompt.settings = GenerationSettings(max_gen_toks=8 if number else 2)
    list(Scheduler(family, 4).generate(asked))
    steps = [len(kwargs["input_ids"]) for kwargs in calls if kwargs["input_ids"].shape[1] == 1]
    assert steps[:3] == [4, 3, 3]


def test_prompts_are_taken_as_they_are_needed(family, prompts):
    taken = []

    def slowly():
        for prompt in prompts():
            taken.append(prompt.owner)
            prompt.settings = GenerationSettings(max_gen_toks=1)
            yield prompt

    decoded = Scheduler(family, 2).generate(slowly())
    next(decoded)
    assert taken == [0, 1, 2]  # one is always ready


def test_a_call_goes_on_after_another_one_that_its_caller_made_between_two_answers(family, prompts):
    scheduler, settings = Scheduler(family, 2), GenerationSettings(max_gen_toks=1)
    asked, between = prompts()[4:], prompts()[4]
    for prompt in (*asked, between):
        prompt.settings = settings
    answered = [(prompt.owner, len(list(scheduler.generate([between])))) for prompt, _ in scheduler.generate(asked)]
    assert answered == [(4, 1), (5, 1)]


def test_a_verifier_that_rates_answers_as_they_come_needs_no_encoding_of_its_own(family, prompts):
    scheduler, asked = Scheduler(family, 2), prompts(2)
    for prompt in asked:
        prompt.settings, prompt.heard = GREEDY, prompt.owner
    for prompt, _ in scheduler.generate(asked):
        rated = Prompt(prompt.inputs, continuations=WORDS, audios=prompt.audios, heard=prompt.heard)
        assert len(list(scheduler.loglikelihoods([rated]))) == 1
    assert scheduler.counts["encodes"] == sum(prompt.audios for prompt in asked)
    assert not scheduler.decoder.prefiller.audio


class Waits(TorchFunctionMode):
    """Notes the calls that let the processor wait for a GPU: values are read from it, or lists are copied to it."""

    NAMES = frozenset({"tolist", "item", "cpu", "numpy", "nonzero", "tensor", "as_tensor", "equal"})
    NAMES |= {"__bool__", "__int__", "__float__", "__index__", "__contains__"}

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function.__name__ in self.NAMES:
            self.seen.append(function.__name__)
        return function(*args, **(kwargs or {}))


class Operators(TorchDispatchMode):
    """Counts the operators that compute something, of which a GPU makes at least one kernel each; views do not."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not any(each.alias_info and not each.alias_info.is_write for each in function._schema.returns)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("share_prefixes", [True, False])
@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@torch.inference_mode()
def test_a_step_waits_for_the_device_once(family, prompts, settings, share_prefixes, monkeypatch):
    draw = gumbel._draw_from_all
    # As on a GPU.
    monkeypatch.setattr(gumbel, "_draw_from_candidates", lambda *options: draw(*options[:4]))
    monkeypatch.setattr(decoding, "log_normalizers", lambda logits: logits.logsumexp(-1))
    decoder, batch = Decoder(family, share_prefixes), Batch(family.model)
    asked = prompts(2)[:2] if settings.sampled else prompts(1)[:4]  # four answers that differ
    decoder.expand(
        batch,
        [
            (each, [Row(key, settings) for key in prompt.keys])
            for prompt, each in zip(asked, decoder.prefill(asked), strict=True)
        ],
    )
    decoder.decode_one_token(batch)
    with Waits() as waits, Operators() as operators:
        decoder.decode_one_token(batch)
    assert operators.count <= (183 if settings.sampled else 131)  # of a model of two layers
    assert [row.finish for row in batch.rows] == [None] * 4
    # With copies, transformers looks into the attention mask.
    assert waits.seen == ["tolist"] + (["__bool__"] if not share_prefixes else [])


@pytest.mark.parametrize("text", ["happy, or sad", "né à Zürich — 私は嬉しい。", "a  b\n\nc 😀 d"])
def test_every_string_in_a_text_is_found_at_the_token_that_completes_it(family, text):
    decoder, tokens = Decoder(family), family.processor.tokenizer.encode(text, add_special_tokens=False)
    assert family.processor.tokenizer.decode(tokens) == text
    for start in range(len(text)):
        for end in range(start + 1, min(start + 4, len(text)) + 1):
            until = (text[start:end],)
            first = next(
                k for k in range(len(tokens)) if until[0] in family.processor.tokenizer.decode(tokens[: k + 1])
            )
            ended = [decoder._ended(tokens[: k + 1], GenerationSettings(until=until)) for k in range(len(tokens))]
            assert ended.index(True) == first


def test_no_text_is_decoded_for_tokens_that_complete_no_stop_string(family, prompts, monkeypatch):
    decoder = Decoder(family)
    settings = GenerationSettings(until=("\n\n",))
    assert not decoder._ended([65], settings)
    monkeypatch.setattr(decoder, "_text", lambda tokens: 1 / 0)
    assert not decoder._ended([65] * 100, settings)
