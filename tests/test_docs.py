"""The commands of README, tour and tutorials run as they are printed, and the site of the docs is whole."""

import json
import re
import shlex
import shutil

import nbformat
import pytest
import yaml
from mkdocs.commands.build import build
from mkdocs.config import load_config
from nbclient import NotebookClient
from support import ROOT, commands

from ambi_eval.corpora.manifest import read_manifest
from ambi_eval.paths import manifest_path

PAGES = [
    "docs/tour.md",
    *(f"docs/tutorials/{name}.md" for name in ("evaluate_a_model", "add_a_corpus", "submit")),
    "README.md",  # packs the whole run of the page before it
]
# What cannot run here, by its beginning, and where it is tested.
ELSEWHERE = {
    "make": "its own parts: the demo's two commands stand in README too",
    "python bridge.py": "tests/models/test_bridge.py starts the bridge",
    "lm_eval --model vllm-audio": "tests/serving/test_vllm_for_real.py, where vLLM is",
    "ambi-eval funnel": "tests/funnel/test_measure.py",
    "lm_eval --model openai-audio": "tests/models/test_openai_audio.py, with a server",
    "ambi-eval sweep grids/paper.yaml": "tests/sweep/test_grid.py; two of its corpora need a license",
    "lm_eval ... ": "an example of the table, whose dots stand for the command above",
}
# The published model and the corpus on the reader's disk become those of this machine; a few clips suffice.
STAND_INS = {"Qwen/Qwen2-Audio-7B-Instruct": "ambi-tiny", ",dtype=bfloat16": "", "--batch_size auto": "--batch_size 4"}
STAND_INS |= {"pack runs/demo": "pack runs/submit"}


def printed_commands(text):
    """Return the commands in the indented blocks of a page, without comments, each on one line."""
    blocks = "\n".join(re.findall(r"^    (.*)$", text, re.MULTILINE)).replace("\\\n", " ")
    lines = [re.split(r"\s{2,}#", line)[0] for line in blocks.splitlines()]
    each = [part.strip() for line in lines for part in line.split(" ; ")]
    return [" ".join(line.split()) for line in each if re.match(r"(lm_eval|ambi-eval|make|python) ", line)]


def printed_files(text):
    """Return the files that a page shows, by the name above each."""
    return dict(re.findall(r'^```\w+ title="(.+?)"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def reader(crema_d, tmp_path_factory):
    """The folder of somebody who reads all pages, and the commands that this reader has run."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "grids", folder / "grids")
    return folder, set()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs(page, reader, crema_d, monkeypatch):
    folder, ran = reader
    monkeypatch.setenv("AMBI_DATA", str(folder / "data"))
    monkeypatch.chdir(folder)
    text = (ROOT / page).read_text()
    stand_ins = STAND_INS | {"/data/CREMA-D": str(crema_d)}
    printed = [each for each in printed_commands(text) if not each.startswith(tuple(ELSEWHERE))]
    assert len(printed) > 3
    written = False
    for command in printed:
        if not written and "check " in command:
            for name, content in printed_files(text).items():
                (folder / name).write_text(content)
            written = True
        for word, stand_in in stand_ins.items():
            command = command.replace(word, stand_in)
        if command not in ran:
            run(command, folder)
            ran.add(command)


def run(command, folder):
    """Run a printed command on a few clips, so that it takes seconds."""
    program, *words = shlex.split(command)
    if program == "python":
        exec(words[1])
        return
    if program == "lm_eval" and "runs/submit" not in words:  # a submission holds every clip
        words += [] if "--limit" in words else ["--limit", "2"]
    elif "score" in words:
        clips = read_manifest(manifest_path("crema_d"))
        lines = [json.dumps({"id": clip.id, "distribution": {"neutral": 1.0}}) for clip in clips]
        (folder / "predictions.jsonl").write_text("\n".join(lines))
    done = {"lm_eval": commands.lm_eval, "ambi-eval": commands.ambi_eval}[program](*words, cwd=folder)
    assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}{done.stderr[-2000:]}"


def shown(notebook):
    """Return what each cell of a notebook prints and shows, without warnings of other packages."""
    outputs = [
        output for cell in notebook.cells for output in cell.get("outputs", ()) if output.get("name") != "stderr"
    ]
    return [output.get("text") or output["data"]["text/plain"] for output in outputs]


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_was_committed_with(reader, no_pip, monkeypatch):
    folder, _ = reader
    monkeypatch.setenv("PYTHONPATH", no_pip)
    monkeypatch.setenv("AMBI_DATA", str(folder / "data"))
    notebook = nbformat.read(ROOT / "examples" / "tour.ipynb", as_version=4)
    before = shown(notebook)
    assert len(before) > 5
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    assert shown(notebook) == before


@pytest.mark.slow
def test_the_site_has_no_broken_link_and_takes_nothing_from_another_host(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))  # strict: a warning ends it
    pages = list(tmp_path.rglob("*.html"))
    taken = re.compile(r"<(?:script|img|link|iframe)[^>]*(?:src|href)=.?(?:https?:)?//[^>]*>|url\(.?https?:[^)]*\)")
    for page in [*pages, *tmp_path.rglob("*.css")]:
        assert not taken.findall(page.read_text())
    assert {"index.html", "python.html", "commands.html", "ambi_tiny.html"} <= {page.name for page in pages}
    assert "jensen_shannon_divergence" in (tmp_path / "python.html").read_text()


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
