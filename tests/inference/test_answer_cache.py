"""What is stored is not made again, and nothing stored is ever taken for something else."""

import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing

import pytest
import soundfile
from peft import LoraConfig, get_peft_model
from support.processes import Script

from ambi_eval.errors import AmbiError
from ambi_eval.inference.answer_cache import AnswerCache
from ambi_eval.inference.store import merge
from ambi_eval.models.hf_audio import HFAudio

SAMPLED = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 6}


@pytest.fixture
def load(qwen2_audio_checkpoint, tmp_path):
    given = {"pretrained": str(qwen2_audio_checkpoint), "device": "cpu", "seed": 7, "store": str(tmp_path / "store")}
    return lambda **options: HFAudio(**{**given, **options})


def clones(*requests):
    return [request for request in requests for _ in range(request.repeats)]


def work(lm):
    info = lm.get_model_info()["ambi"]
    return info["generated_tokens"], info["encodes"], info["store_hits"]


@pytest.mark.parametrize(
    "options", [{"repeats": 4, **SAMPLED}, {"max_gen_toks": 6}, {"repeats": 3, "num_beams": 3, "max_gen_toks": 6}]
)
def test_a_second_run_makes_nothing_and_says_the_same(load, ask, voice, options):
    request = ask("<audio>Which?", voice(1.0), **options)
    first, second = load(), load()
    answers = first.generate_until(clones(request))
    again = second.generate_until(clones(request))
    assert [(str(a), a.logprob, a.n_tokens, a.finish, a.number) for a in answers] == [
        (str(a), a.logprob, a.n_tokens, a.finish, a.number) for a in again
    ]
    assert work(first)[0] > 0
    assert work(second)[:2] == (0, 0)
    assert work(second)[2] == options.get("repeats", 1)


def test_a_larger_pool_only_draws_what_is_missing(load, ask, voice):
    def draw(lm, repeats):
        return lm.generate_until(clones(ask("<audio>Which?", voice(1.0), repeats=repeats, **SAMPLED)))

    five = draw(load(), 5)
    grown = load()
    eight = draw(grown, 8)
    assert eight[:5] == five
    assert work(grown)[2] == 5
    assert draw(load(store="none"), 8) == eight


def test_tasks_that_ask_for_the_same_pool_share_it_in_one_run(load, ask, voice):
    lm, path = load(store="none"), voice(1.0)
    requests = [ask("<audio>Which?", path, repeats=repeats, **SAMPLED) for repeats in (3, 5)]
    answers = lm.generate_until(clones(*requests))
    assert answers[:3] == answers[3:6]
    assert work(lm)[1] == 1


RULE = {"confidence": 0.9, "round": 3, "labels": ["a", "e"], "synonyms": {}}


def test_an_adaptive_pool_is_the_beginning_of_the_full_one_and_shares_its_key(load, ask, voice):
    def draw(lm, rule):
        requests = [ask("<audio>Which?", voice(1.0, n), repeats=12, **SAMPLED) for n in range(3)]
        for request in requests:
            request.arguments = (*request.args[:2], {**request.args[2], **({"stop_rule": rule} if rule else {})})
        answers = lm.generate_until(clones(*requests))
        return [answers[n : n + 12] for n in (0, 12, 24)]

    full = draw(load(store="none"), None)
    settled = draw(load(), {**RULE, "confidence": 0.5})
    never = draw(load(store="none"), {**RULE, "confidence": 0.9999999})
    assert never == full
    for some, every in zip(settled, full, strict=True):
        assert some[:3] == every[:3]
        assert [each.finish for each in some[3:]] == ["not_drawn"] * 9
        assert [each.number for each in some] == list(range(12))
    later = load()
    assert draw(later, None) == full
    assert work(later)[2] == 9, "the nine that the adaptive run drew"
    again = load()
    assert draw(again, {**RULE, "confidence": 0.5}) == settled
    assert work(again)[0] == 0


def test_prompts_about_one_clip_encode_it_once_and_answer_as_if_alone(load, ask, voice):
    paths, words = [voice(1.0, 0), voice(2.0, 1)], ["Which emotion?", "Which emotion is it?", "Happy or sad?"]
    lm = load(store="none")
    requests = [ask(f"<audio>{text}", path, max_gen_toks=6) for text in words for path in paths]
    together = lm.generate_until(requests)
    assert work(lm)[1] == len(paths)
    assert together == [load(store="none").generate_until([request])[0] for request in requests]


def test_likelihoods_are_stored_too(load, ask, voice):
    def score(lm, *labels):
        return lm.loglikelihood([ask("<audio>Which?", voice(1.0), continuation=label) for label in labels])

    first = score(load(), "happy", "sad")
    second = load()
    assert score(second, "sad", "happy") == first[::-1]
    assert work(second)[1] == 0
    assert score(second, "sad", "angry")[0] == pytest.approx(first[1], abs=1e-5)


CHANGES = {
    "prompt": {"context": "<audio>Which one?"},
    "system message": {"context": "<system>Be brief.</system>\n<audio>Which?"},
    "seed": {"seed": 8},
    "dtype": {"dtype": "bfloat16"},
    "greedy": {"do_sample": False},
    "temperature": {"temperature": 0.9},
    "top_p": {"top_p": 0.9},
    "top_k": {"top_k": 5},
    "max tokens": {"max_gen_toks": 5},
    "stop": {"until": ["x"]},
    "end of thinking": {"think_end_token": "x"},
}
OF_THE_MODEL = ("seed", "dtype", "think_end_token")


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_setting_never_meets_an_old_answer(load, ask, voice, change):
    path = voice(1.0)
    load().generate_until(clones(ask("<audio>Which?", path, repeats=2, **SAMPLED)))
    lm = load(**{key: value for key, value in change.items() if key in OF_THE_MODEL})
    kwargs = {**SAMPLED, **{key: value for key, value in change.items() if key not in (*OF_THE_MODEL, "context")}}
    lm.generate_until(clones(ask(change.get("context", "<audio>Which?"), path, repeats=2, **kwargs)))
    assert work(lm)[2] == 0


def test_another_budget_of_thinking_never_meets_an_old_answer(load, ask, voice):
    def hits(tokens):
        lm = load(think_end_token="x")
        lm.generate_until(clones(ask("<audio>Which?", voice(1.0), max_thinking_toks=tokens, max_gen_toks=4)))
        return work(lm)[2]

    assert [hits(tokens) for tokens in (4, 5, 4, 0)] == [0, 0, 1, 0]


@pytest.mark.parametrize("heard", [{"start": 0.1}, {"end": 0.9}, {"control": "silence"}, {"control": "noise"}], ids=str)
@pytest.mark.parametrize("kind", ["answers", "likelihoods"])
def test_another_span_or_control_never_meets_an_old_answer(load, ask, voice, heard, kind):
    def hits(**change):
        options = {"continuation": "happy"} if kind == "likelihoods" else {"max_gen_toks": 4}
        request, lm = ask("<audio>Which?", voice(1.0), **options), load()
        request.args[2]["audio"][0].update(change)
        (lm.loglikelihood if kind == "likelihoods" else lm.generate_until)([request])
        return work(lm)[2]

    assert [hits(), hits(**heard), hits()] == [0, 0, 1]


def append(file, text):
    file.write_text(file.read_text() + text)


def change_weights(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


CHANGED_FILES = {
    "model.safetensors": change_weights,
    "config.json": lambda file: append(file, "\n"),
    "chat_template.jinja": lambda file: append(file, "Well:"),
    "processor_config.json": lambda file: append(file, "\n"),
    "tokenizer.json": lambda file: append(file, "\n"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGED_FILES)
def test_a_changed_file_of_the_checkpoint_never_meets_an_old_answer_and_its_place_does_not_matter(
    load, ask, voice, qwen2_audio_checkpoint, tmp_path, name
):
    def hits(folder):
        lm = load(pretrained=str(folder))
        lm.generate_until([ask("<audio>Which?", voice(1.0), max_gen_toks=4)])
        return work(lm)[2]

    assert hits(qwen2_audio_checkpoint) == 0
    copy = shutil.copytree(qwen2_audio_checkpoint, tmp_path / "copy")
    assert hits(copy) == 1
    CHANGED_FILES[name](copy / name)
    assert hits(copy) == 0


def test_another_revision_never_meets_an_old_answer(load, ask, voice, qwen2_audio_checkpoint, tmp_path, monkeypatch):
    repository = tmp_path / "hub" / "models--me--tiny"
    (repository / "refs").mkdir(parents=True)
    for revision, commit in {"main": "0" * 40, "next": "1" * 40}.items():
        (repository / "refs" / revision).write_text(commit)
        shutil.copytree(qwen2_audio_checkpoint, repository / "snapshots" / commit)
    change_weights(repository / "snapshots" / ("1" * 40) / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = []
    for revision in ("main", "next", "main"):
        lm = load(pretrained="me/tiny", revision=revision)
        lm.generate_until([ask("<audio>Which?", voice(1.0), max_gen_toks=4)])
        found.append(work(lm)[2])
    assert found == [0, 0, 1]


def test_an_adapter_never_meets_an_answer_without_it(load, ask, voice, tmp_path):
    bare = load()
    lora = LoraConfig(target_modules=["q_proj"], r=2, init_lora_weights=False)
    get_peft_model(bare.engine.family.model, lora).save_pretrained(tmp_path / "adapter")
    found = []
    for options in ({}, {"peft": str(tmp_path / "adapter")}, {"peft": str(tmp_path / "adapter")}):
        lm = load(**options)
        lm.generate_until([ask("<audio>Which?", voice(1.0), max_gen_toks=4)])
        found.append(work(lm)[2])
    assert found == [0, 0, 1]


def test_a_run_from_the_store_counts_its_cut_audio_as_the_first_one_did(load, ask, voice, caplog):
    requests = [ask("<audio>Which?", voice(31.0, n), max_gen_toks=2) for n in (0, 0, 1)]
    for _ in range(2):
        caplog.clear()
        lm = load()
        lm.generate_until(requests)
        lm.loglikelihood([ask("<audio>Which?", voice(31.0), continuation="happy", end_of_turn=True)])
        assert lm.get_model_info()["ambi"]["truncated_audio"] == 2
        assert [" hears 30 s; the rest is cut off" in record.message for record in caplog.records] == [True]


def test_prompts_of_stored_answers_have_the_length_that_new_ones_had(load, ask, voice, tmp_path):
    def lengths(lm, *seconds):
        heard = [voice(each) for each in seconds]
        lm.generate_until([ask("<audio>Which?", each, max_gen_toks=2) for each in heard])
        generated = lm.get_model_info()["ambi"]["prompt_tokens_by_task"]
        lm.loglikelihood([ask("<audio>Which?", each, continuation="happy", end_of_turn=True) for each in heard])
        return generated, lm.get_model_info()["ambi"]["prompt_tokens_by_task"]

    short, long, both = (lengths(load(store="none"), *seconds) for seconds in ((1.0,), (3.0,), (1.0, 3.0)))
    ((task, tokens),) = both[0].items()
    assert tokens == (short[0][task] + long[0][task]) / 2 > short[0][task]
    assert lengths(load(), 1.0) == short
    assert lengths(load(), 1.0, 3.0) == both
    assert lengths(load(), 1.0, 3.0) == both, "nothing was asked"
    merge([tmp_path / "store"], tmp_path / "merged")
    assert lengths(load(store=str(tmp_path / "merged")), 1.0, 3.0) == both
    with closing(sqlite3.connect(tmp_path / "store")) as old:  # as an older version left it
        old.execute("DROP TABLE prompts")
    lm = load()
    lm.generate_until([ask("<audio>Which?", voice(1.0), max_gen_toks=2)])
    assert "prompt_tokens_by_task" not in lm.get_model_info()["ambi"]


def test_a_kill_leaves_no_answers_without_the_length_of_their_prompt(load, ask, voice, monkeypatch):
    def killed_after(keep):
        def kept(*arguments):
            keep(*arguments)
            raise KeyboardInterrupt

        return kept

    monkeypatch.setattr(AnswerCache, "keep_answers", killed_after(AnswerCache.keep_answers))
    monkeypatch.setattr(AnswerCache, "keep_likelihoods", killed_after(AnswerCache.keep_likelihoods))
    lm = load()
    with pytest.raises(KeyboardInterrupt):
        lm.generate_until([ask("<audio>Which?", voice(1.0), max_gen_toks=2)])
    with pytest.raises(KeyboardInterrupt):
        lm.loglikelihood([ask("<audio>Which?", voice(1.0), continuation="happy", end_of_turn=True)])
    assert len(lm.cache.store.prompt_tokens(set.union(*lm.cache.pools_of.values()))) == 2


def test_a_continued_run_tells_of_another_set_up_and_counts_all_stored_answers(load, ask, voice, caplog):
    one, other = (ask("<audio>Which?", voice(1.0, n), max_gen_toks=2) for n in range(2))
    likely = ask("<audio>Which?", voice(1.0), continuation="happy", end_of_turn=True)
    lm = load()
    lm.generate_until([one])
    lm.loglikelihood([likely])
    assert not caplog.records
    lm = load(attn_implementation="eager")
    lm.generate_until([one, other])
    lm.loglikelihood([likely])
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "the answers come from 2 different set-ups"
    ]
    info = lm.get_model_info()["ambi"]
    assert list(info["stored_answers_from"].values()) == [2]
    assert ["eager" in set_up for set_up in info["set_ups"]] == [False, True]


@pytest.mark.parametrize("beams", [2, 4])
def test_a_beam_set_of_another_size_is_another_pool(load, ask, voice, beams):
    load().generate_until(clones(ask("<audio>Which?", voice(1.0), repeats=3, num_beams=3, max_gen_toks=4)))
    lm = load()
    lm.generate_until(clones(ask("<audio>Which?", voice(1.0), repeats=beams, num_beams=beams, max_gen_toks=4)))
    assert work(lm)[2] == 0


@pytest.mark.parametrize(
    "setup", [{"batch_size": 3}, {"attn_implementation": "eager"}, {"long_audio": "refuse"}], ids=str
)
def test_how_a_model_runs_does_not_matter(load, ask, voice, setup):
    requests = [ask("<audio>Which?", voice(1.0, n), repeats=2, **SAMPLED) for n in range(3)]
    answers = load().generate_until(clones(*requests))
    lm = load(**setup)
    assert lm.generate_until(clones(*requests[::-1]))[::-1] == [answers[n] for n in (1, 0, 3, 2, 5, 4)]
    assert work(lm)[2] == 6


def test_the_same_audio_under_another_path_is_the_same_audio(load, ask, voice, tmp_path):
    path = shutil.copy(voice(1.0), tmp_path / "other.wav")
    load().generate_until([ask("<audio>Which?", voice(1.0), max_gen_toks=4)])
    lm = load()
    lm.generate_until([ask("<audio>Which?", str(path), max_gen_toks=4)])
    assert work(lm)[2] == 1


def test_a_changed_audio_file_never_meets_an_old_answer(load, ask, voice, tmp_path):
    path = tmp_path / "clip.wav"
    for n in range(2):
        samples, rate = soundfile.read(voice(1.0, n))
        soundfile.write(path, samples, rate)
        os.utime(path, ns=(n, n))
        lm = load()
        lm.generate_until([ask("<audio>Which?", str(path), max_gen_toks=4)])
        assert work(lm)[2] == 0


def test_a_seed_means_nothing_to_greedy_answers_and_beams(load, ask, voice):
    requests = [
        ask("<audio>Which?", voice(1.0), max_gen_toks=4),
        ask("<audio>Which?", voice(1.0), repeats=2, num_beams=2, max_gen_toks=4),
    ]
    load(seed=1).generate_until(clones(*requests))
    other = load(seed=2)
    other.generate_until(clones(*requests))
    assert work(other)[0] == 0


def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(load, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("not a store")
    with pytest.raises(AmbiError, match=r"notes\.txt.*store=none"):
        load(store=str(file))
    assert file.read_text() == "not a store"


RUN = """
import sys
from lm_eval.api.instance import Instance
from ambi_eval.models.hf_audio import HFAudio

checkpoint, store, *paths = sys.argv[1:]
lm = HFAudio(checkpoint, device="cpu", seed=7, store=store)
kwargs = {"do_sample": True, "max_gen_toks": 64}
requests = [Instance("generate_until", {}, ("<audio>Which?", kwargs, {"audio": [{"path": path}]}), 0, ("task", n, 3))
            for n, path in enumerate(paths)]
print(list(map(str, lm.generate_until([request for request in requests for _ in range(3)]))))
print(lm.get_model_info()["ambi"]["store_hits"])
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_where_it_stood_and_ends_as_an_unbroken_one(
    load, voice, qwen2_audio_checkpoint, tmp_path
):
    (tmp_path / "run.py").write_text(RUN)
    paths = [voice(1.0, n) for n in range(12)]

    def start(store):
        return Script(tmp_path / "run.py", qwen2_audio_checkpoint, store, *paths)

    unbroken, hits = start(tmp_path / "other").output().strip().splitlines()
    assert hits == "0"
    killed = start(tmp_path / "broken")
    wal = tmp_path / "broken-wal"
    while killed.returncode is None and not (wal.exists() and wal.stat().st_size > 20_000):
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    resumed, hits = start(tmp_path / "broken").output().strip().splitlines()
    assert 0 < int(hits) < 36, "killed in the middle"
    assert resumed == unbroken
