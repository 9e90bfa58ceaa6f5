"""IEMOCAP: ten actors in five sessions play scripts and improvise; three outside raters voted on each turn."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from ambi_eval.corpora import command as options
from ambi_eval.corpora.folds import emo_superb, leave_one_out
from ambi_eval.corpora.hub import read_mirror
from ambi_eval.corpora.manifest import Clip, Rating
from ambi_eval.corpora.preparation import Preparation, find_folder, how_counted, parts_of
from ambi_eval.corpora.registry import Corpus

CORPUS = Corpus(
    title="IEMOCAP",
    language="en",
    license="signed form; neither audio, transcripts, votes nor a manifest may be passed on",
    citation="C. Busso et al. IEMOCAP: Interactive emotional dyadic motion capture database. "
    "Language Resources and Evaluation 42(4):335-359, 2008.",
    homepage="https://sail.usc.edu/iemocap/",
    source="Session1/ to Session5/",
    clips=10_039,
    hours=12,
)
LABELS = ("angry", "disgust", "excited", "fear", "frustrated", "happy", "neutral", "other", "sad", "surprise")
SESSIONS = ("Session1", "Session2", "Session3", "Session4", "Session5")

# The raters' words, which two annotation tools spell differently.
_WORDS = {
    "anger": "angry",
    "disgust": "disgust",
    "excited": "excited",
    "excitement": "excited",
    "fear": "fear",
    "frustration": "frustrated",
    "happiness": "happy",
    "happy": "happy",
    "neutral": "neutral",
    "neutral state": "neutral",
    "other": "other",
    "sadness": "sad",
    "surprise": "surprise",
}
# The first F or M is the actor with the motion-capture markers, the last one is the speaker.
_TURN = re.compile(r"(Ses0[1-5])[FM]_(impro|script)\w+_([FM])(?:XX|\d\d)\d")
# The label that most raters agreed on, and the means of their attributes; `xxx`: no label got the most votes.
_HEADER = re.compile(r"\[[\d.]+ - [\d.]+\]\t(\w+)\t(\w+)\t\[(?:([\d.]+), ([\d.]+), ([\d.]+)\])?")
_CONSENSUS = dict(zip(("ang", "dis", "exc", "fea", "fru", "hap", "neu", "oth", "sad", "sur"), LABELS, strict=True))
# `A-E3: val 3; act 2; dom  3; ()`; some lines lack one of the three.
_ATTRIBUTES = re.compile(r"A-(E\d+):\s*([^(]*)")
_ATTRIBUTE = re.compile(r"(val|act|dom)\s+(\d(?:\.\d+)?)")
_ATTRIBUTE_WORDS = {"val": "valence", "act": "arousal", "dom": "dominance"}
# E1 to E6 are the outside raters; F1 and M1, the actors' self-reports, are not read. The comment in brackets may
# contain a semicolon; no label has a bracket.
_CATEGORY = re.compile(r"C-(E\d+):\s*([^(]*)")
_UTTERANCE = re.compile(r"(\w+) \[[\d.]+-[\d.]+\]:(.*)")


def prepare(
    source: Path | None,
    out: Path,
    *,
    from_hub: options.FromHub = None,
    count_each: options.CountEach = False,
    allow_missing_audio: options.AllowMissingAudio = False,
) -> Preparation:
    """Prepare IEMOCAP from its release, or from a mirror (which lacks the single ratings and the label `other`)."""
    if from_hub is not None:
        others = {"count_each": count_each, "allow_missing_audio": allow_missing_audio}
        options.refuse_together("--from-hub", source=source, **others)
        counting = (
            "each label that a rater chose is a whole vote, as EMO-SUPERB counted, and votes for `other` are lost; "
            "the release (--source) counts 1/k for each of a rater's k labels, so the votes of a clip may differ"
        )
        preparation = Preparation(out, CORPUS, counting=counting, single_raters=False)
        read_mirror(preparation, from_hub, tuple(label for label in LABELS if label != "other"), describe)
        return preparation.save()
    assert source is not None  # the command requires it
    counting = f"{how_counted(count_each)}; a mirror (--from-hub) counts a whole vote each, and lacks `other`"
    preparation = Preparation(out, CORPUS, allow_missing_audio, counting, count_each)
    for session in SESSIONS:
        if not (source / session).is_dir() and session != SESSIONS[0]:
            preparation.remarks[f"{session}/ is missing"] += 1
            continue
        folder = find_folder(source, session).absolute()
        for evaluation in sorted(find_folder(folder, "dialog/EmoEvaluation").glob("Ses*.txt")):
            dialogue = evaluation.stem
            transcripts = _transcripts(folder / "dialog" / "transcriptions" / evaluation.name)
            turns = _turns(evaluation, preparation.remarks)
            if unrated := transcripts.keys() - turns:
                preparation.remarks["turns that are transcribed, but have neither audio nor votes"] += len(unrated)
            for name, (facts, ratings) in turns.items():
                audio = folder / "sentences" / "wav" / dialogue / f"{name}.wav"
                clip = Clip(
                    id=name,
                    **preparation.panel(ratings),
                    **facts,
                    transcript=transcripts.get(name),
                    audio=str(audio) if audio.is_file() else None,
                    **describe(name),
                )
                preparation.add(clip)
    return preparation.save()


def describe(name: str) -> dict[str, Any]:
    """Return the facts in the name of a turn: session, dialogue, style, speaker, sex and folds.

    >>> describe("Ses01F_script01_1b_M003")["speaker"]
    'Ses01_M'
    """
    session, style, sex = parts_of(_TURN, name, "an IEMOCAP turn (such as Ses01F_impro01_F000)")
    number = int(session[-1])
    return {
        "session": session,
        "dialogue": name.rsplit("_", 1)[0],
        "style": "scripted" if style == "script" else "improvised",
        "speaker": f"{session}_{sex}",
        "sex": "female" if sex == "F" else "male",
        "folds": leave_one_out(number, 5, "session") | emo_superb(number, tests=(4, 3, 2, 1, 5), step=1),
    }


def _turns(path: Path, remarks: Counter[str]) -> dict[str, tuple[dict[str, Any], list[Rating]]]:
    """Return the consensus on each turn of a dialogue, and the outside raters' ratings."""
    turns: dict[str, tuple[dict[str, Any], list[Rating]]] = {}
    for line in _lines(path):
        if header := _HEADER.match(line):
            name = header[1]
            means = zip(("valence", "arousal", "dominance"), header.groups()[2:], strict=True)
            known = {attribute: float(mean) for attribute, mean in means if mean}
            turns[name] = ({"consensus": _CONSENSUS.get(header[2]), **known}, [])
        elif turns and (attributes := _ATTRIBUTES.match(line)):
            ratings, stated = turns[name][1], _ATTRIBUTE.findall(attributes[2])
            told: dict[str, Any] = {_ATTRIBUTE_WORDS[word]: float(number) for word, number in stated}
            # The lines of a rater's emotions come before those of the attributes.
            ratings[:] = [replace(each, **told) if each.rater == attributes[1] else each for each in ratings]
        elif turns and (category := _CATEGORY.match(line)):
            words = [word.strip() for word in category[2].split(";") if word.strip()]
            for word in words:
                if word.lower() not in _WORDS:
                    remarks[f"the label '{word}' counted as other"] += 1
            if words:
                labels = dict.fromkeys(_WORDS.get(word.lower(), "other") for word in words)
                turns[name][1].append(Rating(category[1], tuple(labels)))
    return turns


def _transcripts(path: Path) -> dict[str, str]:
    """Return what is said in each turn of a dialogue; lines that name no turn are skipped."""
    matches = map(_UTTERANCE.match, _lines(path) if path.is_file() else [])
    return {match[1]: match[2].strip() for match in matches if match}


def _lines(path: Path) -> list[str]:
    # The words are ASCII. Raters' comments may have any encoding, and latin-1 reads them all.
    return path.read_text(encoding="latin-1").split("\n")
