import json
import re

import numpy as np
import pytest

from ambi_eval.analysis.predictions import read_predictions
from ambi_eval.corpora.manifest import Clip
from ambi_eval.errors import AmbiError

LABELS = ["angry", "happy", "sad"]
CLIPS = [Clip(id=f"clip{number}", votes={"sad": 1.0}, audio="x.wav") for number in range(5)]
GOOD = {"angry": 0.2, "happy": 0.3, "sad": 0.5}


def line(number, distribution=None, **more):
    return json.dumps({"id": f"clip{number}", "distribution": distribution or GOOD, **more})


@pytest.fixture
def read(tmp_path):
    def read(lines, clips=CLIPS, **options):
        path = tmp_path / "predictions.jsonl"
        path.write_text("\n".join(lines), encoding="utf-8")
        return read_predictions(path, clips, LABELS, **options)

    return read


def test_lines_come_back_in_the_order_of_the_clips(read):
    own = [{"angry": 1.0}, {"sad": 1}, GOOD, {"happy": 0.5, "sad": 0.5}, {"sad": 0.5, "angry": 0.5}]
    predictions = read(["", *(line(number, own[number], model="m") for number in (3, 1, 4, 0, 2)), "  "])
    assert predictions.clips.tolist() == [0, 1, 2, 3, 4]
    assert predictions.p.tolist() == [[1, 0, 0], [0, 0, 1], [0.2, 0.3, 0.5], [0, 0.5, 0.5], [0.5, 0, 0.5]]
    assert predictions.notes == []


def test_an_id_may_be_a_whole_number_as_in_a_manifest(read):
    clips = [Clip(id=str(number), votes={"sad": 1.0}) for number in range(2)]
    predictions = read([json.dumps({"id": number, "distribution": GOOD}) for number in (1, 0)], clips)
    assert predictions.clips.tolist() == [0, 1]


def test_rounded_shares_are_divided_by_their_sum(read):
    thirds = {"angry": 0.333, "happy": 0.333, "sad": 0.333}
    np.testing.assert_allclose(read([line(number, thirds) for number in range(5)]).p, 1 / 3)


def test_null_is_a_clip_without_a_valid_answer(read):
    predictions = read([line(0).replace(json.dumps(GOOD), "null"), *map(line, range(1, 5))])
    assert np.isnan(predictions.p[0]).all()
    assert predictions.notes == ["1 of 5 clips have no valid answer and score the worst value"]


BAD = [
    ([line(0), "{id"], "1 line(s) with invalid JSON (line 2: Expecting"),
    (
        ["[1]", '{"id": 3.5, "distribution": {}}'],
        "2 line(s) with something else than an id and a distribution (line 1: [1]",
    ),
    (['{"id": "clip0"}'], 'write {"id": "...", "distribution": {"LABEL": SHARE, ...}}'),
    ([line(0, [1, 2])], "a distribution that is no object (line 1: 'clip0'); write a share for each label"),
    (
        [line(0), line(0), line(0)],
        "2 line(s) with an id that an earlier line has (line 2: 'clip0'; line 3",
    ),
    (
        [line(0, {"hapy": 1})],
        "a label that the corpus does not have (line 1: 'hapy', did you mean 'happy'?)",
    ),
    ([line(0, {"happy": -0.5, "sad": 1.5})], "a share that cannot be (line 1: happy is -0.5 in 'clip0')"),
    ([line(0, {"sad": 10**400})], "a share that cannot be (line 1: sad is"),
    (["[" * 100_000], "1 line(s) with invalid JSON (line 1: maximum recursion"),
    ([line(0, {"sad": "1"})], "a share that cannot be (line 1: sad is \"1\" in 'clip0')"),
    ([line(0, {"sad": True})], "a share that cannot be (line 1: sad is true in 'clip0')"),
    ([line(0, {"sad": None})], "a share that cannot be (line 1: sad is null in 'clip0')"),
    ([line(0).replace("0.5", "1e999")], "a share that cannot be (line 1: sad is Infinity in 'clip0')"),
    ([line(0).replace("0.5", "NaN")], "a share that is no number (line 1: NaN); write null for a clip without"),
    ([line(0).replace("happy", "sad")], "a key that stands twice in one object (line 1: 'sad')"),
    ([line(0).replace("{", '{"id": "x", ', 1)], "a key that stands twice in one object (line 1: 'id')"),
    ([line(0, {"sad": 0.99})], "shares that do not sum to 1 (line 1: 'clip0' sums to 0.99); divide them by their sum"),
    (
        [line(n, {"sad": n / 9}) for n in range(5)],
        "5 line(s) with shares that do not sum to 1 (line 1: 'clip0' sums to 0",
    ),
    ([line(n, {"sad": n / 9}) for n in range(5)], "line 3: 'clip2' sums to 0.2222; ...)"),
    (
        [*map(line, range(5)), line("X")],
        "1 id(s) that the corpus does not have (clipX, did you mean 'clip4'?)",
    ),
    (
        [line(1), line(3)],
        "3 of 5 clips are missing (clip0; clip2; clip4); add them, or score the others",
    ),
    ([], "none of the 5 clips is there"),
]


@pytest.mark.parametrize(("lines", "message"), BAD)
def test_what_is_wrong_is_counted_and_shown(read, lines, message):
    with pytest.raises(AmbiError, match=re.escape(message)):
        read(lines)


@pytest.mark.parametrize("lines", [lines for lines, message in BAD if "line(s)" in message])
def test_a_partial_file_must_be_right_all_the_same(read, lines):
    with pytest.raises(AmbiError, match=r"line\(s\)"):
        read(lines, allow_partial=True)


def test_a_partial_file_is_scored_on_what_is_there_and_says_so(read):
    predictions = read([line(3), line("other"), line(1)], allow_partial=True)
    assert predictions.clips.tolist() == [1, 3]
    assert predictions.notes == [
        "not scored: 1 id(s) that the corpus does not have (clipother)",
        "PARTIAL: 3 of 5 clips are missing (clip0; clip2; clip4)",
    ]


def test_clips_that_nobody_can_hear_need_no_prediction(read):
    clips = [*CLIPS, Clip(id="silent", votes={"sad": 1.0})]
    predictions = read(map(line, range(5)), clips)
    assert predictions.clips.tolist() == [0, 1, 2, 3, 4]
    assert predictions.notes == ["PARTIAL: 1 of 6 clips are missing (silent), those without audio"]
    with pytest.raises(AmbiError, match=r"2 of 6 clips are missing \(clip4; silent\)"):
        read(map(line, range(4)), clips)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(AmbiError, match=r"none\.jsonl cannot be read"):
        read_predictions(tmp_path / "none.jsonl", CLIPS, LABELS)
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(AmbiError, match=r"latin\.jsonl cannot be read .*utf-8"):
        read_predictions(tmp_path / "latin.jsonl", CLIPS, LABELS)
