"""The shipped demo submissions to tamper with, and a forger who has our own software."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import yaml

from ambi_eval.leaderboard.rescore import scoring_task, task_settings
from ambi_eval.leaderboard.site import build
from ambi_eval.leaderboard.submission import read_submission
from ambi_eval.leaderboard.verify import overrides

TESTS = Path(__file__).parent.parent
# Would like to be HTML, a script and a template.
TROUBLE = "<img src=x onerror=document.title='pwned'><script>document.title='pwned'</script>\"'&{{7*7}}"
SUBMISSIONS = TESTS.parent / "leaderboard" / "submissions"


@pytest.fixture(scope="session")
def shipped():
    """The folder of the submissions that come with the repository."""
    return SUBMISSIONS


@pytest.fixture
def copy(tmp_path):
    """A copy of a shipped submission, alone in a folder of submissions: `copy("sc")`."""

    def copied(kind, name=None):
        source = next(SUBMISSIONS.glob(f"*_ambi-tiny-{kind}"))
        return Path(shutil.copytree(source, tmp_path / "submissions" / (name or source.name)))

    return copied


@pytest.fixture(autouse=True)
def _fresh_votes():
    """Votes are read once in a process; a test with a data directory of its own must not leave its votes behind."""
    yield
    scoring_task.cache_clear()
    task_settings.cache_clear()


class Editor:
    """Changes the files of a submission, as whoever submits can."""

    @staticmethod
    def card(folder, change):
        path = folder / "submission.yaml"
        content = yaml.safe_load(path.read_text())
        change(content)
        path.write_text(yaml.safe_dump(content))

    @staticmethod
    def claims(folder, change):
        path = folder / "results.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    @staticmethod
    def answers(folder, change):
        """`change` gets all lines of the first task and may return others."""
        path = sorted((folder / "samples").iterdir())[0]
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        lines = change(lines) or lines
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    @staticmethod
    def forge(folder):
        """Make the claims fit the answers."""
        submission = read_submission(folder)
        claims = {}
        for name, pools in submission.pools.items():
            rescored = scoring_task(name, overrides(submission.card.tasks[name])).score_answers(pools)
            claims[name] = {pipeline: dict(found.metrics) for pipeline, found in rescored.items()}
        (folder / "results.json").write_text(json.dumps(claims))


@pytest.fixture
def edit():
    return Editor


@pytest.fixture(scope="session")
def trouble():
    return TROUBLE


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site of the shipped submissions, one of which makes trouble, and of one that is refused; and its folder."""
    submissions = tmp_path_factory.mktemp("trouble") / "submissions"
    shutil.copytree(SUBMISSIONS, submissions)
    folder = next(submissions.glob("*_ambi-tiny-sc"))
    texts = {"name": TROUBLE, "contact": TROUBLE, "hardware": TROUBLE, "system_instruction": TROUBLE}
    Editor.card(folder, lambda card: card.update(texts, training_data={"demo": TROUBLE}))
    Editor.card(folder, lambda card: card["model"].update(id=TROUBLE, licence=TROUBLE, revision=TROUBLE))
    Editor.answers(folder, lambda lines: lines[0].update(answer=f"sad {TROUBLE}"))
    Editor.forge(folder)
    (submissions / "<img src=x onerror=alert(3)>").mkdir()
    out = submissions.parent / "site"
    return build(submissions, out, submissions.parent / "verified.json"), out
