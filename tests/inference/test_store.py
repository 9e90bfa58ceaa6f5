import math
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambi_eval.answers.candidate import Candidate
from ambi_eval.inference.rows import pool_key
from ambi_eval.inference.store import CandidateStore

CPU = {"device": "cpu", "torch": "2.13"}
GPU = {"torch": "2.13", "device": "cuda"}
CPU_JSON = '{"device":"cpu","torch":"2.13"}'
GPU_JSON = '{"device":"cuda","torch":"2.13"}'


def answer(k):
    return Candidate(f"answer {k}", logprob=-k / 7, n_tokens=k, finish="stop", thinking_tokens=[k, 0, None][k % 3])


def answers(n):
    return {k: answer(k) for k in range(n)}


def exact(value):
    """A form in which NaN equals NaN, 0.0 is not -0.0, and a candidate is all that it carries."""
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exact(item) for item in value]
    if isinstance(value, Candidate):
        return ascii((str(value), value.logprob, value.n_tokens, value.finish, value.thinking_tokens))
    return ascii(value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.sqlite"


@pytest.fixture
def store(path):
    with CandidateStore(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory):
    with CandidateStore(tmp_path_factory.mktemp("shared") / "store.sqlite") as opened:
        yield opened


PARTS = {
    "model": "2f1c",
    "adapters": [],
    "prompt": "Which emotion?",
    "audio": {"sha256": "77ab", "start": None, "end": 2.5},
    "sampling": {"temperature": 1.0, "top_p": 0.9},
    "max_gen_toks": 16,
    "until": ["\n"],
    "seed": 0,
}


class TestPoolKey:
    @pytest.mark.parametrize(
        ("part", "other"),
        [
            ("model", "2f1d"),
            ("adapters", ["lora"]),
            ("prompt", "Which emotion? "),
            ("audio", PARTS["audio"] | {"end": 2.5000000000000004}),
            ("sampling", PARTS["sampling"] | {"top_p": None}),
            ("max_gen_toks", 17),
            ("until", []),
            ("seed", False),
            ("seed", "0"),
            ("seed", None),
            ("a part more", 0),
        ],
    )
    def test_another_value_of_any_one_part_is_another_key(self, part, other):
        assert pool_key(**PARTS | {part: other}) != pool_key(**PARTS)

    def test_another_name_of_a_part_is_another_key(self):
        assert pool_key(seed=0) != pool_key(k=0)

    def test_the_order_of_the_parts_does_not_matter(self):
        turned = dict(reversed(PARTS.items())) | {"sampling": dict(reversed(PARTS["sampling"].items()))}
        assert pool_key(**turned) == pool_key(**PARTS)

    def test_the_key_is_this_one_in_every_python(self):
        key = pool_key(prompt="Gefühl? \ud83d\0", temperature=0.1, until=["\n"], seed=None)
        assert key == "a3258200abde2431bb14a1fcec82547caa6b4e5dc52d0dabf25a61994983b72b"

    @pytest.mark.parametrize(
        "part",
        [(1, 2), [("a", "b")], {1, 2}, b"audio", {1: "one"}, Path("model"), "\ud83d\ude00"],
        ids=["tuple", "tuple within", "set", "bytes", "integer key", "path", "halves of a surrogate pair"],
    )
    def test_a_part_that_is_not_plain_json_is_refused(self, part):
        with pytest.raises(TypeError, match="JSON"):
            pool_key(part=part)

    @pytest.mark.parametrize("part", [math.nan, math.inf, [-math.inf]])
    def test_a_float_that_json_does_not_know_is_refused(self, part):
        with pytest.raises(ValueError, match="JSON"):
            pool_key(part=part)


class TestRoundTrip:
    pools = map("pool {}".format, count())
    texts = st.text(st.characters())  # lone surrogates as well
    candidates = st.builds(
        Candidate, texts, st.none() | st.floats(), st.none() | st.integers(0), st.sampled_from(["stop", "length", None])
    ).filter(lambda candidate: (candidate.n_tokens or 0) < 2**63)

    @given(
        samples=st.dictionaries(st.integers(0, 2**40), candidates, max_size=4),
        beams=st.lists(candidates, min_size=1, max_size=4),
        likelihoods=st.dictionaries(texts, st.tuples(st.floats(), st.booleans()), max_size=4),
        ratings=st.dictionaries(texts, st.floats(), max_size=4),
    )
    def test_whatever_is_added_comes_back_exactly(self, shared_store, samples, beams, likelihoods, ratings):
        pool, beam_pool = next(self.pools), next(self.pools)
        shared_store.add_samples({pool: samples}, CPU)
        shared_store.add_beams({beam_pool: beams}, CPU)
        shared_store.add_likelihoods({pool: likelihoods}, CPU)
        shared_store.add_ratings({pool: ratings}, CPU)
        assert exact(shared_store.samples({pool: samples.keys()})) == exact({pool: samples})
        assert exact(shared_store.beams([beam_pool])) == exact({beam_pool: beams})
        assert exact(shared_store.likelihoods({pool: likelihoods.keys()})) == exact({pool: likelihoods})
        assert exact(shared_store.ratings({pool: ratings.keys()})) == exact({pool: ratings})

    @pytest.mark.parametrize(
        ("text", "number"),
        [
            pytest.param("", 0.0, id="empty"),
            pytest.param("nan", math.nan, id="not a number"),
            pytest.param("a\0b\0", -0.0, id="NUL"),
            pytest.param("angry \ud83d", -math.inf, id="lone surrogate"),
            pytest.param("\ud83d\ude00", 5e-324, id="halves of a surrogate pair"),
            pytest.param("\U0001f600", -1 / 3, id="the pair"),
            pytest.param("é e\u0301", -2.0, id="composed and decomposed"),
            pytest.param("because " * 12_500, -1e300, id="100 kB"),
        ],
    )
    def test_odd_texts_and_numbers_are_kept_wherever_one_can_stand(self, store, text, number):
        candidate = Candidate(text, logprob=number)
        store.add_samples({"pool": {0: candidate}}, CPU)
        store.add_likelihoods({"pool": {text: (number, True)}}, CPU)
        store.add_ratings({"pool": {candidate: number}}, CPU)
        assert exact(store.samples({"pool": [0]})) == exact({"pool": {0: candidate}})
        assert exact(store.likelihoods({"pool": [text]})) == exact({"pool": {text: (number, True)}})
        assert exact(store.ratings({"pool": [candidate]})) == exact({"pool": {str(candidate): number}})

    def test_half_a_character_that_an_older_version_kept_is_mended_when_it_is_read(self, store):
        """It kept such a text as bytes; the harness could not write it to the log of the samples."""
        kept = "happy \ud83d".encode("utf-8", "surrogatepass")
        rows = [("pool", 0, None), ("beams", 0, 1)]
        store._add("candidates", [(*row, kept, None, 3, "stop", 0) for row in rows], CPU)
        assert store.samples({"pool": [0]})["pool"][0] == "happy \ufffd"
        assert store.beams(["beams"])["beams"][0] == "happy \ufffd"

    def test_a_candidate_comes_back_with_its_place_in_the_pool(self, store):
        store.add_samples({"samples": {7: Candidate("sad")}}, CPU)
        store.add_beams({"beams": [Candidate("sad"), Candidate("calm")]}, CPU)
        assert store.samples({"samples": [7]})["samples"][7].number == 7
        assert [beam.number for beam in store.beams(["beams"])["beams"]] == [0, 1]


class TestAnswers:
    def test_a_pool_grows_in_k_and_stays_when_the_store_is_closed(self, path):
        for size in (3, 20):
            with CandidateStore(path) as store:
                store.add_samples({"pool": answers(size)}, CPU)
                assert exact(store.samples({"pool": range(size)})) == exact({"pool": answers(size)})

    def test_only_what_is_wanted_and_stored_is_returned(self, store):
        store.add_samples({"a": answers(20), "b": {}}, CPU)
        store.add_likelihoods({"a": {" happy": (-0.5, True), " sad": (-2.0, False)}, "b": {" sad": (-1.0, True)}}, CPU)
        store.add_ratings({"a": {"happy": 4.0, "sad": 2.5}, "b": {"sad": 1.0}}, CPU)
        assert store.samples({"a": [25, 19, 2], "b": [0], "c": [0]}) == {
            "a": {2: "answer 2", 19: "answer 19"},
            "b": {},
            "c": {},
        }
        assert store.likelihoods({"a": [" sad", " calm"], "c": [" sad"]}) == {"a": {" sad": (-2.0, False)}, "c": {}}
        assert store.ratings({"a": ["sad", "calm"], "c": ["sad"]}) == {"a": {"sad": 2.5}, "c": {}}

    def test_the_first_of_two_answers_to_one_key_stays(self, store):
        for value, provenance in ((1.0, CPU), (2.0, GPU)):
            store.add_samples({"samples": {0: Candidate("sad", value)}}, provenance)
            store.add_beams({"beams": [Candidate("sad", value)]}, provenance)
            store.add_likelihoods({"labels": {" sad": (value, True)}}, provenance)
            store.add_ratings({"verifier": {"sad": value}}, provenance)
        assert store.samples({"samples": [0]})["samples"][0].logprob == 1.0
        assert store.beams(["beams"])["beams"][0].logprob == 1.0
        assert store.likelihoods({"labels": [" sad"]}) == {"labels": {" sad": (1.0, True)}}
        assert store.ratings({"verifier": ["sad"]}) == {"verifier": {"sad": 1.0}}
        assert store.origins(["samples", "beams", "labels", "verifier"]) == {CPU_JSON: 4}

    def test_more_pools_than_one_query_takes_are_read_and_counted(self, store):
        everything = {pool_key(clip=clip): answers(3) for clip in range(1_201)}
        store.add_samples(everything, CPU)
        assert exact(store.samples(dict.fromkeys(everything, range(20)))) == exact(everything)
        assert store.origins([*everything, *everything]) == {CPU_JSON: 3_603}

    def test_beams_are_not_samples_and_samples_are_not_beams(self, store):
        store.add_beams({"beams": [answer(0), answer(1)]}, CPU)
        store.add_samples({"samples": answers(2)}, CPU)
        assert store.samples({"beams": range(2)}) == {"beams": {}}
        assert store.beams(["samples", "unknown", "beams", "beams"]) == {"beams": ["answer 0", "answer 1"]}

    @pytest.mark.parametrize("missing", [0, 1, 2])
    def test_a_beam_set_with_a_missing_member_is_not_returned_until_it_is_whole_again(self, store, missing):
        store.add_beams({"pool": list(answers(3).values()), "other": [answer(0)]}, CPU)
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("DELETE FROM candidates WHERE pool = 'pool' AND k = ?", [missing])
        assert store.beams(["pool", "other"]) == {"other": ["answer 0"]}
        store.add_beams({"pool": list(answers(3).values())}, CPU)
        assert exact(store.beams(["pool"])) == exact({"pool": list(answers(3).values())})

    def test_a_mixture_of_machines_is_counted_over_all_kinds_of_answers(self, store):
        store.add_samples({"a": answers(3), "elsewhere": answers(7)}, CPU)
        store.add_samples({"a": answers(5)}, GPU)
        store.add_beams({"b": [answer(0), answer(1)]}, dict(reversed(GPU.items())))
        store.add_likelihoods({"c": {" sad": (-1.0, True)}}, CPU)
        store.add_ratings({"d": {"sad": 1.0}}, CPU)
        assert store.origins(["a", "b", "c", "d", "d", "unknown"]) == {CPU_JSON: 5, GPU_JSON: 4}
        assert store.origins(["unknown"]) == {}

    @pytest.mark.parametrize("finish", ["not_drawn", "error"])
    def test_what_is_no_answer_is_refused_with_its_whole_batch(self, store, finish):
        with pytest.raises(ValueError, match=f"'{finish}' is no answer"):
            store.add_samples({"pool": {0: answer(0), 1: Candidate(finish=finish)}}, CPU)
        with pytest.raises(ValueError, match=f"'{finish}' is no answer"):
            store.add_beams({"pool": [answer(0), Candidate(finish=finish)]}, CPU)
        assert store.origins(["pool"]) == {}

    @pytest.mark.parametrize(
        ("k", "n_tokens", "provenance", "error"),
        [
            (None, 3, CPU, sqlite3.IntegrityError),
            (1, b"3".join, CPU, (sqlite3.ProgrammingError, sqlite3.InterfaceError)),
            (1, 2**63, CPU, OverflowError),
            (1, 3, {"devices": ("cpu", "cuda")}, TypeError),
        ],
    )
    def test_a_programming_error_raises_as_it_is_with_nothing_stored(self, store, k, n_tokens, provenance, error):
        with pytest.raises(error):
            store.add_samples({"pool": {0: answer(0), k: Candidate("a", n_tokens=n_tokens)}}, provenance)
        assert store.origins(["pool"]) == {}
