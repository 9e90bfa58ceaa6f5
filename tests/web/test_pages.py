"""A page or JSON replaces an earlier one of its kind, and no other file."""

import pytest

from ambi_eval.errors import AmbiError
from ambi_eval.web.pages import write_json


@pytest.mark.parametrize("earlier", ["", {"a": 1}, {}, [{"a": 1}], []])
def test_json_of_ours_is_replaced(tmp_path, earlier):
    path = tmp_path / "numbers.json"
    path.write_text("") if earlier == "" else write_json(earlier, path)
    write_json({"a": 2}, path)
    assert path.read_text() == '{\n "a": 2\n}'


@pytest.mark.parametrize("earlier", ["# My notes", '{"a": 1}', '{\n  "results": {}\n}', "\udcff\0"])
def test_another_file_is_left_as_it_is(tmp_path, earlier):
    path = tmp_path / "numbers.json"
    path.write_bytes(before := earlier.encode(errors="surrogateescape"))
    with pytest.raises(AmbiError, match=r"numbers\.json holds something else already: name another file, or delete it"):
        write_json({"a": 2}, path)
    assert path.read_bytes() == before
