"""MSP-IMPROV: twelve actors in six sessions improvise around 20 sentences; crowd workers saw and heard each turn."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from ambi_eval.corpora import command as options
from ambi_eval.corpora.folds import emo_superb
from ambi_eval.corpora.manifest import Clip, Rating
from ambi_eval.corpora.msp_labels import Choice, ChoiceOption, number_of, refuse_count_each
from ambi_eval.corpora.preparation import Preparation, how_counted, parts_of, present
from ambi_eval.corpora.registry import Corpus
from ambi_eval.errors import AmbiError

CORPUS = Corpus(
    title="MSP-IMPROV",
    language="en",
    license="signed agreement; neither audio, transcripts, votes nor a manifest may be passed on",
    citation="C. Busso, S. Parthasarathy, A. Burmania, M. AbdelWahab, N. Sadoughi, E. Mower Provost. MSP-IMPROV: An "
    "Acted Corpus of Dyadic Interactions to Study Emotion Perception. IEEE Transactions on Affective Computing "
    "8(1):67-80, 2017.",
    homepage="https://www.lab-msp.com/MSP/MSP-Improv.html",
    source="Evaluation.txt and session1/ to session6/",
    clips=8_438,
)
LABELS = ("angry", "happy", "neutral", "other", "sad")
SECONDARY_LABELS = (*LABELS, "depressed", "disgust", "excited", "fear", "frustrated", "surprise")

_EMOTIONS = {"A": "angry", "H": "happy", "N": "neutral", "O": "other", "S": "sad"}  # X: no label got the most votes
_SECONDARY = {"disgusted": "disgust", "fearful": "fear", "surprised": "surprise"}
# MSP-IMPROV-S01A-F01-P-FM01: sentence, emotion of the scenario, actor, kind of turn, listener and speaker.
_NAME = re.compile(r"MSP-IMPROV-S(\d\d)([AHNS])-([FM])(0[1-6])-([PRST])-\w+")
_NUMBER = r"\s*(\d+(?:\.\d+)?|NaN)\s*"
_TURN = re.compile(rf"UTD-IMPROV-([\w-]+)\.avi;\s*([A-Z]);\s*A:{_NUMBER};\s*V:{_NUMBER};\s*D:{_NUMBER};.*")
_RATING = re.compile(rf"([\w-]+);\s*(\w+)[^;]*;\s*(.*);\s*A:{_NUMBER};\s*V:{_NUMBER};\s*D:{_NUMBER};\s*N:{_NUMBER};?")
# The corpus rates activation from 1, high, to 5, low.
_FLIPPED = 6.0


def prepare(
    source: Path,
    out: Path,
    *,
    labels: ChoiceOption = "primary",
    count_each: options.CountEach = False,
    allow_missing_audio: options.AllowMissingAudio = False,
) -> Preparation:
    """Prepare MSP-IMPROV from its release, in which the audio may lie anywhere.

    `arousal` is 6 minus the published activation, which is lower for a more active voice. `folds` holds the six folds
    of EMO-SUPERB, by session.
    """
    refuse_count_each(count_each, labels)
    preparation = Preparation(out, CORPUS, allow_missing_audio, how_counted(count_each), count_each)
    path = present(source / "Evaluation.txt", source / "Evalution.txt")
    audio = {file.stem: str(file) for file in source.absolute().rglob("MSP-IMPROV-*.wav")}
    turns = _turns(path, labels, preparation.remarks)
    for name, (facts, ratings) in turns.items():
        preparation.add(Clip(id=name, audio=audio.get(name), **describe(name), **facts, **preparation.panel(ratings)))
    if unrated := audio.keys() - turns:
        preparation.skipped["no published votes"] += len(unrated)
    return preparation.save()


def describe(name: str) -> dict[str, Any]:
    """Return the facts in the name of a turn: speaker, sex, session, sentence, style, folds and the scenario's emotion.

    >>> describe("MSP-IMPROV-S01A-F02-R-FF01")["style"]
    'scripted'
    """
    turn = "an MSP-IMPROV turn (such as MSP-IMPROV-S01A-F01-P-FM01)"
    sentence, emotion, sex, session, scenario = parts_of(_NAME, name, turn)
    return {
        "speaker": sex + session,
        "sex": "female" if sex == "F" else "male",
        "session": f"session{int(session)}",
        # Actors read (R), say the sentence in an improvisation (T), improvise around it (S), or talk in a pause (P).
        "sentence": f"S{sentence}" if scenario in "RT" else None,
        "style": "scripted" if scenario == "R" else "improvised",
        "acted": None if scenario == "P" else _EMOTIONS[emotion],
        "folds": emo_superb(int(session), tests=(4, 3, 2, 1, 6, 5), step=-1),
    }


def _turns(path: Path, choice: Choice, remarks: Counter[str]) -> dict[str, tuple[dict[str, Any], list[Rating]]]:
    """Return the consensus on each turn, and its ratings."""
    turns: dict[str, tuple[dict[str, Any], list[Rating]]] = {}
    ratings: list[Rating] | None = None
    for line in path.read_text(encoding="latin-1").splitlines():
        if turn := _TURN.fullmatch(line.strip()):
            arousal, valence, dominance = (number_of(turn[place]) for place in (3, 4, 5))
            facts = {
                "consensus": _EMOTIONS.get(turn[2]),
                "arousal": None if arousal is None else round(_FLIPPED - arousal, 6),
                "valence": valence,
                "dominance": dominance,
            }
            ratings = []
            turns[f"MSP-IMPROV-{turn[1]}"] = (facts, ratings)
        elif line.strip():
            rating = _RATING.fullmatch(line.strip())
            if rating is None or ratings is None:
                remarks["lines of the evaluation that could not be read"] += 1
                continue
            words = [rating[2], *(rating[3].split(",") if choice == "secondary" else [])]
            known = SECONDARY_LABELS if choice == "secondary" else LABELS
            labels = dict.fromkeys(_label(word.strip(), known) for word in words if word.strip())
            arousal, valence, dominance = (number_of(rating[place]) for place in (4, 5, 6))
            flipped = None if arousal is None else _FLIPPED - arousal
            ratings.append(Rating(rating[1], tuple(labels), flipped, valence, dominance))
    if not turns:
        raise AmbiError(f"{path} holds no turn (`UTD-IMPROV-S01A-F01-P-FM01.avi; N; ...`): take the official file.")
    return turns


def _label(word: str, known: tuple[str, ...]) -> str:
    label = _SECONDARY.get(word.lower(), word.lower())
    return label if label in known else "other"
