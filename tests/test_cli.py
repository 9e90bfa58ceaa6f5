from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from support import ROOT
from support.audio import wav
from typer.testing import CliRunner

from ambi_eval.cli import app
from ambi_eval.corpora.manifest import read_manifest
from ambi_eval.corpora.recipes.crema_d import CORPUS
from ambi_eval.paths import manifest_path

VOTES = """\
"","A","D","F","H","N","S","fileName"
"100001",0,0,0,1,10,0,"1001_IEO_NEU_XX"
"100003",0,0,0,3,3,0,"1001_IEO_HAP_MD"
"100004",0,0,0,9,0,0,"1001_IEO_HAP_HI"
"200003",0,1,0,9,0,0,"1001_IEO_HAP_MD"
"""
EVALUATION = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral; Sadness;\t()
"""
RATINGS = 'FileName,EmoDetail\nMSP-PODCAST_0001_0008.wav,"WORKER1; Sad; Sad,Depressed; A:1; V:1; D:1;"\n'
CONSENSUS = "FileName,SpkrID,Gender,Split_Set\nMSP-PODCAST_0001_0008.wav,30,Male,Test1\n"


@pytest.fixture(autouse=True)
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One small release of each corpus, and an empty data directory."""
    files = {
        "crema_d/processedResults/tabulatedVotes.csv": VOTES,
        "crema_d/VideoDemographics.csv": "ActorID,Age,Sex\n1001,51,Male\n",
        "crema_d/AudioWAV/1001_IEO_NEU_XX.wav": wav("a"),
        "crema_d/AudioWAV/1001_IEO_HAP_MD.wav": wav("a"),
        "iemocap/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": EVALUATION,
        "iemocap/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav": wav("a"),
        "msp_podcast/Labels/labels_detailed.csv": RATINGS,
        "msp_podcast/Labels/labels_consensus.csv": CONSENSUS,
        "msp_podcast/Audios/MSP-PODCAST_0001_0008.wav": wav("a"),
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    row = {label: [0.01] for label in ("angry", "disgust", "fear", "happy", "sad")} | {"neutral": [0.95]}
    row |= {"file": ["1001_IEO_NEU_XX.wav"], "gender": ["male"], "transcription": [""]}
    (tmp_path / "mirror").mkdir()
    pq.write_table(pa.table({**row, "audio": [{"bytes": wav("a")}]}), tmp_path / "mirror" / "train.parquet")
    monkeypatch.setenv("AMBI_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_preparing_tells_what_became_of_the_corpus(releases: Path) -> None:
    result = CliRunner().invoke(app, ["prepare", "crema_d", "--source", "crema_d"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "clips      2",
        "skipped    1 (no audio file)",
        "votes      17 (one vote a rater; the authors left out answers that took more than 10 seconds)",
        "raters     6 to 11 per clip, 8.50 on average",
        "ambiguity  0.720 bits on average (entropy of a clip's votes)",
        "unanimous  0 clips",
        "tied       1 clip (several labels share the most votes)",
        "labels     6 labels, drop_clip (the tasks ambi_crema_d_*): 2 clips, 100.0% of the votes",
        "labels     6 labels, renormalise: 2 clips, 100.0% of the votes",
        f"license    {CORPUS.license}",
        f"cite       {CORPUS.citation}",
        f"manifest   {releases / 'data/crema_d/manifest.parquet'}",
    ]


@pytest.mark.parametrize(
    ("arguments", "votes"),
    [
        ("crema_d --source crema_d", {"neutral": 10, "happy": 1}),
        ("crema_d --source crema_d --modality face --allow-missing-audio", {"disgust": 1, "happy": 9}),
        ("crema_d --from-hub mirror", {"neutral": 1}),
        ("iemocap --source iemocap", {"neutral": 0.5, "sad": 0.5}),
        ("iemocap --source iemocap --count-each --allow-missing-audio", {"neutral": 1, "sad": 1}),
        ("msp_podcast --source msp_podcast --release 1.11", {"sad": 1}),
        ("msp_podcast --source msp_podcast --labels secondary", {"sad": 0.5, "depressed": 0.5}),
        ("msp_podcast --source msp_podcast --labels secondary --count-each", {"sad": 1, "depressed": 1}),
    ],
)
def test_options_reach_the_preparer(arguments: str, votes: dict[str, float]) -> None:
    corpus, *_ = arguments.split()
    result = CliRunner().invoke(app, ["prepare", *arguments.split()])
    assert result.exit_code == 0, result.stderr
    folder = f"{corpus}_face" if "face" in arguments else corpus
    clip = read_manifest(manifest_path(folder))[-1]
    assert {label: count for label, count in clip.votes.items() if count} == votes
    assert clip.release == ("1.11" if "1.11" in arguments else None)


def test_the_split_sizes_and_another_folder_are_shown(releases: Path) -> None:
    result = CliRunner().invoke(app, ["prepare", "msp_podcast", "--source", "msp_podcast", "--out", "elsewhere"])
    assert "split      test1: 1 clip" in result.stdout.splitlines()
    assert result.stdout.splitlines()[-1] == "manifest   elsewhere/manifest.parquet"
    assert len(read_manifest(releases / "elsewhere" / "manifest.parquet")) == 1
    assert not manifest_path("msp_podcast").exists()


def test_the_demo_needs_no_release(releases: Path) -> None:
    result = CliRunner().invoke(app, ["prepare", "demo"])
    assert result.exit_code == 0
    assert f"manifest   {releases / 'data/demo/manifest.parquet'}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("crema_d", "crema_d is made from its release: ambi-eval prepare crema_d --source DIR"),
        ("msp_podcast", "msp_podcast is made from its release: ambi-eval prepare msp_podcast --source DIR"),
        ("crema_d --source nowhere", "--source nowhere is no folder"),
        ("iemocap --source crema_d", "crema_d holds no Session1/"),
        ("crema_d --source crema_d --from-hub mirror", "--source does not go with --from-hub"),
        ("crema_d --from-hub mirror --modality av", "--modality does not go with --from-hub"),
        ("iemocap --from-hub mirror --count-each", "--count-each does not go with --from-hub"),
        ("iemocap --from-hub mirror", "has no column 'excited'"),
        ("crema_d --source crema_d --out crema_d/VideoDemographics.csv", "cannot write"),
    ],
)
def test_a_mistake_ends_in_one_line_and_exit_code_2(arguments: str, message: str) -> None:
    result = CliRunner().invoke(app, ["prepare", *arguments.split()])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("ambi_eval: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def run(*command: str) -> subprocess.CompletedProcess[str]:
    root = ROOT
    return subprocess.run([sys.executable, *command], cwd=root, capture_output=True, text=True, check=False)


def test_a_shell_sees_the_line_and_the_exit_code() -> None:
    result = run("-m", "ambi_eval", "prepare", "crema_d", "--source", "/nowhere")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "ambi_eval: --source /nowhere is no folder: give the folder that the release was unpacked to.\n"
    )


def test_help_waits_for_no_heavy_library() -> None:
    heavy = "{'numpy', 'pyarrow', 'torch', 'transformers', 'lm_eval', 'datasets'}"
    result = run("-c", f"import sys, ambi_eval.cli; print(sorted({heavy} & sys.modules.keys()))")
    assert result.stdout == "[]\n", result.stderr


@pytest.mark.slow
def test_a_dry_run_of_a_sweep_loads_no_engine(tmp_path) -> None:
    words = ["sweep", str(ROOT / "grids" / "demo.yaml"), "-o", str(tmp_path / "out"), "--dry-run"]
    heavy = "{'torch', 'transformers', 'lm_eval', 'ray', 'openai'}"
    result = run(
        "-c",
        "import sys; from ambi_eval.cli import app; import typer\n"
        f"typer.main.get_command(app).main({words!r}, standalone_mode=False)\n"
        f"print(sorted({heavy} & sys.modules.keys()))",
    )
    assert result.stdout.endswith("\n[]\n"), result.stderr


def commands_below(group, *words):
    """Yield every command with the words that name it."""
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        yield (*words, name)
        if hasattr(command, "list_commands"):
            yield from commands_below(command, *words, name)


def test_every_help_has_an_example() -> None:
    names = [(), *commands_below(typer.main.get_command(app))]
    assert {("prepare", "crema_d"), ("leaderboard", "pack"), ("sweep",), ("report",)} <= set(names)
    for words in names:
        result = CliRunner().invoke(app, [*words, "-h"])
        assert result.exit_code == 0, result.stderr
        assert " ".join(("Example: ambi-eval", *words)) in " ".join(result.stdout.split()), words


def test_the_version_names_ours_and_the_harness() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.stdout == f"ambi_eval {version('ambi-eval')}, lm_eval {version('lm_eval')}\n"


def test_a_shell_can_complete_the_commands() -> None:
    complete = {"_AMBI_EVAL_COMPLETE": "complete_bash", "COMP_WORDS": "ambi-eval le", "COMP_CWORD": "1"}
    result = CliRunner().invoke(app, [], prog_name="ambi-eval", env=complete)
    assert result.stdout.split() == ["leaderboard"]
