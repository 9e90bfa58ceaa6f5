"""Reads and writes a submission: its card, its claimed scores, and every answer of the model."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ambi_eval.answers.candidate import Candidate
from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard.schema import ANSWER, CARD, CLAIMS, FOLDER, Card, Claims, check
from ambi_eval.leaderboard.untrusted import (
    MEGABYTE,
    UnpackLimit,
    folder_entries,
    gzip_lines,
    parse_json,
    plain_file,
    read_json,
    read_yaml,
)

CARD_FILE, CLAIMS_FILE, SAMPLES = "submission.yaml", "results.json", "samples"
SUFFIX = ".jsonl.gz"
FOLDER_BYTES = 50 * MEGABYTE

# The answers of each clip, in the order of the pool; for `exact` the labels with their likelihoods.
Pools = Mapping[str, Sequence[Candidate]]


@dataclass(frozen=True, eq=False)
class Submission:
    """A submission in valid form; `verify` checks whether it is true.

    Attributes:
        digest: SHA-256 of its files.
        pools: The answers to each task, by clip.
    """

    name: str
    digest: str
    card: Card
    claims: Claims
    pools: Mapping[str, Pools]


def read_submission(folder: Path) -> Submission:
    """Return the submission in a folder.

    Raises:
        AmbiError: If a file does not fit the schema, is missing, does not belong there, or is no plain file.
    """
    if not FOLDER.fullmatch(folder.name):
        raise AmbiError(f"the folder '{folder.name}' must be named <date>_<model>, such as 2026-01-31_qwen2-audio.")
    files = _files(folder)
    card: Card = check(CARD, read_yaml(files[CARD_FILE]), CARD_FILE)
    claims: Claims = check(CLAIMS, read_json(files[CLAIMS_FILE]), CLAIMS_FILE)
    samples = {name.removesuffix(SUFFIX): file for name, file in files.items() if name.endswith(SUFFIX)}
    for what, tasks in ((CLAIMS_FILE, claims), (SAMPLES, samples)):
        if tasks.keys() != card.tasks.keys():
            odd = ", ".join(sorted(tasks.keys() ^ card.tasks.keys()))
            raise AmbiError(f"{what} and {CARD_FILE} do not name the same tasks: {odd[:300]}.")
    allowed = UnpackLimit()
    return Submission(
        name=folder.name,
        digest=_digest(files),
        card=card,
        claims=claims,
        pools={task: _read_answers(file, allowed) for task, file in sorted(samples.items())},
    )


def write_submission(folder: Path, card: Card, claims: Claims, pools: Mapping[str, Pools]) -> None:
    """Write a submission, completely or not at all; the same content gives the same bytes.

    Raises:
        AmbiError: If the folder exists already, or cannot be written.
    """
    try:
        folder.mkdir(parents=True)
        (folder / SAMPLES).mkdir()
        # Without the settings of `--metadata` and `--gen_kwargs` that were not given.
        said = card.model_dump(exclude_defaults=True)
        text = yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)
        (folder / CARD_FILE).write_text(text, encoding="utf-8")
        (folder / CLAIMS_FILE).write_text(json.dumps(claims, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        for task, of_clips in pools.items():
            # The bytes hold neither the time nor the name of the file.
            with (
                (folder / SAMPLES / f"{task}{SUFFIX}").open("wb") as raw,
                gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
            ):
                packed.writelines(line.encode() for line in _lines(of_clips))
    except FileExistsError as error:
        raise AmbiError(f"{folder} is there already: name another folder, or delete it first.") from error
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise AmbiError(f"cannot write {folder} ({error.strerror or error}): name another folder.") from error


def _files(folder: Path) -> dict[str, Path]:
    """Return the files of a submission by name; any other file is refused."""
    entries = folder_entries(folder)
    files = {name: path for name, path in entries.items() if name != SAMPLES}
    if missing := {CARD_FILE, CLAIMS_FILE, SAMPLES} - entries.keys():
        raise AmbiError(f"{folder.name} lacks {', '.join(sorted(missing))}.")
    if extra := files.keys() - {CARD_FILE, CLAIMS_FILE}:
        raise AmbiError(
            f"{folder.name} holds what does not belong into a submission: {', '.join(sorted(extra))[:300]}."
        )
    samples = folder_entries(entries[SAMPLES])
    if extra := {name for name in samples if not name.endswith(SUFFIX)}:
        raise AmbiError(f"{folder.name}/{SAMPLES} holds what is no *{SUFFIX}: {', '.join(sorted(extra))[:300]}.")
    files |= samples
    if sum(plain_file(path, FOLDER_BYTES).stat().st_size for path in files.values()) > FOLDER_BYTES:
        raise AmbiError(f"{folder.name} has more than {FOLDER_BYTES:,} bytes.")
    return files


def _digest(files: Mapping[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _read_answers(file: Path, allowed: UnpackLimit) -> dict[str, list[Candidate]]:
    pools: dict[str, list[Candidate]] = {}
    for number, line in enumerate(gzip_lines(file, allowed), start=1):
        where = f"{SAMPLES}/{file.name}, line {number}"
        answer = check(ANSWER, parse_json(line, where), where)
        pool = pools.setdefault(answer["clip"], [])
        if answer["sample"] != len(pool):
            raise AmbiError(
                f"{where}: sample {answer['sample']} of the clip {answer['clip']!r:.100} stands where {len(pool)} "
                "must: number the samples of a clip 0, 1, 2 ..., in this order."
            )
        pool.append(
            Candidate(
                answer["answer"],
                logprob=answer["logprob"],
                n_tokens=answer["tokens"],
                finish=answer["finish"],
                number=answer["sample"],
                rating=answer["rating"],
                thinking_tokens=answer.get("thinking_tokens", 0),
            )
        )
    return pools


def _lines(pools: Pools) -> Iterator[str]:
    for clip, pool in sorted(pools.items()):
        for number, answer in enumerate(pool):
            line = {
                "clip": clip,
                "sample": number,
                "answer": str(answer),
                "finish": answer.finish,
                "tokens": answer.n_tokens,
                "logprob": answer.logprob,
                "rating": answer.rating,
                **({} if answer.thinking_tokens == 0 else {"thinking_tokens": answer.thinking_tokens}),
            }
            yield json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"
