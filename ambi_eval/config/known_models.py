"""A list of well-known models, and the table in docs/models.md of what each engine and model can do."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from ambi_eval.config.load import read_yaml, strategy_names
from ambi_eval.config.prices import Price, read_prices
from ambi_eval.config.settings import Settings
from ambi_eval.config.yaml_reader import parse_yaml
from ambi_eval.paths import tasks_dir

OURS = Path(__file__).with_name("models.yaml")
Honored = Literal["honored", "ignored"]
# Engines whose capabilities depend on the server, with the kinds of servers.
SERVERS = {"openai-audio": ("vllm", "bridge", "chat")}


class KnownModel(Settings):
    """A model: the engine that runs it, and what is known about it."""

    name: str  # what people call it
    engine: str  # the engine that reaches it
    server: str = ""  # what serves it, where the engine asks a server: `vllm`, `chat`
    checkpoint: str | None = None  # its repository on the Hugging Face hub
    model: str | None = None  # its name for the service
    paper: bool = False  # whether arXiv 2602.03873 has it
    state: str = "current"  # whether it can be had
    successor: str | None = None  # what its maker offers instead
    window: str = ""  # the longest audio that it hears
    temperature: Honored | None = None  # what it makes of a temperature, where that is known
    source: str | None = None  # where its state was read


def known_models() -> list[KnownModel]:
    """Return the models of our list, in its order."""
    listed = parse_yaml(OURS.read_text(encoding="utf-8"), str(OURS), trusted=True)
    return [KnownModel.read(each, str(OURS)) for each in listed]


def table() -> str:
    """Return the table of engines and models for docs/models.md."""
    engines = {each.name: each.load() for each in entry_points(group="ambi_eval.engines")}
    rows = [
        "| | reached by | strategies | temperature, seed, `n` | window | price, $ | state |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in sorted(engines):
        for server in SERVERS.get(name, ("",)):
            told = f"`{name}`" + (f" ({server})" if server else "")
            honored = "honored" if name in ("hf-audio", "vllm-audio") or server in ("vllm", "bridge") else "`doctor`"
            rows.append(f"| any model | {told} | {_strategies(engines[name], server)} | {honored} | | | |")
    for model in known_models():
        rows.append(_row(model, engines[model.engine]))
    return "\n".join([*rows, ""])


def _row(model: KnownModel, engine: Any) -> str:
    name = f"**{model.name}**" if model.paper else model.name
    called = model.checkpoint or model.model
    reached = f"`{model.engine}`" + (f", `{called}`" if called else "")
    honored = {"ignored": "temperature ignored", "honored": "honored", None: ""}[model.temperature]
    state = model.state + (f"; then {model.successor}" if model.successor else "")
    state += f" ({model.source})" if model.source else ""
    told = f"{honored} | {model.window} | {_price(model)} | {state}"
    return f"| {name} | {reached} | {_strategies(engine, model.server)} | {told} |"


def _price(model: KnownModel) -> str:
    if model.engine == "litellm-audio":
        return "as litellm lists"
    if model.model is None:
        return "none" if model.checkpoint else ""
    price: Price | None = read_prices().models.get(model.model)
    if price is None:
        return "no price known"
    audio = price.input if price.audio is None else price.audio
    return f"{price.input:g} / {audio:g} / {price.output:g}" + (f", batch x {price.batch:g}" if price.batch else "")


def _strategies(engine: Any, server: str) -> str:
    """Return the strategies that an engine can run, in words: all, or all but some."""
    pools: Iterable[str] = engine.pools(server)
    lacks = [f"`{name}`" for name in strategy_names() if _pool(name) not in pools]
    return f"all but {', '.join(lacks)}" if lacks else "all"


def _pool(strategy: str) -> str:
    return str(read_yaml(tasks_dir() / "_strategies" / f"{strategy}.yaml")["pool"])
