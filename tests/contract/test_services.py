"""The contract of an engine, held by `litellm-audio` and `gemini-audio` in front of servers that play their parts."""

import pytest
from support.chat_server import described
from support.gemini_server import GeminiTestServer

from ambi_eval.config.model_arguments import GeminiAudioArguments, LiteLLMAudioArguments
from ambi_eval.services.gemini import GeminiEngine
from ambi_eval.services.litellm import LiteLLMEngine
from ambi_eval.testing import EngineContract


class TestLiteLLM(EngineContract):
    @pytest.fixture
    def engine(self, describing_server):
        return LiteLLMEngine(LiteLLMAudioArguments(model="openai/listener", base_url=describing_server.url))


class TestGemini(EngineContract):
    @pytest.fixture
    def server(self):
        server = GeminiTestServer()
        answer = server.answer

        def describe(model, body):
            """Answer with numbers that follow from what is heard and from the seed."""
            status, content = answer(model, body)
            asked, parts = body["generationConfig"], body["contents"][0]["parts"]
            files = [part["fileData"] for part in parts if "fileData" in part]
            names = [(file.get("file_uri") or file["fileUri"]).rpartition("/")[2] for file in files]
            heard = [server.files.get(name) for name in names], [part.get("text") for part in parts]
            for number, candidate in enumerate(content.get("candidates", ())):
                seed = asked["seed"] + number if asked["temperature"] else None
                text = described(heard, seed, asked.get("stopSequences", ()))
                candidate["content"]["parts"][-1]["text"] = text
            return status, content

        server.answer = describe
        yield server
        server.close()

    @pytest.fixture
    def engine(self, server, monkeypatch, tmp_path):
        monkeypatch.setenv("AMBI_DATA", str(tmp_path / "data"))
        monkeypatch.setenv("GEMINI_API_KEY", "AIza-0123456789abcdef")
        return GeminiEngine(GeminiAudioArguments(model="gemini-3.8-flash", base_url=server.url))
