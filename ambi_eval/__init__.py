"""Benchmark how well audio-language models predict the distribution of human emotion votes.

This module runs at every start of Python (see `ambi_eval.pth`), so it imports nothing: `load_corpus` and
`evaluate_module` are looked up when they are first used.
"""

TYPE_CHECKING = False  # as in `typing`, without importing it
if TYPE_CHECKING:
    from ambi_eval.corpora.dataset import load_corpus

    evaluate_module: str

__all__ = ["evaluate_module", "load_corpus"]


def __getattr__(name: str) -> object:
    if name == "load_corpus":
        from ambi_eval.corpora.dataset import load_corpus

        return load_corpus
    if name == "evaluate_module":
        from ambi_eval.metrics import evaluate_module

        return evaluate_module.__file__
    raise AttributeError(f"module 'ambi_eval' has no attribute '{name}'")
