import pytest

from ambi_eval.config.model_arguments import OpenAIAudioArguments
from ambi_eval.config.prices import Price, PriceList, read_prices
from ambi_eval.errors import AmbiError

OPENAI, GOOGLE, HERE = (
    "https://api.openai.com/v1",
    "https://generativelanguage.googleapis.com/v1beta/openai",
    "http://127.0.0.1:8000/v1",
)


def test_every_price_that_comes_along_says_where_and_when_it_was_read():
    prices = read_prices()
    assert prices.currency == "USD"
    for name, price in prices.models.items():
        assert price.source != "given by the user", name
        assert price.date, name
        assert price.host, name
        assert price.output > price.input > 0, name


@pytest.mark.parametrize(
    ("model", "address", "output"),
    [
        ("gpt-audio", OPENAI, 10),
        ("gpt-audio-1.5", OPENAI, 10),
        ("gpt-audio-mini-2025-12-15", OPENAI, 2.4),
        ("models/gemini-3.8-flash", GOOGLE, 3.75),
        ("gpt-audio", HERE, None),
        ("gpt-audiophile", OPENAI, None),
        ("gpt-audio-preview", OPENAI, None),
        ("gemini-3.8-flash-cyber", GOOGLE, None),
    ],
)
def test_a_model_has_the_price_of_its_service_and_a_dated_version_that_of_its_model(model, address, output):
    price = read_prices().find(model, address)
    assert (price and price.output) == output


@pytest.mark.parametrize(
    ("price", "tokens", "cost"),
    [
        (Price(input=2.0, audio=40.0, output=10.0), (200, 160, 80), (40 * 2 + 160 * 40 + 80 * 10) / 1e6),
        (Price(input=2.0, output=10.0), (200, 160, 80), (200 * 2 + 80 * 10) / 1e6),
        (Price(audio=3.0), (200, 160, 80), 160 * 3 / 1e6),
        (Price(input=1.0), (0, 0, 0), 0.0),
    ],
)
def test_audio_costs_its_own_price_where_it_has_one(price, tokens, cost):
    assert price.of(*tokens) == pytest.approx(cost)
    assert price.of(*tokens, batch=True) == pytest.approx(cost), "no discount is known"


def test_batch_mode_costs_its_share_where_that_is_known():
    price = read_prices().find("gemini-3.8-flash", GOOGLE)
    assert price.of(1000, 800, 50, batch=True) == pytest.approx(price.of(1000, 800, 50) / 2)


def test_a_request_costs_at_most_a_token_for_each_byte_and_all_its_answers_at_their_longest():
    price = Price(input=1.0, audio=10.0, output=100.0, audio_tokens_per_second=32)
    assert price.most("é" * 10, 2.5, 7) == pytest.approx(((256 + 20) * 1 + 2.5 * 32 * 10 + 7 * 100) / 1e6)
    assert Price(input=1.0).most("", 1.0, 0) == pytest.approx(306 / 1e6), "nobody says how many tokens a second has"


class TestAFileOfTheUser:
    def test_it_replaces_ours(self, tmp_path):
        file = tmp_path / "prices.yaml"
        file.write_text("currency: EUR\nmodels:\n  mine: {input: 3, output: 5}\n")
        arguments = OpenAIAudioArguments.read({"model": "mine", "prices": str(file)}, "here")
        assert arguments.price(HERE) == Price(input=3, output=5)
        assert OpenAIAudioArguments.read({"model": "gpt-audio", "prices": str(file)}, "here").price(OPENAI) is None

    def test_arguments_come_before_it(self):
        arguments = OpenAIAudioArguments.read({"model": "gpt-audio", "output_price": 7}, "here")
        assert arguments.price(OPENAI) == Price(output=7)

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            ("models: {mine: {inputs: 3}}", "unknown key 'models.mine.inputs', did you mean 'input'"),
            ("models: {mine: {input: free}}", "models.mine.input is 'free'; it must be a number"),
            ("models: {mine: {date: yesterday}}", "models.mine.date is 'yesterday'; it must be text like"),
            ("currency: USD", "the key 'models' is missing"),
            ("models: [", "is not valid YAML"),
            (None, "cannot be read .* give a file such as .*prices.yaml"),
        ],
    )
    def test_a_mistake_in_it_is_one_sentence(self, content, sentence, tmp_path):
        file = tmp_path / "prices.yaml"
        if content is not None:
            file.write_text(content)
        with pytest.raises(AmbiError, match=sentence) as error:
            read_prices(str(file))
        assert str(file) in str(error.value)


def test_a_list_of_prices_finds_nothing_where_there_is_nothing():
    assert PriceList(models={}).find("gpt-audio", OPENAI) is None
