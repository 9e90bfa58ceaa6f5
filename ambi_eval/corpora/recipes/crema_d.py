"""CREMA-D: 91 actors speak 12 sentences in six emotions; about nine listeners voted on each of 7,442 clips."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ambi_eval.corpora import command as options
from ambi_eval.corpora.audb import VOTES, FromAudb, load, read_audb
from ambi_eval.corpora.folds import emo_superb
from ambi_eval.corpora.hub import read_mirror
from ambi_eval.corpora.manifest import Clip, Rating
from ambi_eval.corpora.preparation import (
    NO_AUDIO,
    Preparation,
    count_votes,
    find_folder,
    known_label,
    parts_of,
    read_rows,
)
from ambi_eval.corpora.registry import Corpus
from ambi_eval.errors import AmbiError

CORPUS = Corpus(
    title="CREMA-D",
    language="en",
    license="Open Database License 1.0: published data made from it keep its notice and its license",
    citation="H. Cao, D. G. Cooper, M. K. Keutmann, R. C. Gur, A. Nenkova, R. Verma. CREMA-D: Crowd-sourced Emotional "
    "Multimodal Actors Dataset. IEEE Transactions on Affective Computing 5(4):377-390, 2014.",
    homepage="https://github.com/CheyneyComputerScience/CREMA-D",
    source="AudioWAV/ and processedResults/",
    clips=7_442,
    hours=5.3,
)
Modality = Literal["voice", "face", "av"]

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad")
SENTENCES = {
    "DFA": "Don't forget a jacket.",
    "IEO": "It's eleven o'clock.",
    "IOM": "I'm on my way to the meeting.",
    "ITH": "I think I have a doctor's appointment.",
    "ITS": "I think I've seen this before.",
    "IWL": "I would like a new alarm clock.",
    "IWW": "I wonder what this is about.",
    "MTI": "Maybe tomorrow it will be cold.",
    "TAI": "The airplane is almost full.",
    "TIE": "That is exactly what happened.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
# A clip whose file is valid, but silent.
SILENT = "1076_MTI_SAD_XX"
IS_SILENT = "the recording is silent"
# Clips whose WAV, which a model hears, differs from the MP3 that the raters heard (README of the corpus).
DIFFERING = ("1064_IEO_DIS_MD", "1064_TIE_SAD_XX", "1076_MTI_NEU_XX")
DIFFERS = "the WAV differs from the MP3 that the raters heard"

_VOTE_COLUMNS = dict(zip("ADFHNS", LABELS, strict=True))
_ACTED = dict(zip(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), LABELS, strict=True))
_NAME = re.compile(rf"(\d{{4}})_({'|'.join(SENTENCES)})_({'|'.join(_ACTED)})_(?:LO|MD|HI|XX)")
# The first digit of a row's key in tabulatedVotes.csv: what the raters heard and saw.
_MODALITY_DIGIT = {"voice": "1", "face": "2", "av": "3"}
_AUDB_TABLES = {
    "voice": VOTES,
    "face": r"emotion\.categories\.face\.(train|dev|test)\.votes",
    "av": r"emotion\.categories\.multimodal\.(train|dev|test)\.votes",
}
_QUESTION = ("sessionNums", "queryType", "questNum")
# The table leaves out ratings whose first click came later than this, in milliseconds.
LATEST_FIRST_CLICK = 10_000
_POINTER = "only a Git LFS pointer: run `git lfs pull` in --source"
_POINTER_BYTES = 200


def prepare(
    source: Path | None,
    out: Path,
    *,
    from_hub: options.FromHub = None,
    from_audb: FromAudb = None,
    modality: Annotated[Modality, typer.Option(help="Raters heard the voice, saw the face, or both.")] = "voice",
    leave_out_differing: Annotated[
        bool, typer.Option("--leave-out-differing", help="Leave out three clips whose WAV differs from what was rated.")
    ] = False,
    allow_missing_audio: options.AllowMissingAudio = False,
) -> Preparation:
    """Prepare CREMA-D from a checkout of its repository, or from a mirror; each modality has its own folder.

    The votes are those of `processedResults/tabulatedVotes.csv`, from which the authors left out answers whose first
    click came after more than 10 seconds. If the release has the single ratings and they add up to these votes, the
    clip gets them, with each rater's intensity of the emotion (0 to 100). The corpus has no official split; audb's
    `crema-d`, which has the published votes, has its own.
    """
    counting = "one vote a rater; the authors left out answers that took more than 10 seconds"
    if from_audb is not None:
        options.refuse_together("--from-audb", source=source, from_hub=from_hub)
        preparation = Preparation(out, CORPUS, allow_missing_audio, counting)
        tables = _AUDB_TABLES[modality]
        labels = {"anger": "angry", "happiness": "happy", "sadness": "sad"}
        read_audb(preparation, load(from_audb, tables), tables, labels, describe, unheard={SILENT: IS_SILENT})
    elif from_hub is not None:
        other = modality != "voice"
        options.refuse_together("--from-hub", source=source, modality=other, allow_missing_audio=allow_missing_audio)
        counting = "the smallest panel that fits the mirror's shares, answers that took more than 10 seconds included"
        preparation = Preparation(out, CORPUS, counting=counting)
        read_mirror(preparation, from_hub, LABELS, describe, unheard={SILENT: IS_SILENT})
    else:
        assert source is not None  # the command requires it
        preparation = Preparation(out, CORPUS, allow_missing_audio, counting)
        _read_release(preparation, source, _MODALITY_DIGIT[modality])
    if modality != "face":
        _settle_differing(preparation, leave_out_differing)
    return preparation.save()


def _read_release(preparation: Preparation, source: Path, modality: str) -> None:
    audio = _audio_files(source, preparation.allow_missing_audio)
    demographics = source / "VideoDemographics.csv"
    ratings = _single_ratings(source, modality)
    unlike: list[str] = []
    actors = {row["ActorID"]: row for row in read_rows(demographics, "ActorID", "Age", "Sex")}
    for row in read_rows(source / "processedResults" / "tabulatedVotes.csv", "", "fileName", *_VOTE_COLUMNS):
        if not row[""].startswith(modality):
            continue
        name = row["fileName"]
        traits = describe(name)
        if traits["speaker"] not in actors:
            raise AmbiError(f"{demographics} lacks actor {traits['speaker']}: take the whole official file.")
        actor = actors[traits["speaker"]]
        single = None if ratings is None else ratings.get(name, [])
        votes = {label: float(row[column]) for column, label in _VOTE_COLUMNS.items()}
        clip = Clip(
            id=name,
            **_panel(preparation, votes, single),
            consensus=_VOTE_COLUMNS.get(row.get("emoVote", "")),  # a tie, `A:H`, has none
            audio=None if name == SILENT else audio.get(name),
            sex=actor["Sex"].lower(),
            age=float(actor["Age"]),
            **traits,
        )
        missing = IS_SILENT if name == SILENT else _POINTER if name in audio else NO_AUDIO
        preparation.add(clip, missing)
        if single is not None and not _add_up(single, votes):
            unlike.append(name)
    if ratings is not None:
        _compare_with_table(preparation, unlike)


def _single_ratings(source: Path, modality: str) -> dict[str, list[Rating]] | None:
    """Return the ratings of each clip that the published table counts, or None if the release does not have them.

    The table leaves out each rating whose first click, in `finishedEmoResponses.csv`, came after 10 seconds. The rows
    of the two files are matched as in the authors' script, by a number from session, modality and question.
    """
    finished, first_clicks = source / "finishedResponses.csv", source / "finishedEmoResponses.csv"
    if not (finished.is_file() and first_clicks.is_file()):
        return None
    clicks = read_rows(first_clicks, *_QUESTION, "ttr")
    late = {_question(row) for row in clicks if _number(row["ttr"]) > LATEST_FIRST_CLICK}
    ratings: defaultdict[str, list[Rating]] = defaultdict(list)
    for row in read_rows(finished, *_QUESTION, "localid", "clipName", "respEmo", "respLevel"):
        if row["queryType"] == modality and _question(row) not in late:
            label = _VOTE_COLUMNS[known_label(finished, row["respEmo"], _VOTE_COLUMNS)]
            level = _number(row["respLevel"])
            intensity = None if math.isnan(level) else level
            ratings[row["clipName"]].append(Rating(row["localid"], (label,), intensity=intensity))
    return ratings


def _question(row: dict[str, str]) -> float:
    session, modality, question = (_number(row[column]) for column in _QUESTION)
    return session * 1000 + modality * 100 + question


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # `NA`
        return math.nan


def _panel(preparation: Preparation, votes: dict[str, float], ratings: list[Rating] | None) -> dict[str, Any]:
    """Return the votes of a clip, and its ratings if they add up to the published votes."""
    if ratings is None or not _add_up(ratings, votes):
        return {"votes": votes}
    panel = preparation.panel(ratings)
    return panel | {"votes": dict.fromkeys(LABELS, 0.0) | panel["votes"]}


def _add_up(ratings: Iterable[Rating], votes: dict[str, float]) -> bool:
    return count_votes(ratings, count_each=False) == {label: count for label, count in votes.items() if count}


def _compare_with_table(preparation: Preparation, unlike: Sequence[str]) -> None:
    """Add remarks about the clips whose single ratings add up to the published votes, and those whose do not."""
    if unlike:
        names = ", ".join(unlike[:5]) + (", ..." if len(unlike) > 5 else "")
        told = f"single ratings that do not add up to tabulatedVotes.csv, whose votes count: {names}"
        preparation.remarks[told] += len(unlike)
    like = sum(bool(clip.ratings) for clip in preparation.clips)
    preparation.remarks["clips whose single ratings add up to the votes of tabulatedVotes.csv"] += like


def _settle_differing(preparation: Preparation, leave_out: bool) -> None:
    """Leave out the clips whose WAV differs from what the raters heard, or add a remark that names them."""
    differing = sorted(clip.id for clip in preparation.clips if clip.id in DIFFERING and clip.audio)
    if leave_out:
        preparation.clips = [clip for clip in preparation.clips if clip.id not in differing]
        preparation.skipped[DIFFERS] += len(differing)
    elif differing:
        told = f"{DIFFERS}: {', '.join(differing)}; --leave-out-differing leaves them out"
        preparation.remarks[told] += len(differing)


def describe(name: str) -> dict[str, Any]:
    """Return the facts in the name of a clip: speaker, sentence, transcript, acted emotion and folds.

    >>> describe("1002_DFA_ANG_XX")["transcript"]
    "Don't forget a jacket."
    """
    speaker, sentence, acted = parts_of(_NAME, name, "a CREMA-D clip (such as 1002_DFA_ANG_XX)")
    # EMO-SUPERB puts the actors into blocks of 18, in the order of their numbers; the last block has 19.
    block = min((int(speaker) - 1001) // 18, 4) + 1
    return {
        "speaker": speaker,
        "sentence": sentence,
        "transcript": SENTENCES[sentence],
        "acted": _ACTED[acted],
        "folds": emo_superb(block, tests=(1, 2, 3, 4, 5), step=1),
    }


def _audio_files(source: Path, may_lack_folder: bool) -> dict[str, str | None]:
    """Return the path of each clip's WAV file, or None for a file that is only a Git LFS pointer."""
    if may_lack_folder and not (source / "AudioWAV").is_dir():
        return {}
    files: dict[str, str | None] = {}
    for path in find_folder(source, "AudioWAV").absolute().glob("*.wav"):
        name = path.stem + "X" if path.stem.endswith("_X") else path.stem  # 1040_ITH_SAD_X is an old, misnamed file
        pointer = path.stat().st_size < _POINTER_BYTES and path.read_bytes().startswith(b"version https://git-lfs")
        files[name] = None if pointer else str(path)
    return files
