"""`litellm-audio` through litellm's own library: in front of a chat server that fails, and of litellm's own proxy."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from support.chat_server import ChatTestServer

from ambi_eval.config.model_arguments import LiteLLMAudioArguments
from ambi_eval.errors import AmbiError
from ambi_eval.models.audio_lm import open_engine
from ambi_eval.models.bridge import Bridge
from ambi_eval.models.bridge_hf_audio import BridgedEngine
from ambi_eval.models.services import LiteLLMAudio

WHICH = "<audio>Which emotion?"
SAMPLED = {"do_sample": True, "temperature": 1.0, "until": ["\n"], "max_gen_toks": 16}
KEY = "sk-0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PROVIDER_KEY", KEY)


@pytest.fixture
def load(chat_server, tmp_path):
    def model(**options):
        given = {
            "model": "openai/listener",
            "base_url": chat_server.url,
            "api_key_env": "PROVIDER_KEY",
            "seed": 7,
            "max_retries": 1,
            "store": str(tmp_path / "store.sqlite"),
        }
        return LiteLLMAudio(**{**given, **options})

    return model


@pytest.fixture
def asked(ask, voice):
    def requests(clips=2, repeats=4, **kwargs):
        each = [ask(WHICH, voice(0.3, seed), repeats=repeats, **{**SAMPLED, **kwargs}) for seed in range(clips)]
        return [request for request in each for _ in range(repeats)]

    return requests


def told(status, message, **more):
    return status, {}, {"error": {"message": message, **more}}


def test_a_clip_is_asked_about_as_a_chat_server_hears_it(load, asked, chat_server):
    lm = load()
    answers = lm.generate_until(asked())
    assert len(set(answers)) > 1
    sent = chat_server.bodies[0]
    assert {name: sent[name] for name in ("model", "n", "temperature", "top_p", "max_tokens", "stop", "logprobs")} == {
        "model": "listener",
        "n": 4,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 16,
        "stop": ["\n"],
        "logprobs": True,
    }
    audio, text = sent["messages"][0]["content"]
    assert (audio["type"], audio["input_audio"]["format"], text["text"]) == ("input_audio", "wav", "Which emotion?")
    assert set(chat_server.keys) == {f"Bearer {KEY}"}
    assert (answers[0].logprob, answers[0].n_tokens, answers[0].finish) == (-0.75, 2, "stop")
    info = lm.get_model_info()["ambi"]
    assert (info["prompt_tokens"], info["audio_tokens"], info["generated_tokens"]) == (200, 160, 16)
    chat_server.stop()
    assert load().generate_until(asked()) == answers, "from the store"


@pytest.mark.parametrize(
    "faults",
    [
        [(429, {"Retry-After": "0"}, {"error": {"message": "slow down"}})],
        [told(500, "overloaded")],
        ["cut"],
        [(200, {}, b"nonsense")],
        [(200, {}, {"choices": []})],
    ],
    ids=["429", "500", "cut", "no JSON", "no choices"],
)
def test_a_passing_fault_is_tried_again(load, asked, chat_server, faults):
    chat_server.faults = list(faults)
    lm = load()
    assert len(lm.generate_until(asked(clips=1))) == 4
    assert lm.get_model_info()["ambi"]["retries"] == 1


@pytest.mark.parametrize("field", ["seed", "logprobs", "n", "stop", "temperature"])
def test_a_field_that_is_refused_by_name_is_left_out(load, asked, chat_server, field):
    chat_server.faults = [lambda body: told(400, f"Unsupported parameter: '{field}'") if field in body else None]
    lm = load()
    assert len(lm.generate_until(asked(clips=1))) == 4
    assert field not in chat_server.bodies[-1]


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (told(401, f"bad key {KEY}", code="invalid_api_key"), r"refuses the key in PROVIDER_KEY \(.*bad key \[key\]"),
        (told(404, "no such model"), "has no model 'openai/listener'"),
        (told(429, "You exceeded", code="insufficient_quota"), "the account has no quota left"),
        (told(400, "audio is broken"), r"failed on 1 of 1 prompt \(.*audio is broken.*kept in the candidate store"),
    ],
    ids=["key", "model", "quota", "clip"],
)
def test_a_lasting_fault_is_one_sentence(load, asked, chat_server, fault, sentence):
    chat_server.faults = [lambda body: fault]
    with pytest.raises(AmbiError, match=sentence) as error:
        load().generate_until(asked(clips=1))
    assert KEY not in str(error.value)


def test_a_redirect_is_not_followed_and_a_local_server_is_asked_without_a_proxy(load, asked, chat_server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with ChatTestServer() as other:
        chat_server.faults = [(307, {"Location": f"{other.url}/chat/completions"}, {})]
        with pytest.raises(AmbiError, match="Error code: 307"):
            load(max_retries=0).generate_until(asked(clips=1))
        assert other.bodies == []
    assert len(load().generate_until(asked(clips=1))) == 4


def test_an_error_of_any_length_is_read_no_further_than_a_reply(load, asked, chat_server):
    chat_server.faults = [lambda body: (400, {"Content-Type": "text/html"}, 11_000_000 * b"a")]
    with pytest.raises(AmbiError, match="it is larger than 10 MB"):
        load(max_retries=0).generate_until(asked(clips=1))


@pytest.mark.parametrize("variable", ["TOGETHERAI_API_KEY", "PERPLEXITYAI_API_KEY", "GOOGLE_API_KEY"])
def test_the_key_that_litellm_finds_is_known_so_that_it_can_be_masked(variable, monkeypatch):
    monkeypatch.setenv(variable, KEY)
    provider = {"TOGETHERAI": "together_ai", "PERPLEXITYAI": "perplexity", "GOOGLE": "gemini"}[variable[:-8]]
    server = open_engine("litellm-audio", f"model={provider}/m").server
    assert server.key_variable == variable
    assert server.told(ValueError(f"bad key {KEY}")) == "a reply that is no chat completion: bad key [key]"


def test_a_content_filter_is_an_empty_answer(load, asked, chat_server):
    chat_server.faults = [lambda body: told(400, "filtered", code="content_filter")]
    assert [answer.finish for answer in load().generate_until(asked(clips=1))] == ["content_filter"] * 4


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model": "listener", "base_url": None}, "litellm knows no provider of model=listener; put it in front"),
        ({"model": "gemini/gemini-3.8-flash", "base_url": None, "api_key_env": None}, "litellm needs a key; .*GEMINI_"),
        ({"model": "mistral/voxtral-small-latest", "base_url": None, "api_key_env": None}, "MISTRAL_API_KEY"),
        ({"api_key": "sk-1"}, "keys do not belong on the command line"),
        ({"base_url": "nowhere"}, "base_url='nowhere' is no address of a server"),
        ({"model": None}, "it needs a model: --model_args model=gemini/gemini-3.8-flash"),
    ],
)
def test_a_mistake_is_one_sentence(load, options, sentence):
    with pytest.raises(AmbiError, match=sentence):
        load(**options)


def test_a_provider_without_a_field_is_asked_without_it(load, asked, monkeypatch):
    """litellm itself refuses what its table says that a model lacks: before anything is sent."""
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    lm = load(model="gemini/gemini-3.8-flash", base_url="http://127.0.0.1:1", api_key_env=None, max_retries=0)
    with pytest.raises(AmbiError, match="failed on 1 of 1 prompt"):
        lm.generate_until(asked(clips=1))
    assert "temperature" in lm.engine.server.refused
    assert lm.engine.capabilities.sampling_is == "fixed by the provider"


def test_a_price_that_litellm_lists_is_taken_where_ours_has_none(monkeypatch):
    monkeypatch.setenv("MISTRAL_API_KEY", KEY)
    price = LiteLLMAudio(model="mistral/voxtral-small-latest", store="none").engine.server.budget.price
    assert (price.input, price.output) == (pytest.approx(0.1), pytest.approx(0.4))
    assert price.source.startswith("litellm ")
    assert LiteLLMAudioArguments(model="x/y", input_price=3).price("litellm").input == 3


# ---------------------------------------------------------------------------------------------- litellm's own proxy


@pytest.fixture(scope="module")
def proxy(tmp_path_factory, qwen2_audio_checkpoint):
    """litellm's own proxy, in an environment of its own, in front of our bridge around a tiny Qwen2-Audio."""
    environment = Path(os.environ.get("AMBI_TEST_LITELLM", ""))
    program = environment / "bin" / "litellm"
    if not os.environ.get("AMBI_TEST_LITELLM") or not program.is_file():
        pytest.skip("AMBI_TEST_LITELLM names no environment with litellm[proxy] (756 MB)")
    served = BridgedEngine(open_engine("hf-audio", f"pretrained={qwen2_audio_checkpoint},device=cpu,batch_size=4"))
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("proxy")
    with Bridge(served, port=0) as bridge:
        threading.Thread(target=bridge.serve_forever, args=(0.01,), daemon=True).start()
        model = {"model": f"openai/{bridge.model.served_name}", "api_base": bridge.url, "api_key": "none"}
        listed = {"model_list": [{"model_name": "tiny", "litellm_params": model}]}
        (folder / "proxy.yaml").write_text(json.dumps({**listed, "general_settings": {"master_key": KEY}}))
        command = [program, "--config", folder / "proxy.yaml", "--host", "127.0.0.1", "--port", str(port)]
        own = {"PATH": f"{environment / 'bin'}:{os.environ['PATH']}", "HOME": str(folder)}
        own |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
        with (folder / "log.txt").open("w") as log:
            process = subprocess.Popen(command, env=own, cwd=folder, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 240
            while not _answers(port):
                assert process.poll() is None, (folder / "log.txt").read_text()[-3000:]
                assert time.monotonic() < deadline, "litellm's proxy does not answer"
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1", bridge
        finally:
            process.terminate()
            process.wait(30)
            bridge.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def _answers(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=2).status == 200
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{**SAMPLED, "do_sample": False}, SAMPLED], ids=["greedy", "sampled"])
def test_through_litellms_own_proxy_answers_are_those_of_the_bridge(proxy, load, asked, tmp_path, settings):
    url, bridge = proxy
    requests = asked(**settings)
    answers = load(base_url=url, model="litellm_proxy/tiny", max_retries=0).generate_until(requests)
    direct = load(
        base_url=bridge.url,
        model=f"openai/{bridge.model.served_name}",
        api_key_env=None,
        store=str(tmp_path / "other.sqlite"),
    ).generate_until(requests)
    if settings["do_sample"]:
        assert len(set(answers)) > 1
        assert len(answers) == len(direct) == 8
    else:
        assert answers == direct
        assert None not in [answer.n_tokens for answer in answers]
