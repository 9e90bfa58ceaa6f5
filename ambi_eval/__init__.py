"""Benchmark how well audio-language models predict the distribution of human emotion votes.

This module runs at every start of Python (see `ambi_eval.pth`), so it imports nothing: what it offers is looked up when
it is first used.

    runs = ambi_eval.load("runs/demo")          # runs of lm_eval; runs.to_pandas() has a row for each clip and system
    ambi_eval.evaluate("hf-audio", "ambi_demo_sc", "pretrained=ambi-tiny")
    ambi_eval.score({"clip": {"sad": 1.0}}, "crema_d")
    ambi_eval.load_corpus("demo")               # a datasets.Dataset
"""

TYPE_CHECKING = False  # as in `typing`, without importing it
if TYPE_CHECKING:
    from ambi_eval.api.runs import Runs, evaluate, load, score
    from ambi_eval.corpora.dataset import load_corpus

    __version__: str
    evaluate_module: str

__all__ = ["Runs", "__version__", "evaluate", "evaluate_module", "load", "load_corpus", "score"]


def __getattr__(name: str) -> object:
    if name in ("Runs", "evaluate", "load", "score"):
        from ambi_eval.api import runs

        return getattr(runs, name)
    if name == "load_corpus":
        from ambi_eval.corpora.dataset import load_corpus

        return load_corpus
    if name == "evaluate_module":
        from ambi_eval.metrics import evaluate_module

        return evaluate_module.__file__
    if name == "__version__":
        from importlib.metadata import version

        return version("ambi-eval")
    raise AttributeError(f"module 'ambi_eval' has no attribute '{name}'")
