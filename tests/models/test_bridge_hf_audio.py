"""`hf-audio` over HTTP against `hf-audio` itself: what is asked through the bridge must be the very same."""

from __future__ import annotations

import base64
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from support.processes import Script
from typer.testing import CliRunner

from ambi_eval.audio import AudioSpan, audio_digest
from ambi_eval.cli import app
from ambi_eval.models.audio_lm import open_engine
from ambi_eval.models.bridge import Bridge, read_chat
from ambi_eval.models.bridge_hf_audio import BridgedEngine
from ambi_eval.models.hf_audio import HFAudio

QUESTION = "Which emotion does the speaker express?"
SAMPLED = {"temperature": 0.8, "top_p": 0.95, "top_k": 40, "until": ["a"], "max_gen_toks": 8}
# The same in the words of the chat API.
DRAWN = {"temperature": 0.8, "top_p": 0.95, "max_tokens": 8, "stop": ["a"]}


@pytest.fixture(scope="module")
def local(qwen2_audio_checkpoint):
    return HFAudio(str(qwen2_audio_checkpoint), device="cpu", seed=7, store="none")


@pytest.fixture(scope="module")
def bridged(qwen2_audio_checkpoint):
    return BridgedEngine(open_engine("hf-audio", f"pretrained={qwen2_audio_checkpoint},device=cpu,batch_size=4"))


@pytest.fixture(scope="module")
def bridge(bridged):
    with Bridge(bridged, port=0) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def ask_bridge(bridge, bridged):
    """Ask one question about one audio with the official client."""
    client = openai.OpenAI(base_url=bridge.url, api_key="none", max_retries=0)

    def request(path, *, text=QUESTION, system=None, extra=None, **options):
        before = [{"role": "system", "content": system}] if system else []
        messages = [*before, {"role": "user", "content": [part(path), {"type": "text", "text": text}]}]
        return client.chat.completions.create(model=bridged.served_name, messages=messages, extra_body=extra, **options)

    return request


def part(path):
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def told(choices):
    return [(c.message.content, c.ambi_logprob, c.ambi_n_tokens, c.finish_reason) for c in choices]


def known(candidates):
    return [(str(c), pytest.approx(c.logprob, abs=1e-4), c.n_tokens, c.finish) for c in candidates]


def clones(request):
    return [request] * request.repeats


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3, 4, 5], [5, 0, 3], [4]])
def test_the_samples_asked_for_by_number_are_those_that_hf_audio_draws(local, ask_bridge, ask, voice, numbers):
    path = voice(1.0, 1)
    pool = local.generate_until(clones(ask(f"<audio>{QUESTION}", path, repeats=6, **SAMPLED)), disable_tqdm=True)
    assert len(set(pool)) > 1
    extra = {
        "ambi_samples": numbers,
        "ambi_seed": 7,
        "ambi_audio_digests": [audio_digest(AudioSpan(path))],
        "top_k": 40,
    }
    answer = ask_bridge(path, n=len(numbers), seed=99, extra=extra, **DRAWN)
    assert told(answer.choices) == known([pool[number] for number in numbers])
    made = sum(candidate.n_tokens for candidate in (pool[number] for number in numbers))
    assert (answer.usage.completion_tokens, answer.usage.prompt_tokens > 25) == (made, True)
    assert answer.system_fingerprint == local.engine.digest[:16]


def test_greedy_answers_and_a_system_message_are_those_of_hf_audio(local, ask_bridge, ask, voice):
    path = voice(0.7, 2)
    context = local.apply_chat_template(
        [{"role": "system", "content": "You are a listener."}, {"role": "user", "content": f"<audio>{QUESTION}"}]
    )
    (greedy,) = local.generate_until([ask(context, path, max_gen_toks=8)], disable_tqdm=True)
    choices = ask_bridge(path, system="You are a listener.", n=2, temperature=0, max_completion_tokens=8).choices
    assert told(choices) == known([greedy, greedy])


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_beams_are_those_of_hf_audio(local, ask_bridge, ask, voice, length_penalty):
    path = voice(0.7, 3)
    wanted = {"num_beams": 4, "length_penalty": length_penalty, "max_gen_toks": 6}
    beams = local.generate_until(clones(ask(f"<audio>{QUESTION}", path, repeats=3, **wanted)), disable_tqdm=True)
    extra = {"ambi_beams": 4, "length_penalty": length_penalty}
    answer = ask_bridge(path, n=3, max_tokens=6, extra=extra)
    assert told(answer.choices) == known(beams)
    assert answer.ambi_beams == 4


def test_likelihoods_are_those_of_hf_audio(local, ask_bridge, ask, voice):
    path, labels = voice(0.7, 4), ["happy", "sad", "the speaker"]
    requests = [ask(f"<audio>{QUESTION}", path, continuation=label, end_of_turn=True) for label in labels]
    expected = local.loglikelihood(requests, disable_tqdm=True)
    answer = ask_bridge(path, extra={"ambi_continuations": labels})
    assert answer.choices == []
    assert [(pytest.approx(logprob, abs=1e-4), greedy) for logprob, greedy in expected] == [
        tuple(each) for each in answer.ambi_loglikelihoods
    ]


def test_without_audio_it_answers_the_text(bridge, bridged, local, ask):
    (greedy,) = local.generate_until([ask(QUESTION, max_gen_toks=4)], disable_tqdm=True)
    client = openai.OpenAI(base_url=bridge.url, api_key="none")
    messages = [{"role": "user", "content": QUESTION}]
    options = {"temperature": 0, "max_tokens": 4, "extra_body": {"ambi_audio_digests": []}}
    answer = client.chat.completions.create(model=bridged.served_name, messages=messages, **options)
    assert told(answer.choices) == known([greedy])


def test_a_seed_repeats_the_samples_and_no_seed_does_not(ask_bridge, voice):
    def texts(**options):
        answers = [ask_bridge(voice(1.0, 1), n=6, max_tokens=8, **options) for _ in range(2)]
        return [[choice.message.content for choice in answer.choices] for answer in answers]

    first, second = texts(seed=5)
    assert first == second
    assert len(set(first)) > 1
    first, second = texts()
    assert first != second


def test_requests_that_are_decoded_together_get_what_they_get_alone(bridged, bridge, ask_bridge, voice):
    asked = [
        {"path": voice(0.3 + 0.2 * number, number), "seed": number, "n": 3, "max_tokens": 8} for number in range(6)
    ]
    asked += [
        {"path": voice(0.3, 0), "temperature": 0},
        {"path": voice(0.3, 0), "extra": {"ambi_continuations": ["sad"]}},
    ]
    alone = [ask_bridge(**each) for each in asked]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda each: ask_bridge(**each), asked))
    for one, other in zip(alone, together, strict=True):
        assert [choice.message.content for choice in one.choices] == [
            choice.message.content for choice in other.choices
        ]


def test_questions_about_one_audio_that_wait_together_encode_it_once(bridged, voice, tmp_path):
    bodies = [
        {
            "messages": [{"role": "user", "content": [part(voice(0.9, 5)), {"type": "text", "text": text}]}],
            "max_tokens": 2,
        }
        for text in ("One?", "Two?", "Three?")
    ]
    chats = [read_chat(body, tmp_path) for body in bodies]
    for audio in (audio for chat in chats for audio in chat.audios):
        audio.path.write_bytes(audio.content)
    before = bridged.engine.scheduler.counts["encodes"]
    assert {chat for chat, _ in bridged.answer(chats)} == set(chats)
    assert bridged.engine.scheduler.counts["encodes"] == before + 1


def test_a_bridge_counts_cut_audio_and_keeps_nothing_of_earlier_requests(bridged, ask_bridge, voice, caplog):
    before = bridged.engine.cut_audio
    for path in (voice(31.0), voice(1.0), voice(31.0), voice(32.0)):
        ask_bridge(path, temperature=0, max_tokens=2)
    assert (bridged.engine.cut_audio - before, bridged.engine.is_cut) == (3, {})
    assert sum("the rest is cut off" in record.message for record in caplog.records) == (not before)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"text": "<audio> again"}, "the text holds <audio>, which marks the place of an audio"),
        ({"system": "<audio>"}, "the text holds <audio>"),
        ({"max_tokens": 5000}, "more than the 2048 positions of the model"),
    ],
)
def test_what_the_model_cannot_do_is_refused(ask_bridge, voice, options, sentence):
    with pytest.raises(openai.BadRequestError, match=sentence):
        ask_bridge(voice(0.3, 0), **options)


def test_audio_that_cannot_be_decoded_is_refused_without_a_path_of_the_server(bridge, ask_bridge, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFFnonsense")
    with pytest.raises(openai.BadRequestError, match="400 - the audio: cannot be decoded") as refused:
        ask_bridge(tmp_path / "broken.wav")
    assert bridge.folder.name not in str(refused.value)


def test_a_checkpoint_in_a_folder_is_served_under_the_name_of_the_folder(bridged, qwen2_audio_checkpoint):
    assert bridged.served_name == qwen2_audio_checkpoint.name


# ------------------------------------------------------------------------------------------- whole runs

TASKS = ["ambi_demo_direct", "ambi_demo_sc", "ambi_demo_asc", "ambi_demo_bon", "ambi_demo_walmv", "ambi_demo_exact"]


@pytest.fixture(scope="module")
def program():
    """The command `ambi-eval bridge` around ambi-tiny; gives its address."""
    process = Script("ambi-eval", "bridge", "--model_args", "pretrained=ambi-tiny,device=cpu", "--port", 0)
    while (address := re.search(r"serving ambi-tiny at (\S+)\n", process.error)) is None:
        assert process.returncode is None, process.error
        time.sleep(0.05)
    yield address[1]
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.slow
def test_scores_through_the_bridge_are_those_of_hf_audio(program):
    manager = TaskManager()

    def scores(model, arguments):
        arguments = f"{arguments},store=none,seed=3"
        found = simple_evaluate(model, arguments, tasks=TASKS, limit=3, bootstrap_iters=0, task_manager=manager)
        return found["results"], found["config"]["ambi"]

    direct, _ = scores("hf-audio", "pretrained=ambi-tiny,device=cpu")
    through, info = scores("openai-audio", f"model=ambi-tiny,base_url={program}")
    assert set(direct) == set(TASKS)
    for task in TASKS:
        assert through[task] == pytest.approx(direct[task], abs=1e-6, nan_ok=True), task
    assert info["requests"] > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model_args", "pretrained=no/such-model,store=x.sqlite", "--port", "0"], "a bridge keeps no answers"),
        (["--model_args", "pretrained=no/such-model", "--port", "99999"], "cannot listen on 127.0.0.1, port 99999"),
    ],
)
def test_a_command_that_cannot_start_says_why_in_one_line(arguments, sentence):
    result = CliRunner().invoke(app, ["bridge", *arguments])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"ambi_eval: {sentence}")
