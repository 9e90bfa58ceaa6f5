"""Audio that is longer than the model's window is cut or refused before it is sent, and counted."""

import base64
import io
import json

import pytest
import soundfile

from ambi_eval.audio import AudioSpan
from ambi_eval.config.model_arguments import OpenAIAudioArguments
from ambi_eval.engines.base import Job
from ambi_eval.engines.openai.engine import OpenAIEngine
from ambi_eval.engines.openai.window import window_of
from ambi_eval.errors import AmbiError


@pytest.fixture
def engine(chat_server):
    return lambda **given: OpenAIEngine(OpenAIAudioArguments(model="listener", base_url=chat_server.url, **given))


def seconds_sent(body):
    (part,) = (part for part in body["messages"][-1]["content"] if part["type"] == "input_audio")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(part["input_audio"]["data"])))
    return len(samples) / rate


def ask(engine, *paths):
    jobs = [Job("<audio>Which?", (AudioSpan(path),)) for path in paths]
    assert len(dict(engine.generate(jobs))) == len(jobs)


@pytest.mark.parametrize(("window", "sent", "cut"), [(None, 2.0, 0), (2.0, 2.0, 0), (1.5, 1.5, 1)])
def test_what_is_sent_is_as_long_as_the_window(window, sent, cut, engine, chat_server, voice):
    asked = engine(max_audio_seconds=window)
    ask(asked, voice(2.0))
    assert seconds_sent(chat_server.bodies[0]) == sent
    asked.note_audio([AudioSpan(voice(2.0))])
    assert asked.cut_audio == cut
    assert asked.identity.get("max_audio_seconds") == window


def test_the_cut_is_said_once_and_each_audio_counts_once(engine, voice, caplog):
    asked = engine(max_audio_seconds=1.0)
    for path in (voice(2.0), voice(2.0, 1), voice(2.0), voice(0.5)):
        asked.note_audio([AudioSpan(path)])
    assert (asked.cut_audio, list(asked.is_cut.values())) == (2, [True, True, False])
    (told,) = [record.message for record in caplog.records if "is cut off" in record.message]
    assert "2.0 s of audio, of which listener hears 1 s; the rest is cut off" in told


def test_longer_audio_is_refused_where_that_is_wanted_as_often_as_it_is_asked_about(engine, voice):
    asked = engine(max_audio_seconds=1.0, long_audio="refuse")
    for _ in range(2):
        with pytest.raises(AmbiError, match=r"2\.0 s of audio, of which listener hears 1 s; give long_audio=cut to go"):
            asked.note_audio([AudioSpan(voice(2.0))])


def test_the_window_behind_vllm_is_that_of_the_checkpoint_that_it_serves_also_when_it_is_off(
    engine, chat_server, voice, qwen2_audio_checkpoint
):
    chat_server.owner, chat_server.root = "vllm", str(qwen2_audio_checkpoint)
    asked = engine()
    ask(asked, voice(31.0))
    assert seconds_sent(chat_server.bodies[0]) == asked.window_seconds == 30
    chat_server.close()
    assert engine(max_retries=0).window_seconds == 30


@pytest.mark.parametrize(
    ("config", "why"),
    [(None, "config.json"), ({"model_type": "whisper"}, "we do not know the family whisper")],
)
def test_a_window_that_nobody_knows_is_said(config, why, tmp_path, caplog):
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    assert window_of(str(tmp_path)) is None
    (told,) = [record.message for record in caplog.records]
    assert "vLLM may cut longer audio without a word: give max_audio_seconds=" in told
    assert why in told


def test_an_error_of_the_audio_cache_after_a_refused_field_is_survived(engine, chat_server, voice):
    """vLLM 0.32 answers 500 ("cache drift") to audio that it first saw in a request that it refused with 400."""
    refused = {"error": {"message": "'logprobs' is not allowed", "code": 400, "param": "logprobs"}}
    drift = {"error": {"message": "Expected a cached item for mm_hash", "code": 500}}
    chat_server.faults = [(400, {}, refused), (500, {"Retry-After": "0"}, drift)]
    asked = engine()
    ask(asked, voice(0.5))
    assert (len(chat_server.bodies), asked.counts()["failed"]) == (3, 0)
