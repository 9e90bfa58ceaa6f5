"""`gemini-audio` through google-genai, in front of a server that plays the protocol of the Gemini API."""

import json

import pytest
from support.gemini_server import GeminiTestServer, error

from ambi_eval.batches import run
from ambi_eval.errors import AmbiError, NotYetError
from ambi_eval.models.services import GeminiAudio
from ambi_eval.services.gemini_format import as_line, to_chat_reply

WHICH, OTHER = "<audio>Which emotion?", "<audio>And how strong?"
SAMPLED = {"do_sample": True, "temperature": 1.0, "until": ["\n"], "max_gen_toks": 16}
KEY = "AIza-0123456789abcdef"


@pytest.fixture
def gemini(monkeypatch, tmp_path):
    monkeypatch.setenv("AMBI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    server = GeminiTestServer()
    yield server
    server.close()


@pytest.fixture
def load(gemini):
    def model(**options):
        given = {"model": "gemini-3.8-flash", "base_url": gemini.url, "seed": 7, "max_retries": 1}
        return GeminiAudio(**{**given, **options})

    return model


@pytest.fixture
def asked(ask, voice):
    def requests(clips=2, repeats=4, which=WHICH, **kwargs):
        each = [ask(which, voice(0.3, seed), repeats=repeats, **{**SAMPLED, **kwargs}) for seed in range(clips)]
        return [request for request in each for _ in range(repeats)]

    return requests


def test_a_clip_is_uploaded_once_for_all_prompts_samples_and_runs(load, asked, gemini):
    lm = load()
    answers = lm.generate_until(asked(repeats=20) + asked(which=OTHER, do_sample=False))
    assert len(set(answers[:20])) > 1
    assert len(gemini.files) == 2
    assert all(file.startswith(b"RIFF") for file in gemini.files.values())
    assert [body["generationConfig"].get("candidateCount") for _, body in gemini.requests].count(8) == 4
    assert gemini.keys - {None} == {KEY}
    load().generate_until(asked(which="<audio>Once more?", repeats=1))
    assert len(gemini.files) == 2, "a later run finds what was uploaded"
    assert lm.get_model_info()["ambi"]["uploads"] == 2


def test_what_is_asked_is_said_in_geminis_words(load, asked, gemini):
    answers = load().generate_until(asked(clips=1, top_p=0.9, top_k=5))
    ((model, body),) = gemini.requests
    assert model == "gemini-3.8-flash"
    audio, text = body["contents"][0]["parts"]
    assert list(audio["fileData"].values()) == [f"{gemini.url}/v1beta/files/file0", "audio/wav"]
    assert text == {"text": "Which emotion?"}
    seed = body["generationConfig"].pop("seed")
    assert 0 <= seed < 2**31
    assert body["generationConfig"] == {
        "temperature": 1.0,
        "topP": 0.9,
        "topK": 5,
        "maxOutputTokens": 16,
        "stopSequences": ["\n"],
        "candidateCount": 4,
        "responseLogprobs": True,
    }
    assert (answers[0].logprob, answers[0].n_tokens, answers[0].finish) == (-0.75, 2, "stop")


def test_tokens_of_audio_and_of_thinking_are_counted(load, asked):
    lm = load()
    lm.generate_until(asked())
    info = lm.get_model_info()["ambi"]
    assert (info["prompt_tokens"], info["audio_tokens"], info["generated_tokens"]) == (200, 160, 8 * 7)
    assert info["system_fingerprints"] == {"gemini-3.8-flash-001": 2}
    assert "cost" not in info, "this server is not Google's"


@pytest.mark.parametrize("batch", [False, True])
def test_a_budget_of_thinking_is_asked_for_and_what_was_thought_is_counted_and_paid(load, asked, gemini, batch):
    lm = load(batch=batch, input_price=1, output_price=1e6)
    answers = lm.generate_until(asked(clips=1, repeats=1, max_thinking_toks=3))
    config = gemini.requests[0][1]["generationConfig"]
    assert (list(config["thinkingConfig"].values()), config["maxOutputTokens"]) == ([3], 16 + 3)
    assert [(each.n_tokens, each.thinking_tokens) for each in answers] == [(2, 3)]
    info = lm.get_model_info()["ambi"]
    assert (info["generated_tokens"], info["thinking_tokens"], round(info["cost"])) == (5, 3, 5)
    answers = lm.generate_until(asked(clips=1))
    assert "thinkingConfig" not in gemini.requests[-1][1]["generationConfig"]
    assert [(each.n_tokens, each.thinking_tokens) for each in answers] == [(2, 5)] * 4


def test_a_file_that_expires_soon_is_uploaded_anew(load, asked, gemini):
    gemini.lifetime = 600
    load().generate_until(asked(clips=1))
    load().generate_until(asked(clips=1, which=OTHER))
    assert len(gemini.files) == 2


def test_a_file_that_is_gone_is_uploaded_anew(load, asked, gemini):
    load().generate_until(asked(clips=1))
    gemini.files.clear()
    gemini.files["another"] = b""
    assert len(load(max_retries=0).generate_until(asked(clips=1, which=OTHER))) == 4


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("candidateCount", "Multiple candidates is not enabled for this model"),
        ("responseLogprobs", "Logprobs is not enabled for models/gemini-3.8-flash"),
        ("seed", "seed is not supported"),
        ("temperature", "temperature cannot be set for this model"),
        ("thinkingConfig", "Thinking budget is not supported for this model"),
    ],
)
def test_what_a_model_lacks_is_left_out(load, asked, gemini, field, words):
    def refuse(body):
        return (400, error(400, "INVALID_ARGUMENT", words)) if field in body["generationConfig"] else None

    gemini.faults = [refuse]
    lm = load()
    assert len(lm.generate_until(asked(clips=1, max_thinking_toks=3))) == 4
    assert field not in gemini.requests[-1][1]["generationConfig"]
    if field == "temperature":
        assert lm.engine.capabilities.sampling_is == "fixed by the provider"


@pytest.mark.parametrize(
    "fault",
    [
        (429, error(429, "RESOURCE_EXHAUSTED", "slow", details=[{"retryDelay": "0.01s"}])),
        (503, error(503, "UNAVAILABLE", "overloaded")),
        (200, {"candidates": []}),
        (200, {"candidates": [{"finishReason": "OTHER"}] * 4}),
    ],
    ids=["429", "503", "nothing", "an accident"],
)
def test_a_passing_fault_is_tried_again(load, asked, gemini, fault):
    gemini.faults = [fault]
    assert len(load().generate_until(asked(clips=1))) == 4


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            (400, error(400, "INVALID_ARGUMENT", "API key not valid", details=[{"reason": "API_KEY_INVALID"}])),
            r"refuses the key in GEMINI_API_KEY \(API key not valid\)",
        ),
        ((404, error(404, "NOT_FOUND", "models/x is not found")), "has no model 'gemini-3.8-flash'"),
        ((400, error(400, "INVALID_ARGUMENT", f"broken {KEY}")), r"failed on 1 of 1 prompt \(broken \[key\]\)"),
    ],
    ids=["key", "model", "clip"],
)
def test_a_lasting_fault_is_one_sentence(load, asked, gemini, fault, sentence):
    gemini.faults = [lambda body: fault]
    with pytest.raises(AmbiError, match=sentence):
        load().generate_until(asked(clips=1))


@pytest.mark.parametrize(
    "content",
    [{"candidates": [{"finishReason": "SAFETY"}] * 4}, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}],
    ids=["answer", "prompt"],
)
def test_a_withheld_answer_is_an_empty_one(load, asked, gemini, content):
    gemini.faults = [lambda body: (200, content)]
    lm = load()
    assert [answer.finish for answer in lm.generate_until(asked(clips=1))] == ["content_filter"] * 4
    assert lm.get_model_info()["ambi"]["requests"] == 1


def test_a_system_message_and_a_field_of_ones_own_are_sent(load, ask, voice, gemini):
    lm = load(extra_body={"thinking_config": {"thinking_budget": 0}})
    context = lm.apply_chat_template([{"role": "system", "content": "Listen."}, {"role": "user", "content": WHICH}])
    lm.generate_until([ask(context, voice(0.3), **{**SAMPLED, "do_sample": False})])
    ((_, body),) = gemini.requests
    assert body["systemInstruction"]["parts"] == [{"text": "Listen."}]
    assert body["generationConfig"]["thinkingConfig"] in ({"thinkingBudget": 0}, {"thinking_budget": 0})


def test_a_key_comes_from_the_environment_only(load, monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY")
    with pytest.raises(AmbiError, match="needs a key; set the environment variable GEMINI_API_KEY"):
        load()
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    assert load().engine.server.key_variable == "GOOGLE_API_KEY"


def test_the_price_of_google_holds_at_googles_address():
    assert GeminiAudio(model="gemini-3.8-flash", store="none").engine.server.budget.price.input == 0.75


class TestBatches:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch):
        monkeypatch.setattr(run, "FIRST_PAUSE", 0.01)

    def test_a_batch_is_picked_up_later_and_paid_once(self, load, asked, gemini):
        gemini.batch_state = "BATCH_STATE_RUNNING"
        requests = asked()
        with pytest.raises(NotYetError, match="run the same command later"):
            load(batch=True, batch_wait=0).generate_until(requests)
        gemini.finish()
        lm = load(batch=True)
        answers = lm.generate_until(requests)
        assert (len(gemini.batches), len(gemini.requests)) == (1, 2)
        assert answers[0].logprob == -0.75
        assert [len(gemini.files), lm.get_model_info()["ambi"]["audio_tokens"]] == [4, 160], (
            "2 clips, 1 batch, 1 output"
        )
        assert answers == load().generate_until(requests), "from the store"

    def test_it_costs_half(self, load, asked):
        prices = {"input_price": 2.0, "output_price": 4.0}
        lm = load(batch=True, **prices)
        lm.generate_until(asked())
        assert lm.engine.server.budget.price.batch is None
        lm.engine.server.budget.price = lm.engine.server.budget.price.model_copy(update={"batch": 0.5})
        assert lm.get_model_info()["ambi"]["cost"] == pytest.approx((200 * 2 + 56 * 4) / 2 / 1e6)

    def test_a_field_that_a_model_lacks_is_left_out_in_a_second_batch(self, load, asked, gemini):
        def refuse(body):
            told = error(400, "INVALID_ARGUMENT", "Logprobs is not enabled for models/gemini-3.8-flash")
            return (400, told) if "responseLogprobs" in body["generationConfig"] else None

        gemini.faults = [refuse]
        assert len(load(batch=True).generate_until(asked())) == 8
        assert (len(gemini.batches), len(gemini.requests)) == (2, 2)

    def test_a_failed_batch_is_said(self, load, asked, gemini):
        gemini.batch_state = "BATCH_STATE_FAILED"
        with pytest.raises(
            AmbiError, match=r"failed on 2 of 2 prompts \(the batch batches/batch0 ended without it \(FAILED"
        ):
            load(batch=True).generate_until(asked())


@pytest.fixture(autouse=True)
def _some_key(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", KEY)


def test_a_line_of_a_batch_has_the_names_of_the_protocol():
    config = {"max_output_tokens": 3, "stop_sequences": ["\n"], "system_instruction": {"parts": [{"text": "a_b"}]}}
    contents = [{"role": "user", "parts": [{"file_data": {"file_uri": "u", "mime_type": "m"}}]}]
    assert as_line(contents, config) == {
        "contents": [{"role": "user", "parts": [{"fileData": {"fileUri": "u", "mimeType": "m"}}]}],
        "generationConfig": {"maxOutputTokens": 3, "stopSequences": ["\n"]},
        "systemInstruction": {"parts": [{"text": "a_b"}]},
    }


def test_an_answer_without_text_is_empty():
    chat = json.loads(to_chat_reply({"candidates": [{"finish_reason": "MAX_TOKENS"}]}))
    assert (chat["choices"][0]["message"]["content"], chat["choices"][0]["finish_reason"]) == ("", "length")
