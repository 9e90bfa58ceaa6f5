"""The commands as a user types them."""

import inspect
import json
import re

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from support import ROOT
from typer.testing import CliRunner

from ambi_eval.cli import app
from ambi_eval.leaderboard import commands


def run(*arguments, exit_code=0):
    result = CliRunner().invoke(app, ["leaderboard", *map(str, arguments)])
    assert result.exit_code == exit_code, result.output
    return result


def test_verify_prints_a_line_for_each_submission_and_its_problems(copy, edit):
    folder, forged = copy("exact"), copy("sc")
    edit.claims(forged, lambda claims: claims["ambi_demo_sc"]["dist"].update(acc=1.0))
    assert run("verify", folder).stdout == f"{folder.name}: re-scored\n"
    said = run("verify", folder.parent, exit_code=1).stdout.splitlines()
    assert said[:2] == [f"{folder.name}: re-scored", f"{forged.name}: REFUSED"]
    assert said[2].startswith("  problem: ambi_demo_sc: dist acc is claimed to be 1.0")


def test_verify_prints_json(copy):
    folder = copy("sc")
    (content,) = json.loads(run("verify", folder, "--json").stdout)
    assert (content["name"], content["accepted"], content["status"]) == (folder.name, True, "re-scored")
    assert content["tasks"]["ambi_demo_sc"]["scores"]["dist"]["jsd_bits"] == pytest.approx(0.0983, abs=1e-4)


def test_what_is_submitted_does_not_command_the_terminal(copy):
    folder = copy("sc", "2026-01-01_x")
    (folder / "\x1b[2Jevil").touch()
    said = run("verify", folder, exit_code=1).stdout
    assert "\x1b" not in said
    assert "evil" in said


def test_a_record_is_written_of_one_accepted_submission(copy, edit, tmp_path):
    folder, record = copy("sc"), tmp_path / "verified.json"
    run("verify", folder, "--record", record)
    content = json.loads(record.read_text())
    assert content[folder.name]["tasks"] == {"ambi_demo_sc": "re-scored"}
    edit.claims(folder, lambda claims: claims["ambi_demo_sc"]["dist"].update(acc=1.0))
    record.unlink()
    run("verify", folder, "--record", record, exit_code=1)
    assert not record.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("verify", "{empty}"), "holds no submissions: name the folder of one, or of several"),
        (("verify", "{missing}"), "is no folder"),
        (("verify", "{empty}", "--rerun", "3"), "--rerun and --record are about one submission"),
        (("verify", "{empty}", "--seed", "3"), "--seed chooses the answers of a re-run: it goes with --rerun"),
        (("build", "--submissions", "{empty}"), "holds no submissions: make one with `ambi-eval leaderboard pack`"),
        (("build", "--submissions", "{one}"), "is one submission: give the folder that holds it"),
        (("build", "--submissions", "{several}", "--record", "{missing}"), "missing is no file: give the one that"),
        (("build", "--submissions", "{several}", "--record", "{empty}"), "empty is no file: give the one that"),
        (
            ("verify", "{one}", "--private", "{nothing}"),
            "nothing is empty: give the private.jsonl that `withhold` wrote",
        ),
        (("verify", "{one}", "--private", "{card}"), "line 1: Invalid JSON: "),
        (("card", "{missing}", "--dataset", "a/b"), "missing is no folder: give the folder of a submission"),
        (("card", "{empty}", "--dataset", "a/b"), "did not pass: the folder 'empty' must be named"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, shipped, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing").touch()
    one = next(shipped.glob("*-cheap"))
    places = {name: tmp_path / name for name in ("empty", "missing", "nothing")}
    places |= {"several": shipped, "one": one, "card": one / "submission.yaml"}
    said = run(*(argument.format(**places) for argument in arguments), exit_code=2).stderr
    assert said.startswith("ambi_eval: ")
    assert message in said
    assert said.count("\n") == 1


def test_build_says_what_it_wrote_and_what_it_does_not_show(copy, tmp_path):
    folder = copy("exact")
    (folder.parent / "junk").mkdir()
    result = run("build", "--submissions", folder.parent, "-o", tmp_path / "site")
    assert result.stdout == f"wrote {tmp_path / 'site' / 'index.html'}: 1 board, 1 submission\n"
    assert "not shown: junk: the folder 'junk' must be named <date>_<model>" in result.stderr


def test_card_is_what_the_hub_reads(copy):
    entries = parse_eval_result_entries(yaml.safe_load(run("card", copy("sc"), "--dataset", "me/ambi").stdout))
    assert [(entry.dataset_id, entry.task_id, entry.value) for entry in entries] == [
        ("me/ambi", "ambi_demo_sc", pytest.approx(0.098307, abs=1e-6)),
        ("me/ambi", "ambi_demo_sc", pytest.approx(0.146952, abs=1e-6)),
    ]
    assert entries[0].notes == "jsd_bits (0 is best), pipeline dist, N = 20, re-scored"


def test_the_schema_is_printed(shipped):
    assert run("schema").stdout == (shipped.parent / "submission.schema.json").read_text()


def test_the_board_is_never_built_where_make_docs_writes():
    (site,) = re.findall(r"^site_dir: (\S+)", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "leaderboard").glob("*.md")]
    said = [folder for page in pages for folder in re.findall(r"leaderboard build .*-o (\S+)", page.read_text())]
    default = inspect.signature(commands.build).parameters["out"].default
    assert len(said) >= 3
    assert site not in [*said, str(default)]
