"""The tables of settings in docs/ say what the settings say."""

import re
from functools import cache

import pytest

from ambi_eval.config import docs
from ambi_eval.config.load import OUR_KEYS
from ambi_eval.config.task_settings import OVERRIDES


@pytest.fixture(autouse=True, scope="module")
def _tables_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(docs, "tables", cache(docs.tables))
        yield


@pytest.mark.parametrize("path", docs.PAGES, ids=lambda path: path.name)
def test_the_tables_of_a_page_are_those_of_the_settings(path):
    page = path.read_text(encoding="utf-8")
    assert docs.written(page) == page, "run: python -m ambi_eval.config.docs"


def test_a_changed_table_is_written_anew():
    page = docs.PAGES[0].read_text(encoding="utf-8")
    assert docs.written(page.replace("| `labels` |", "| `lables` |")) == page


def test_every_table_is_on_one_page():
    pages = "".join(path.read_text(encoding="utf-8") for path in docs.PAGES)
    assert sorted(re.findall(r"<!-- table: (\S+) -->", pages)) == sorted(docs.tables())


def test_every_key_and_every_override_has_a_row():
    tables = docs.tables()
    assert all(f"| `{key}` |" in tables["corpus"] + tables["strategy"] for key in OUR_KEYS)
    assert all(f"| `--metadata {key}=...` |" in tables["overrides"] for key in OVERRIDES)
