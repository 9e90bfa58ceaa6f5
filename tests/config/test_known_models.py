from ambi_eval.config.known_models import known_models, table
from ambi_eval.config.prices import read_prices


def test_the_eight_models_of_the_paper_are_there_and_those_that_end_have_a_successor():
    models = known_models()
    assert sum(model.paper for model in models) == 8
    gone = [model for model in models if model.state.startswith(("shut down", "ends"))]
    assert len(gone) >= 3
    assert all(model.successor and model.source for model in gone)


def test_every_price_belongs_to_a_model_of_the_list():
    assert read_prices().models.keys() <= {model.model for model in known_models()}


def test_what_an_engine_lacks_stands_in_its_row():
    rows = table().splitlines()
    of = {row.split("|")[2].strip(): row.split("|")[3].strip() for row in rows if row.startswith("| any model")}
    assert of["`hf-audio`"] == of["`vllm-audio`"] == of["`openai-audio` (bridge)"] == "all"
    assert of["`openai-audio` (chat)"] == of["`gemini-audio`"] == of["`litellm-audio`"]
    lacks = of["`gemini-audio`"].removeprefix("all but ").replace("`", "").split(", ")
    assert {"almv", "bon", "exact", "walmv", "wbon"} <= set(lacks)
    assert not {"direct", "cot", "sc", "asc", "sc_shares", "ens"} & set(lacks)
