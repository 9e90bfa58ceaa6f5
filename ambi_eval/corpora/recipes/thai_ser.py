"""THAI-SER: 200 actors speak Thai, scripted and improvised, in five emotions; crowd workers voted on each turn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ambi_eval.corpora import command as options
from ambi_eval.corpora.manifest import Clip, Rating
from ambi_eval.corpora.preparation import Preparation, how_counted, parts_of, read_json
from ambi_eval.corpora.registry import Corpus
from ambi_eval.errors import AmbiError

CORPUS = Corpus(
    title="THAI-SER",
    language="th",
    license="CC BY-SA 4.0: derived publications must name the authors and keep the license",
    citation="VISTEC-depa AI Research Institute of Thailand, Chulalongkorn University. THAI SER, 2021. "
    "https://github.com/vistec-AI/dataset-releases/releases/tag/v1",
    homepage="https://github.com/vistec-AI/dataset-releases/releases/tag/v1",
    source="studio1-10/ ... zoom11-20/, emotion_label.json and actor_demography.json",
)
LABELS = ("angry", "frustrated", "happy", "neutral", "sad")

# s001_con_actor001_impro1_1: studio (s) or zoom (z), microphone, actor, script or improvisation, turn.
_NAME = re.compile(r"([sz]\d+)_([a-z]+)_actor(\d+)_(script|impro)\w*")


def prepare(
    source: Path,
    out: Path,
    *,
    count_each: options.CountEach = False,
    allow_missing_audio: options.AllowMissingAudio = False,
) -> Preparation:
    """Prepare THAI-SER from its unpacked archives and its two label files, beside which the audio may lie anywhere.

    The release does not name its raters, so raters are distinguished within a clip only: `<clip>/1`, `<clip>/2` ...
    Emotions beyond the five are `other`. Two actors play each session; `folds` holds the eight partitions by studio
    that the authors' experiments use.
    """
    preparation = Preparation(out, CORPUS, allow_missing_audio, how_counted(count_each), count_each)
    labels_path = source / "emotion_label.json"
    actors = {actor["Actor's ID"]: actor for actor in read_json(source / "actor_demography.json")["data"]}
    audio = {path.stem: str(path) for path in source.absolute().rglob("*.flac")}
    for file, entry in sorted(read_json(labels_path).items()):
        name = file.removesuffix(".flac")
        traits = describe(name)
        try:
            entry = entry[0] if isinstance(entry, list) else entry
            ratings = [
                Rating(f"{name}/{number}", tuple(dict.fromkeys(map(_label, words))))
                for number, words in enumerate(entry["annotated"], start=1)
                if words
            ]
            acted = _label(entry["assigned_emo"]) if entry["assigned_emo"] else None
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            what = f"'{file}' is not as released ({error!r})"
            raise AmbiError(f"{labels_path}: {what}: take the official file.") from error
        actor = actors.get(traits["speaker"], {})
        clip = Clip(
            id=name,
            audio=audio.get(name),
            sex=str(actor["Sex"]).lower() if actor.get("Sex") else None,
            age=float(actor["Age"]) if actor.get("Age") else None,
            acted=acted,
            **traits,
            **preparation.panel(ratings),
        )
        preparation.add(clip)
    return preparation.save()


def describe(name: str) -> dict[str, Any]:
    """Return the facts in the name of a turn: session, style, speaker and the folds of its studio.

    >>> describe("s001_con_actor001_impro1_1")["speaker"]
    '001'
    """
    session, _, speaker, style = parts_of(_NAME, name, "a THAI-SER turn (such as s001_con_actor001_impro1_1)")
    return {
        "session": session,
        "speaker": speaker,
        "style": "scripted" if style == "script" else "improvised",
        "folds": studio_folds(int(session[1:])) if session[0] == "s" else {},
    }


def studio_folds(studio: int) -> dict[str, str]:
    """Return the part (train, development or test) of a studio in each of the eight folds.

    Fold 0 tests on studios 76 to 80 and develops on 71 to 75, fold 1 does so with the ten studios before, and so on.

    >>> studio_folds(80)["studio0"], studio_folds(71)["studio0"], studio_folds(1)["studio0"]
    ('test', 'development', 'train')
    """
    own, place = divmod(studio - 1, 10)
    part = "development" if place < 5 else "test"
    return {f"studio{fold}": part if fold == 7 - own else "train" for fold in range(8)}


def _label(word: str) -> str:
    label = word.strip().lower()
    return label if label in LABELS else "other"
