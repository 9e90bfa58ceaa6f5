"""The contract of an engine, held by `openai-audio` in front of a chat server and of our bridge."""

import threading

import pytest

from ambi_eval.config.model_arguments import OpenAIAudioArguments
from ambi_eval.engines.openai.engine import OpenAIEngine
from ambi_eval.models.audio_lm import open_engine
from ambi_eval.models.bridge import Bridge
from ambi_eval.models.bridge_hf_audio import BridgedEngine
from ambi_eval.testing import EngineContract


class TestChatServer(EngineContract):
    @pytest.fixture
    def engine(self, describing_server):
        return OpenAIEngine(OpenAIAudioArguments(model="listener", base_url=describing_server.url))


class TestBridge(EngineContract):
    @pytest.fixture(scope="class")
    def bridge(self, qwen2_audio_checkpoint):
        served = BridgedEngine(open_engine("hf-audio", f"pretrained={qwen2_audio_checkpoint},device=cpu,batch_size=4"))
        with Bridge(served, port=0) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            yield server
            server.shutdown()

    @pytest.fixture
    def engine(self, bridge):
        return OpenAIEngine(OpenAIAudioArguments(model=bridge.model.served_name, base_url=bridge.url))
