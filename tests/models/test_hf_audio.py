import json
import logging
import pickle
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch
from lm_eval.api.registry import get_model
from lm_eval.utils import simple_parse_args_string
from support.processes import as_torchrun_starts
from transformers import Qwen2AudioForConditionalGeneration

import ambi_eval
from ambi_eval.answers.candidate import Candidate
from ambi_eval.audio import AudioSpan, load_audio
from ambi_eval.costs import shapes
from ambi_eval.engines.base import Job
from ambi_eval.errors import AmbiError
from ambi_eval.models.hf_audio import HFAudio

SAMPLED = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 8}


@pytest.fixture
def load(qwen2_audio_checkpoint):
    return lambda **options: HFAudio(
        **{"pretrained": str(qwen2_audio_checkpoint), "device": "cpu", "seed": 7, "store": "none", **options}
    )


@pytest.fixture
def lm(load):
    return load()


def clones(*requests):
    """As the harness hands them over: every request as often as it has repeats."""
    return [request for request in requests for _ in range(request.repeats)]


def test_the_harness_knows_it_by_name():
    assert get_model("hf-audio") is HFAudio
    assert HFAudio.MULTIMODAL


def test_the_harness_builds_it_from_its_own_arguments(qwen2_audio_checkpoint):
    lm = HFAudio.create_from_arg_string(
        f"pretrained={qwen2_audio_checkpoint},dtype=bfloat16,seed=3",
        {"batch_size": "auto:4", "max_batch_size": None, "device": "cuda:0"},
    )
    assert lm.engine.family.model.dtype == torch.bfloat16
    assert (lm.rank, lm.world_size, lm.seed) == (0, 1, 3)
    assert lm.device == torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def test_model_args_override_what_the_harness_says_itself(qwen2_audio_checkpoint):
    arguments = f"pretrained={qwen2_audio_checkpoint},batch_size=3,max_batch_size=5,device=cpu,store=none"
    harness = {"batch_size": 8, "max_batch_size": 9, "device": "cuda:0"}
    for lm in (
        HFAudio.create_from_arg_string(arguments, harness),
        HFAudio.create_from_arg_obj(simple_parse_args_string(arguments), harness),
    ):
        given = lm.engine.arguments
        assert (given.batch_size, given.max_batch_size, given.device) == (3, 5, "cpu")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pretrained": None}, "needs a model: --model_args pretrained="),
        ({"batchsize": 2}, "hf-audio: unknown key 'batchsize', did you mean 'batch_size'"),
        ({"batch_size": "many"}, "batch_size is 'many'; it must be a"),
        ({"batch_size": 0}, "batch_size is 0; it must be more than 0"),
        ({"max_batch_size": 1.5}, "max_batch_size is 1.5; it must be a whole number"),
        ({"seed": "x"}, "seed is 'x'; it must be a"),
        ({"dtype": "float23"}, "dtype is 'float23', did you mean 'float32'"),
        ({"device": "gpu7"}, "device=gpu7 is no device"),
        ({"device": "cuda:97"}, r"device=cuda:97 is not there, as torch sees \d+ GPUs?; give another one, or cpu"),
        ({"long_audio": "split"}, "long_audio is 'split'.* one of cut, refuse"),
        ({"pretrained": "no/such-model"}, "no/such-model cannot be loaded"),
    ],
)
def test_impossible_arguments_are_refused(load, options, sentence):
    with pytest.raises(AmbiError, match=sentence):
        load(**options)


def test_store_none_in_a_text_is_no_store(qwen2_audio_checkpoint):
    assert (
        HFAudio.create_from_arg_string(f"pretrained={qwen2_audio_checkpoint},device=cpu,store=none").cache.store is None
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pretrained": "/no/such"}, "/no/such cannot be loaded .there is no such folder."),
        ({"pretrained": __file__}, r"test_hf_audio\.py cannot be loaded .there is no such folder."),
        ({"peft": "/no/such"}, "/no/such is no adapter .*give the folder or the repository of one with peft="),
        ({"verifier": "/no/such"}, "/no/such cannot be loaded"),
        ({"verifier": "openai:gpt-audio-1.5"}, "needs a key; set the environment variable OPENAI_API_KEY"),
        ({"store": "/proc/no/such"}, "cannot use the candidate store /proc/no/such"),
        ({"store": __file__}, r"cannot use the candidate store .*test_hf_audio\.py"),
    ],
)
def test_what_is_missing_is_said_before_a_model_is_loaded(load, options, sentence, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("ambi_eval.engines.hf.engine.load_family", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(AmbiError, match=sentence):
        load(**options)


def test_an_adapter_without_peft_names_the_extra(load, monkeypatch, tmp_path):
    monkeypatch.setattr("ambi_eval.engines.hf.loading.find_spec", lambda name: None if name == "peft" else name)
    with pytest.raises(AmbiError, match=r"needs the package peft: pip install 'ambi_eval\[peft\]'"):
        load(peft=str(tmp_path))


def test_a_gpu_that_is_not_there_is_said_once(load, caplog, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.INFO, logger="ambi_eval.engines.hf.loading"):
        assert load(device="cuda:0").device == torch.device("cpu")
    assert [record.message for record in caplog.records] == ["there is no CUDA here: computing on the CPU"]


def test_half_precision_checkpoints_compute_in_float32_on_a_cpu_unless_asked(load, qwen2_audio_checkpoint, tmp_path):
    shutil.copytree(qwen2_audio_checkpoint, tmp_path, dirs_exist_ok=True)
    Qwen2AudioForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float16).save_pretrained(tmp_path)
    assert load(pretrained=str(tmp_path)).engine.family.model.dtype == torch.float32
    assert load(pretrained=str(tmp_path), dtype="float16").engine.family.model.dtype == torch.float16


def test_without_a_seed_of_its_own_it_takes_that_of_the_harness(load):
    state = torch.get_rng_state()
    torch.manual_seed(4321)
    assert load(seed=None).seed == 4321
    torch.set_rng_state(state)


def test_ambi_tiny_is_the_checkpoint_that_comes_along(load, qwen2_audio_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(ambi_eval, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(AmbiError, match=r"ambi-tiny is not in .*; install ambi-eval anew"):
        load(pretrained="ambi-tiny")
    shutil.copytree(qwen2_audio_checkpoint, tmp_path / "demo" / "ambi-tiny")
    assert load(pretrained="ambi-tiny").engine.digest == load().engine.digest


def test_every_clone_gets_a_candidate_in_the_order_of_the_requests(lm, ask, voice):
    greedy = ask("<audio>Which?", voice(1.0), max_gen_toks=8)
    sampled = ask("<audio>Which emotion?", voice(2.0), repeats=3, **SAMPLED)
    beams = ask("<audio>Which?", voice(1.0), repeats=2, num_beams=3, max_gen_toks=8)
    answers = lm.generate_until(clones(sampled, greedy, beams))
    assert all(type(answer) is Candidate for answer in answers)
    assert [answer.number for answer in answers] == [0, 1, 2, 0, 0, 1]
    assert len(set(answers[:3])) == 3
    assert answers[4].logprob > answers[5].logprob
    assert answers[4].logprob >= answers[3].logprob - 1e-4  # the same text is read in another batch
    assert {answer.finish for answer in answers} <= {"stop", "length"}
    assert all(0 < answer.n_tokens <= 8 and answer.logprob < 0 for answer in answers)
    assert pickle.loads(pickle.dumps(answers)) == answers
    assert vars_of(pickle.loads(pickle.dumps(answers))) == vars_of(answers)


def vars_of(answers):
    return [(answer.logprob, answer.n_tokens, answer.finish, answer.number) for answer in answers]


def test_a_pool_costs_one_encoding_however_many_answers_it_has(lm, ask, voice):
    lm.generate_until(clones(*[ask("<audio>Which?", voice(1.0, n), repeats=20, **SAMPLED) for n in range(3)]))
    info = lm.get_model_info()["ambi"]
    assert (info["encodes"], info["prefills"]) == (3, 3)
    lm.loglikelihood([ask("<audio>Which?", voice(1.0), continuation=label) for label in ("happy", "sad", "angry")])
    info = lm.get_model_info()["ambi"]
    assert (info["encodes"], info["prefills"]) == (4, 4)


def test_all_strategies_about_a_clip_share_its_encoding(lm, ask, voice):
    greedy = ask("<audio>Which?", voice(1.0), max_gen_toks=6)
    sampled = ask("<audio>Which one?", voice(1.0), repeats=3, **SAMPLED)
    beams = ask("<audio>Which is it?", voice(1.0), repeats=2, num_beams=2, max_gen_toks=4)
    lm.generate_until(clones(greedy, sampled, beams))
    info = lm.get_model_info()["ambi"]
    assert (info["encodes"], info["prefills"]) == (1, 3)


def test_features_are_made_on_one_thread_each_and_the_model_keeps_its_own(lm, ask, voice, monkeypatch):
    def watch(kind, method):
        threads, call = set(), getattr(kind, method)

        def watched(*args, **kwargs):
            threads.add(torch.get_num_threads())
            return call(*args, **kwargs)

        monkeypatch.setattr(kind, method, watched)
        return threads

    for_features, for_the_model = watch(type(lm.engine.family), "model_inputs"), watch(torch.nn.Embedding, "forward")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        lm.generate_until([ask("<audio>Which?", voice(1.0), max_gen_toks=4)])
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 2
        assert (for_features, for_the_model) == ({1}, {2})
    finally:
        torch.set_num_threads(before)


def test_a_run_that_ends_early_leaves_the_number_of_threads_as_it_was(lm, voice, monkeypatch):
    read, before = lm.engine._read, torch.get_num_threads()
    monkeypatch.setattr(lm.engine, "_read", lambda jobs: (time.sleep(0.02), read(jobs))[1])
    jobs = [Job("<audio>Which?", (AudioSpan(voice(0.5, n)),)) for n in range(8)]
    try:
        torch.set_num_threads(2)
        running = lm.engine._inputs(jobs)
        next(running)
        running.close()
        time.sleep(0.1)
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


def test_data_parallel_padding_repeats_the_last_answer_and_generates_nothing(lm, ask, voice):
    request = ask("<audio>Which?", voice(1.0), repeats=3, **SAMPLED)
    plain = lm.generate_until([request] * 3)
    tokens = lm.get_model_info()["ambi"]["generated_tokens"]
    padded = lm.generate_until([request] * 9)
    assert padded == [*plain, *[plain[2]] * 6]
    assert [answer.number for answer in padded] == [0, 1, *[2] * 7]
    assert lm.get_model_info()["ambi"]["generated_tokens"] == 2 * tokens


def test_a_greedy_pool_is_one_answer_repeated(lm, ask, voice):
    answers = lm.generate_until([ask("<audio>Which?", voice(1.0), repeats=3, max_gen_toks=8)] * 3)
    assert len(set(answers)) == 1
    assert [answer.number for answer in answers] == [0, 0, 0], "there is one answer, and every clone gets it"
    assert lm.get_model_info()["ambi"]["generated_tokens"] == answers[0].n_tokens


def test_a_sample_is_a_function_of_seed_model_prompt_audio_settings_and_number(load, ask, voice, tmp_path):
    def answers(lm, context="<audio>Which?", seconds=1.0, seed=0, repeats=4, **settings):
        request = ask(context, voice(seconds, seed), repeats=repeats, **{**SAMPLED, **settings})
        return lm.generate_until([request] * repeats)

    lm = load()
    usual = answers(lm)
    assert answers(load(batch_size=3)) == usual
    assert answers(lm, repeats=2) == usual[:2]
    shorter = answers(lm, max_gen_toks=4, until=["never"])
    assert all(long.startswith(short) or "\ufffd" in short for long, short in zip(usual, shorter, strict=True))
    elsewhere = tmp_path / "elsewhere.wav"
    shutil.copy(voice(1.0), elsewhere)
    assert lm.generate_until([ask("<audio>Which?", str(elsewhere), repeats=4, **SAMPLED)] * 4) == usual
    others = [answers(load(seed=8)), answers(lm, context="<audio>Whose?"), answers(lm, seed=1), answers(lm, top_k=399)]
    assert all(set(other).isdisjoint(usual) for other in others)


def test_likelihoods_come_back_in_the_order_of_the_requests(lm, ask, voice):
    requests = [
        ask(f"<audio>{context}", voice(1.0, n), continuation=label, end_of_turn=ends)
        for label in ("happy", "sad", "angry and sad")
        for n, context in ((0, "Which?"), (1, "Which?"), (0, "Whose?"))
        for ends in (False, True)
    ]
    together = lm.loglikelihood(requests)
    alone = [lm.loglikelihood([request])[0] for request in requests]
    assert [score for score, _ in together] == pytest.approx([score for score, _ in alone], abs=1e-4)
    assert [is_greedy for _, is_greedy in together] == [is_greedy for _, is_greedy in alone]
    assert all(ended < open_ for (open_, _), (ended, _) in zip(together[::2], together[1::2], strict=True))


def test_the_likelihood_of_a_greedy_answer_is_its_own(lm, ask, voice):
    answers = lm.generate_until([ask("<audio>Which?", voice(1.0, n), max_gen_toks=1) for n in range(8)])
    readable = [n for n, answer in enumerate(answers) if answer.isascii()]  # half a character is no text
    assert readable
    for n in readable:
        ((logprob, is_greedy),) = lm.loglikelihood([ask("<audio>Which?", voice(1.0, n), continuation=str(answers[n]))])
        assert is_greedy
        assert logprob == pytest.approx(answers[n].logprob, abs=1e-4)


def test_a_prompt_without_audio_is_answered(lm, ask):
    lm.generate_until([ask("Which?", max_gen_toks=4)])
    lm.loglikelihood([ask("Which?", continuation="happy")])
    info = lm.get_model_info()["ambi"]
    assert (info["encodes"], info["prefills"]) == (0, 2)


def first_logits(lm, request):
    """Return the logits of the first answer token."""
    seen = []
    handle = lm.engine.family.model.register_forward_hook(lambda model, args, output: seen.append(output.logits[0, -1]))
    lm.generate_until([request])
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("control", ["silence", "noise"])
def test_a_control_is_heard_instead_of_the_clip(lm, ask, voice, tmp_path, control):
    request = ask("<audio>Which?", voice(1.0), max_gen_toks=1)
    heard = first_logits(lm, request)
    request.arguments[2]["audio"][0]["control"] = control
    controlled = first_logits(lm, request)
    assert (heard - controlled).abs().max() > 1e-3
    soundfile.write(
        tmp_path / "control.wav", load_audio(AudioSpan(voice(1.0), control=control), 16000), 16000, subtype="FLOAT"
    )
    as_file = first_logits(lm, ask("<audio>Which?", str(tmp_path / "control.wav"), max_gen_toks=1))
    torch.testing.assert_close(controlled, as_file)


def test_files_with_samples_beyond_full_scale_are_counted(lm, ask, voice, tmp_path):
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, 4 * soundfile.read(voice(1.0))[0], 16000, subtype="FLOAT")
    lm.generate_until([ask("<audio>Which?", voice(1.0), max_gen_toks=2)])
    before = lm.get_model_info()["ambi"]["clipped_audio"]
    lm.generate_until([ask("<audio>Which?", str(loud), max_gen_toks=2)])
    assert lm.get_model_info()["ambi"]["clipped_audio"] == before + 1


def test_audio_beyond_the_window_is_cut_counted_and_said_once(lm, ask, voice, caplog, tmp_path):
    soundfile.write(tmp_path / "cut.wav", soundfile.read(voice(31.0))[0][: 30 * 16000], 16000)
    short = lm.generate_until([ask("<audio>Which?", str(tmp_path / "cut.wav"), max_gen_toks=8)])
    assert not caplog.records
    longer = tmp_path / "longer.wav"
    soundfile.write(longer, np.pad(soundfile.read(voice(31.0))[0], (0, 16000)), 16000)
    long = lm.generate_until([ask("<audio>Which?", path, max_gen_toks=8) for path in (voice(31.0), str(longer))])
    assert long == short * 2
    assert lm.get_model_info()["ambi"]["truncated_audio"] == 2
    (record,) = caplog.records
    assert " s of audio, of which" in record.message
    assert "hears 30 s; the rest is cut off" in record.message


def test_audio_beyond_the_window_is_refused_if_asked(load, ask, voice):
    with pytest.raises(AmbiError, match=r"31\.0_0\.wav: 31.0 s of audio, of which .* hears 30 s; give long_audio=cut"):
        load(long_audio="refuse").generate_until([ask("<audio>Which?", voice(31.0), max_gen_toks=8)])


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"temprature": 1.0}, "unknown key 'temprature', did you mean 'temperature'"),
        ({"num_return_sequences": 3}, "give the size of a pool as `repeats`"),
        ({"num_beams": 2}, "task: 3 repeats of 2 beams; give num_beams of at least repeats"),
    ],
)
def test_an_impossible_request_is_refused_before_anything_is_generated(lm, ask, voice, kwargs, sentence):
    good = ask("<audio>Which?", voice(1.0), max_gen_toks=4)
    bad = ask("<audio>Which?", voice(1.0), repeats=3, **kwargs)
    with pytest.raises(AmbiError, match=sentence):
        lm.generate_until(clones(good, bad))
    assert not lm.engine.scheduler.counts


def test_a_file_that_cannot_be_decoded_is_said(lm, ask, tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(AmbiError, match=r"text\.wav: cannot be decoded"):
        lm.generate_until([ask("<audio>Which?", str(tmp_path / "text.wav"))])


def test_a_label_without_tokens_is_refused(lm, ask, voice):
    with pytest.raises(AmbiError, match="task: the continuation '' has no tokens"):
        lm.loglikelihood([ask("<audio>Which?", voice(1.0), continuation="")])


def test_max_length_stands_in_for_what_the_model_was_built_for(load, ask, voice):
    with pytest.raises(AmbiError, match="more than the 60 positions"):
        load(max_length=60).generate_until([ask("<audio>Which?", voice(3.0), max_gen_toks=4)])


def test_perplexity_is_refused(lm):
    with pytest.raises(AmbiError, match="use --model hf for such tasks"):
        lm.loglikelihood_rolling([])


def test_the_chat_template_is_applied_once_with_the_flag_or_without(lm, ask, voice):
    context = lm.apply_chat_template([{"role": "user", "content": "<audio>Which?"}])
    assert context == "<audio>Which?"
    assert "<|im_start|>" in lm.chat_template()
    assert lm.chat_template(True) == lm.chat_template()
    assert "/" not in lm.tokenizer_name


def test_a_system_message_reaches_the_model(lm, ask, voice):
    context = lm.apply_chat_template(
        [{"role": "system", "content": "Answer sadly."}, {"role": "user", "content": "<audio>Which?"}]
    )
    (plain, with_system) = (first_logits(lm, ask(text, voice(1.0))) for text in ("<audio>Which?", context))
    assert (plain - with_system).abs().max() > 1e-3


@pytest.mark.parametrize(
    "call",
    [
        lambda lm: lm.apply_chat_template([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]),
        lambda lm: lm.chat_template("rag"),
    ],
)
def test_another_conversation_or_template_is_refused(lm, call):
    with pytest.raises(AmbiError, match=r"takes one question|has one chat template"):
        call(lm)


def test_the_results_say_which_model_ran_and_how(lm):
    info = lm.get_model_info()["ambi"]
    assert {key: info[key] for key in ("seed", "dtype", "device", "model_type", "attn_implementation")} == {
        "seed": 7,
        "dtype": "float32",
        "device": "cpu",
        "model_type": "qwen2_audio",
        "attn_implementation": "sdpa",
    }
    assert info["suppressed_tokens"] == [3]
    assert info["model_digest"] == lm.engine.digest
    assert set(info["versions"]) == {"ambi-eval", "torch", "transformers"}


@pytest.mark.parametrize("disabled", [False, True])
def test_progress_is_shown_unless_it_is_not_wanted(lm, ask, voice, capsys, disabled):
    lm.generate_until([ask("<audio>Which?", voice(1.0), repeats=2, **SAMPLED)] * 2, disable_tqdm=disabled)
    shown = capsys.readouterr().err
    assert ("2/2" in shown) is not disabled


def test_one_process_gathers_what_it_has(lm):
    assert lm.all_gather(torch.tensor([1])).tolist() == [1]
    assert lm.gather_object({"a": 1}) == [{"a": 1}]
    lm.barrier()


def test_stereo_at_another_rate_is_heard_as_its_mono_mix(lm, ask, tmp_path):
    rng = np.random.default_rng(0)
    stereo = rng.uniform(-0.5, 0.5, (44100, 2)).astype(np.float32)
    soundfile.write(tmp_path / "stereo.wav", stereo, 44100, subtype="FLOAT")
    soundfile.write(tmp_path / "mono.wav", stereo.mean(axis=1), 44100, subtype="FLOAT")
    heard = [first_logits(lm, ask("<audio>Which?", str(tmp_path / name))) for name in ("stereo.wav", "mono.wav")]
    torch.testing.assert_close(*heard)


WORKER = """
import json, sys
from lm_eval.api.instance import Instance
from ambi_eval.models.hf_audio import HFAudio

checkpoint, *paths = sys.argv[1:]
lm = HFAudio(checkpoint, device="cpu", seed=7, store="none")
kwargs = {"do_sample": True, "max_gen_toks": 8}
shares = []
for path in paths[lm.rank :: lm.world_size]:
    request = Instance("generate_until", {}, ("<audio>Which?", kwargs, {"audio": [{"path": path}]}), 0, ("task", 0, 3))
    shares.append([path, list(map(str, lm.generate_until([request] * 3)))])
lm.barrier()
gathered = lm.gather_object(shares)
if lm.rank == 0:
    print(json.dumps({"answers": dict(sum(gathered, [])), "info": lm.get_model_info()["ambi"]}))
"""


@pytest.mark.slow
def test_two_processes_give_the_answers_of_one_and_add_up_what_they_computed(
    lm, ask, voice, qwen2_audio_checkpoint, tmp_path
):
    paths = [voice(1.0, n) for n in range(4)]
    (tmp_path / "worker.py").write_text(WORKER)
    processes = as_torchrun_starts(tmp_path / "worker.py", qwen2_audio_checkpoint, *paths)
    printed = [process.output() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], processes[0].error
    two = json.loads(printed[0])
    one = lm.generate_until(clones(*(ask("<audio>Which?", path, repeats=3, **SAMPLED) for path in paths)))
    assert two["answers"] == {path: one[3 * n : 3 * n + 3] for n, path in enumerate(paths)}
    assert two["info"] == lm.get_model_info()["ambi"]


def test_a_model_whose_flops_cannot_be_counted_says_so_and_has_none(lm, monkeypatch, caplog, tmp_path):
    def fails(*_):
        raise RuntimeError("values are asked for")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shapes, "forward_flops", fails)
    assert lm.engine.info()["flops"] is None
    assert "are not counted: values are asked for" in caplog.text
