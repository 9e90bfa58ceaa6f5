"""The tables of docs/tasks.md say what the settings say."""

from ambi_eval.config import docs
from ambi_eval.config.load import OUR_KEYS
from ambi_eval.config.task_settings import OVERRIDES


def test_the_tables_of_the_page_are_those_of_the_settings():
    page = docs.PAGE.read_text(encoding="utf-8")
    assert docs.written(page) == page, "run: python -m ambi_eval.config.docs"


def test_a_changed_table_is_written_anew():
    page = docs.PAGE.read_text(encoding="utf-8")
    assert docs.written(page.replace("| `labels` |", "| `lables` |")) == page


def test_every_key_and_every_override_has_a_row():
    tables = docs.tables()
    assert all(f"| `{key}` |" in tables["corpus"] + tables["strategy"] for key in OUR_KEYS)
    assert all(f"| `--metadata {key}=...` |" in tables["overrides"] for key in OVERRIDES)
