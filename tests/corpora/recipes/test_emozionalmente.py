from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.audio import wav
from support.references import references

from ambi_eval.corpora.manifest import Clip, Manifest, Rating, read_manifest
from ambi_eval.corpora.preparation import summarize
from ambi_eval.corpora.recipes import emozionalmente
from ambi_eval.errors import AmbiError

EVALUATIONS = """\
file_name,evaluator,audio_quality,emotion_recognized
1.wav,rater1,good,anger
1.wav,rater2,bad,joy
1.wav,rater2,bad,joy
2.wav,rater1,good,neutrality
2.wav,actor2,good,neutrality
2.wav,actor2,good,sadness
"""
SAMPLES = """\
file_name,sentence,sentence_language,actor,emotion_expressed
1.wav,E' andato a scuola,italian,actor1,anger
2.wav,Tornerà a casa presto,italian,actor1,neutrality
3.wav,E' andato a scuola,italian,actor2,surprise
"""
USERS = """\
username,gender,age,mother_tongue
actor1,male,30,italian
actor2,female,1,italian
rater1,other,22,italian
rater2,female,45,italian
"""

SHIFT = {"uniform": 2.22e-5, "prior": 3.86e-5, "oracle": -1.2e-5, "one human": 1.403e-4, "always": -1.739e-4}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "emozionalmente_dataset"
    for name in ("metadata", "audio"):
        (folder / name).mkdir(parents=True)
    tables = {"evaluations": EVALUATIONS, "samples": SAMPLES, "users": USERS}
    for name, content in tables.items():
        (folder / "metadata" / f"{name}.csv").write_text(content, encoding="utf-8")
    for name in ("1", "2", "3"):
        (folder / "audio" / f"{name}.wav").write_bytes(wav(name))
    return folder


def test_a_clip_carries_all_that_the_release_says(release: Path, tmp_path: Path) -> None:
    preparation = emozionalmente.prepare(release, tmp_path / "out")
    first, second = read_manifest(preparation.manifest)
    assert first == Clip(
        id="1",
        votes={"angry": 1.0, "joy": 1.0},
        audio=str(release / "audio" / "1.wav"),
        speaker="actor1",
        sex="male",
        age=30.0,
        sentence="s01",
        transcript="E' andato a scuola",
        acted="angry",
        sha256=first.sha256,
        ratings=(Rating("rater1", ("angry",)), Rating("rater2", ("joy",))),
    )
    assert preparation.skipped == {"no votes": 1}
    assert second.sentence == "s02"


def test_a_rater_who_rated_a_clip_twice_is_one_rater(release: Path, tmp_path: Path) -> None:
    preparation = emozionalmente.prepare(release, tmp_path / "out")
    assert preparation.clips[1].votes == {"neutral": 1.5, "sad": 0.5}
    assert preparation.clips[1].ratings[-1] == Rating("actor2", ("neutral", "sad"))
    assert preparation.remarks["ratings by a rater who had rated the clip before, counted as one rating"] == 2


def test_sex_and_age_of_the_raters_are_kept_but_no_age_that_cannot_be(release: Path, tmp_path: Path) -> None:
    manifest = read_manifest(emozionalmente.prepare(release, tmp_path / "out").manifest)
    assert manifest.about["raters"] == {
        "rater1": {"sex": "other", "age": 22.0},
        "rater2": {"sex": "female", "age": 45.0},
        "actor2": {"sex": "female"},
    }


def test_the_published_split_of_the_actors_is_taken_over(release: Path, tmp_path: Path) -> None:
    splits = tmp_path / "speaker_splits.json"
    splits.write_text('{"train": ["actor2"], "dev": ["actor1"], "test": []}')
    clips = emozionalmente.prepare(release, tmp_path / "out", splits=splits).clips
    assert {clip.split for clip in clips if clip.speaker == "actor1"} == {"development"}
    splits.write_text("[1]")
    with pytest.raises(AmbiError, match=r"is no speaker_splits\.json of audeering"):
        emozionalmente.prepare(release, tmp_path / "out", splits=splits)


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("evaluations", "joy", "boredom", "evaluations.csv: 'boredom' is no emotion of the corpus"),
        ("samples", "surprise", "boredom", "samples.csv: 'boredom' is no emotion of the corpus"),
        ("users", "username", "name", "users.csv has no column 'username'"),
    ],
)
def test_a_table_that_is_not_as_released_is_named(
    release: Path, tmp_path: Path, table: str, old: str, new: str, message: str
) -> None:
    path = release / "metadata" / f"{table}.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(AmbiError, match=message):
        emozionalmente.prepare(release, tmp_path / "out")


class TestRealRatings:
    """The figures of the published ratings, computed by other ways than ours."""

    @pytest.fixture
    def manifest(self, real_labels: Callable[[str], Path], tmp_path: Path) -> Manifest:
        source = real_labels("emozionalmente")
        return read_manifest(emozionalmente.prepare(source, tmp_path, allow_missing_audio=True).manifest)

    def test_clips_raters_and_ambiguity(self, manifest: Manifest) -> None:
        summary = summarize(manifest)
        assert (summary.clips, summary.unanimous, summary.tied) == (6_902, 1_792, 715)
        assert summary.votes == pytest.approx(34_510 - 42)  # 42 rows repeat a rater's judgment of a clip
        assert summary.ambiguity_bits == pytest.approx(0.832, abs=5e-4)
        assert len({clip.speaker for clip in manifest}) == 431
        assert len({rating.rater for clip in manifest for rating in clip.ratings}) == 829
        assert len(manifest.about["raters"]) == 829
        assert len({clip.sentence for clip in manifest}) == 18
        hits = [clip.votes.get(str(clip.acted), 0) / sum(clip.votes.values()) for clip in manifest]
        assert np.mean(hits) == pytest.approx(0.664, abs=2e-3)

    def test_the_references_are_those_of_an_independent_computation(
        self, manifest: Manifest, real_labels: Callable[[str], Path]
    ) -> None:
        """The known figures count all 34,510 rows. Those of 829 raters differ from them in the fourth digit."""
        labels = sorted(emozionalmente.LABELS.values())
        rows: defaultdict[str, Counter[str]] = defaultdict(Counter)
        with (real_labels("emozionalmente") / "metadata" / "evaluations.csv").open(encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                rows[row["file_name"].removesuffix(".wav")][emozionalmente.LABELS[row["emotion_recognized"]]] += 1
        of_rows = np.array([[rows[clip.id][label] for label in labels] for clip in manifest], float)
        of_raters = np.array([[clip.votes.get(label, 0) for label in labels] for clip in manifest])
        known = {"uniform": 0.5198, "prior": 0.5084, "oracle": 0.1352, "one human": 0.3537, "always": 0.194}
        assert references(of_rows) == pytest.approx(known, abs=6e-5 * 5)
        # What 42 repeated judgments change: the fourth digit, and this much.
        shift = {name: references(of_raters)[name] - known for name, known in references(of_rows).items()}
        assert shift == pytest.approx(SHIFT, abs=1e-7)
