"""The README's commands run as they are printed, and the files that the other pages name are there."""

import json
import re
import shlex
import shutil

import pytest
import yaml
from support import ROOT, commands

from ambi_eval.corpora.manifest import read_manifest
from ambi_eval.paths import manifest_path

README = (ROOT / "README.md").read_text()
# What cannot run here, by its beginning, and where it is tested.
ELSEWHERE = {
    "make": "its own parts: the demo's two commands stand in README too",
    "python bridge.py": "tests/models/test_bridge.py starts the bridge",
    "lm_eval --model openai-audio": "tests/models/test_openai_audio.py, with a server",
    "ambi-eval sweep grids/paper.yaml": "tests/sweep/test_grid.py; two of its corpora need a license",
    "ambi-eval leaderboard pack": "tests/leaderboard/test_pack.py, with all that a submitter must say",
}
# The published model and the corpus on the reader's disk become those of this machine; a few clips suffice.
STAND_INS = {"Qwen/Qwen2-Audio-7B-Instruct": "ambi-tiny", ",dtype=bfloat16": "", "--batch_size auto": "--batch_size 4"}


def printed_commands(text):
    """Return the commands in the indented blocks of a page, without comments, each on one line."""
    blocks = "\n".join(re.findall(r"^    (.*)$", text, re.MULTILINE)).replace("\\\n", " ")
    lines = [re.split(r"\s{2,}#", line)[0] for line in blocks.splitlines()]
    each = [part.strip() for line in lines for part in line.split(" ; ")]
    return [" ".join(line.split()) for line in each if re.match(r"(lm_eval|ambi-eval|make|python) ", line)]


@pytest.mark.slow
def test_every_command_of_the_readme_runs(crema_d, tmp_path, monkeypatch):
    monkeypatch.setenv("AMBI_DATA", str(tmp_path / "data"))
    shutil.copytree(ROOT / "grids", tmp_path / "grids")
    stand_ins = STAND_INS | {"/data/CREMA-D": str(crema_d), "verify PATH": f"verify {ROOT}/leaderboard/submissions"}
    ran = set()
    for command in printed_commands(README):
        if any(command.startswith(beginning) for beginning in ELSEWHERE):
            continue
        ran.add(command.split(" -")[0].partition(" /")[0])
        for word, stand_in in stand_ins.items():
            command = command.replace(word, stand_in)
        program, *words = shlex.split(command)
        if program == "python":
            monkeypatch.chdir(tmp_path)
            exec(words[1])
            continue
        if program == "lm_eval":
            words += ["--limit", "2"]
        elif "sweep" in words:
            words += [] if "--dry-run" in words else ["--dry-run"]
        elif "score" in words:
            clips = read_manifest(manifest_path("crema_d"))
            lines = [json.dumps({"id": clip.id, "distribution": {"neutral": 1.0}}) for clip in clips]
            (tmp_path / "predictions.jsonl").write_text("\n".join(lines))
        for name in ("a", "b"):
            if f"runs/{name}" in words:
                shutil.copytree(tmp_path / "runs" / "demo", tmp_path / "runs" / name)
        done = {"lm_eval": commands.lm_eval, "ambi-eval": commands.ambi_eval}[program](*words, cwd=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
    assert {"lm_eval", "ambi-eval baselines demo", "ambi-eval doctor", "ambi-eval leaderboard verify PATH"} <= ran


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md"])
def test_every_file_that_a_page_names_is_there(page):
    text = (ROOT / page).read_text()
    named = re.findall(r"`((?:ambi_eval|tests|tasks|docs|grids|leaderboard)/[\w./-]*)`", text)
    named += re.findall(r"\]\(([\w./-]+)\)", text)
    made_up = {name for name in named if "NAME" in name}
    missing = [name for name in named if name not in made_up and not (ROOT / name).exists()]
    assert not missing
    assert len(named) > 5


def test_the_citation_names_the_version_that_is_built():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert str(citation["version"]) == version
    assert citation["cff-version"] == "1.2.0"
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
