import numpy as np
import pytest
import soundfile
from support import ROOT

from ambi_eval import paths
from ambi_eval.config.known_models import known_models
from ambi_eval.config.load import load_corpus, read_yaml
from ambi_eval.corpora.manifest import Clip, write_manifest
from ambi_eval.errors import AmbiError
from ambi_eval.paths import tasks_dir
from ambi_eval.sweep import cluster
from ambi_eval.sweep.grid import by_group, read_grid
from ambi_eval.sweep.overview import cost_table

TINY = {"model_args": {"pretrained": "ambi-tiny"}}


def names(cells):
    return [cell.name for cell in cells]


class TestCells:
    def test_each_model_runs_each_strategy_on_each_corpus(self, grid):
        cells = grid(models={"a": TINY, "b": TINY}, strategies=["direct", "exact"])
        assert names(cells) == [f"{m}/ambi_demo_{s}" for m in "ab" for s in ("direct", "exact")]
        assert [*by_group(cells)] == ["a.demo.seed-0", "b.demo.seed-0"]

    def test_a_seed_makes_a_run_of_its_own_only_where_answers_are_sampled(self, grid):
        cells = grid(strategies=["direct", "sc"], seeds=[3, 4])
        assert names(cells) == ["tiny/ambi_demo_direct", "tiny/ambi_demo_sc.seed-3", "tiny/ambi_demo_sc.seed-4"]
        assert [cell.seed for cell in cells] == [3, 3, 4]

    def test_an_override_makes_a_run_of_its_own_only_where_it_changes_something(self, grid):
        cells = grid(strategies=["direct", "sc"], metadata=[{}, {"repeats": 5}, {"control": "silence"}])
        assert names(cells) == [
            "tiny/ambi_demo_direct",
            "tiny/ambi_demo_direct.control-silence",
            "tiny/ambi_demo_sc.seed-0",
            "tiny/ambi_demo_sc.repeats-5.seed-0",
            "tiny/ambi_demo_sc.control-silence.seed-0",
        ]

    def test_a_model_may_run_some_strategies_only(self, grid):
        cells = grid(models={"a": TINY, "b": {**TINY, "strategies": ["exact"]}}, strategies=["direct", "exact"])
        assert names(cells) == ["a/ambi_demo_direct", "a/ambi_demo_exact", "b/ambi_demo_exact"]

    def test_a_task_of_ones_own_runs_beside_ours(self, write_grid, tmp_path):
        (tmp_path / "clips.jsonl").write_text(
            '{"id": "1", "audio": "1.wav", "votes": {"calm": 2}}\n{"id": "2", "audio": "2.wav", "votes": {"sad": 1}}'
        )
        for name in ("1.wav", "2.wav"):
            soundfile.write(tmp_path / name, np.zeros(1600), 16000)
        (tmp_path / "mine.yaml").write_text("task: mine\nstrategy: sc\nlabels: [calm, sad]\nmanifest: clips.jsonl\n")
        cells = read_grid(write_grid(tmp_path, tasks=["mine.yaml"]))
        assert names(cells) == ["tiny/ambi_demo_sc.seed-0", "tiny/mine.seed-0"]
        assert (cells[1].clips, cells[1].answers, cells[1].corpus) == (2, 40, "clips")

    def test_some_corpora_of_a_grid_run_alone_and_the_others_need_not_be_there(self, write_grid):
        file = write_grid(corpora=["iemocap", "demo"], tasks=["absent.yaml"])
        assert names(read_grid(file, corpora=["demo"])) == ["tiny/ambi_demo_sc.seed-0"]
        with pytest.raises(AmbiError, match=r"--corpora crema_d: the corpora of .* are iemocap, demo"):
            read_grid(file, corpora=["demo", "crema_d"])


class TestCost:
    def test_answers_that_a_run_before_makes_are_not_counted_again(self, grid):
        cells = grid(
            strategies=["direct", "bon", "wbon", "almv", "sc", "asc", "ens", "exact"],
            metadata=[{}, {"repeats": 25}],
            limit=10,
        )
        assert {cell.name.removeprefix("tiny/ambi_demo_"): cell.answers for cell in cells} == {
            "direct": 10,
            "bon": 50,
            "wbon": 0,
            "almv": 30,
            "sc.seed-0": 200,
            "sc.repeats-25.seed-0": 50,
            "asc.seed-0": 0,
            "asc.repeats-25.seed-0": 0,
            "ens": 50,
            "exact": 0,
        }

    def test_every_model_makes_its_own(self, grid):
        assert [cell.answers for cell in grid(models={"a": TINY, "b": TINY}, limit=2)] == [40, 40]

    def test_a_limit_beyond_the_corpus_is_the_corpus(self, grid):
        everything, limited = grid()[0], grid(limit=10**6)[0]
        assert limited.clips == everything.clips > 10

    def test_the_limit_that_is_given_takes_the_place_of_the_one_in_the_file(self, write_grid):
        assert read_grid(write_grid(limit=5), limit=2)[0].clips == 2


class TestCorporaThatAreNotPrepared:
    def test_a_dry_run_counts_them_by_their_published_size(self, write_grid, monkeypatch, tmp_path):
        monkeypatch.setenv("AMBI_DATA", str(tmp_path))
        path = write_grid(
            corpora=["crema_d", "iemocap"], strategies=["direct", "sc"], metadata=[{}, {"control": "shuffle"}]
        )
        cells = read_grid(path, published=True)
        assert [(cell.clips, cell.prepared) for cell in cells] == [(7442, False)] * 4 + [(10039, False)] * 4
        assert [cell.answers for cell in cells[:4]] == [7442, 7442, 20 * 7442, 20 * 7442]
        assert {cell.audio_seconds for cell in cells} == {5.3 * 3600, 12 * 3600}
        assert {cell.clips for cell in read_grid(path, limit=9, published=True)} == {9}

    def test_nothing_else_takes_them(self, write_grid, monkeypatch, tmp_path):
        monkeypatch.setenv("AMBI_DATA", str(tmp_path))
        path = write_grid(corpora=["crema_d"])
        with pytest.raises(AmbiError, match=r"no manifest of crema_d at .*: make it with ambi-eval prepare crema_d"):
            read_grid(path)

    def test_one_of_unknown_size_is_asked_for(self, write_grid, monkeypatch, tmp_path):
        monkeypatch.setenv("AMBI_DATA", str(tmp_path))
        with pytest.raises(AmbiError, match="no manifest of dusha"):
            read_grid(write_grid(corpora=["dusha"]), published=True)


class TestIdentity:
    @pytest.mark.parametrize(
        "given",
        [
            {"models": {"tiny": {"model_args": {"pretrained": "ambi-tiny", "dtype": "bfloat16"}}}},
            {"seeds": [1]},
            {"limit": 3},
            {"metadata": [{"control": "silence"}]},
            {"metadata": [{"repeats": 3}]},
        ],
    )
    def test_it_changes_with_what_the_results_depend_on(self, grid, given):
        assert grid(models={"tiny": TINY})[0].identity != grid(**{"models": {"tiny": TINY}, **given})[0].identity

    @pytest.mark.parametrize(
        "given",
        [
            {"models": {"tiny": {**TINY, "batch_size": 8, "gpus": 2}}},
            {"models": {"other": TINY, "tiny": TINY}},
            {"strategies": ["direct", "sc"]},
        ],
    )
    def test_it_does_not_change_with_anything_else(self, grid, given):
        plain = grid(models={"tiny": TINY})[0]
        same = next(cell for cell in grid(**{"models": {"tiny": TINY}, **given}) if cell.name == plain.name)
        assert same.identity == plain.identity

    def test_it_changes_with_the_sound_behind_the_same_path(self, write_grid, tmp_path):
        own_corpus(tmp_path, "mine")
        file = write_grid(tmp_path, corpora=None, strategies=None, tasks=["mine.yaml"])
        before = read_grid(file)[0].identity
        assert read_grid(file)[0].identity == before
        soundfile.write(tmp_path / "1.wav", np.full(1600, 0.5), 16000)
        assert read_grid(file)[0].identity != before

    def test_it_changes_with_the_weights_in_the_same_folder(self, write_grid, tmp_path):
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).write_bytes((paths.tasks_dir().parent / "ambi_eval/demo/ambi-tiny" / name).read_bytes())
        file = write_grid(models={"tiny": {"model_args": {"pretrained": str(tmp_path)}}})
        before = read_grid(file)[0].identity
        content = bytearray((tmp_path / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (tmp_path / "model.safetensors").write_bytes(content)
        assert read_grid(file)[0].identity != before

    def test_of_what_is_not_sampled_it_does_not_depend_on_the_seed(self, grid):
        one, other = (grid(strategies=["direct"], seeds=[seed])[0] for seed in (1, 2))
        assert (one.name, one.identity) == (other.name, other.identity)


def own_corpus(folder, task, name="mine"):
    (folder / "clips.jsonl").write_text('{"id": "1", "audio": "1.wav", "votes": {"calm": 2}}')
    (folder / f"{name}.yaml").write_text(f"task: {task}\nstrategy: sc\nlabels: [calm, sad]\nmanifest: clips.jsonl\n")
    soundfile.write(folder / "1.wav", np.zeros(1600), 16000)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"a": "mine", "b": "mine"}, r"a\.yaml and .*b\.yaml are both called 'mine'; give one another name"),
        ({"a": "ambi_demo_sc"}, r"ambi_demo_sc\.yaml and .*a\.yaml are both called 'ambi_demo_sc'"),
        ({"a": "my task"}, r"a\.yaml: task is 'my task'; a grid needs letters, digits"),
    ],
)
def test_the_names_of_tasks_are_names_of_folders_and_different(write_grid, tmp_path, tasks, message):
    for name, task in tasks.items():
        own_corpus(tmp_path, task, name)
    with pytest.raises(AmbiError, match=message):
        read_grid(write_grid(tmp_path, tasks=[f"{name}.yaml" for name in tasks]))


def test_an_audio_file_that_is_missing_is_said_before_anything_runs(write_grid, tmp_path):
    own_corpus(tmp_path, "mine")
    (tmp_path / "1.wav").unlink()
    with pytest.raises(AmbiError, match=r"1\.wav: there is no such audio file"):
        read_grid(write_grid(tmp_path, tasks=["mine.yaml"]))


MISTAKES = [
    ({"model": {}}, r"grid\.yaml: unknown key 'model', did you mean 'models'\?"),
    ({"models": None}, "the key 'models' is missing"),
    ({"models": {}}, "models is {}; it must be at least 1"),
    ({"models": ["tiny"]}, r"models is \['tiny'\]; it must be `key: value` lines"),
    ({"models": {"a/b": TINY}}, "models.a/b is 'a/b'; it must be the name of a folder"),
    ({"models": {"..": TINY}}, "models... is '..'; it must be the name of a folder"),
    ({"models": {"stores": TINY}}, "models.stores is 'stores'; it must be another name"),
    ({"models": {"tiny": {"args": {}}}}, "unknown key 'models.tiny.args' .batch_size, gpus, model, model_args"),
    ({"models": {"tiny": {**TINY, "gpus": -1}}}, "models.tiny.gpus is -1; it must be at least 0"),
    (
        {"models": {"tiny": {**TINY, "batch_size": "many"}}},
        "models.tiny.batch_size is 'many'; it must be a whole number",
    ),
    (
        {"models": {"tiny": {"model": "hf-adio"}}},
        "models: tiny: lm_eval has no model 'hf-adio', did you mean 'hf-audio'",
    ),
    (
        {"models": {"tiny": {"model_args": "pretrained=ambi-tiny"}}},
        "model_args is 'pretrained=ambi-tiny'; it must be `key: value` lines",
    ),
    (
        {"models": {"tiny": {"model_args": {"pretrained": "ambi-tiny", "dtipe": "bf16"}}}},
        "model_args: unknown key 'dtipe', did you mean 'dtype'",
    ),
    ({"models": {"tiny": {"model_args": {"store": "x"}}}}, "it must be without 'store', which the sweep sets"),
    ({"models": {"tiny": {"model_args": {"seed": 1}}}}, "it must be without 'seed', which the sweep sets"),
    (
        {"models": {"tiny": {**TINY, "strategies": ["dirct"]}}},
        "tiny.strategies.0 is 'dirct'; it must be one of ours: .*, did you mean 'direct'",
    ),
    ({"strategies": ["scc"]}, "strategies.0 is 'scc'; it must be one of ours: .*, did you mean 'sc'"),
    ({"strategies": "sc"}, "strategies is 'sc'; it must be a list"),
    ({"strategies": None}, "a grid needs either `corpora` and `strategies` or `tasks`"),
    ({"corpora": ["demoo"]}, "corpora.0 is 'demoo'; it must be one of ours: .*, did you mean 'demo'"),
    ({"corpora": ["iemocap"]}, "no manifest of iemocap .* make it with ambi-eval prepare iemocap"),
    ({"tasks": ["none.yaml"]}, r"none\.yaml is not there"),
    ({"seeds": ["x"]}, "seeds.0 is 'x'; it must be a whole number"),
    ({"seeds": [-1]}, "seeds.0 is -1; it must be at least 0"),
    ({"seeds": [2**32]}, "seeds.0 is 4294967296; it must be less than 4294967296"),
    ({"metadata": [{"repeat": 5}]}, "it must be keys of --metadata: 'repeat' is none, did you mean 'repeats'"),
    ({"metadata": ["silence"]}, "metadata.0 is 'silence'; it must be `key: value` lines"),
    ({"metadata": [{"control": "quiet"}]}, "control is 'quiet'"),
    ({"limit": 0}, "limit is 0; it must be at least 1"),
    ({"limit": "all"}, "limit is 'all'; it must be a whole number"),
]


@pytest.mark.parametrize(("given", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_mistake_is_one_sentence_before_anything_runs(grid, given, message):
    with pytest.raises(AmbiError, match=message):
        grid(**given)


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """Read a grid that is shipped, with corpora of two clips each."""
    monkeypatch.setenv("AMBI_DATA", str(tmp_path))
    for corpus in ("iemocap", "msp_podcast", "crema_d", "whiser"):
        labels = load_corpus(corpus).labels
        votes = dict.fromkeys(labels, 1.0)
        clips = [Clip(id=each, audio="1.wav", votes=votes, speaker=each, session="1") for each in "ab"]
        write_manifest(tmp_path / corpus / "manifest.parquet", clips)
        soundfile.write(tmp_path / corpus / "1.wav", np.zeros(1600), 16000)
    return lambda name, **more: read_grid(ROOT / "grids" / f"{name}.yaml", **more)


@pytest.mark.slow
def test_the_grids_that_are_shipped_are_right(shipped):
    paper = shipped("paper")
    assert len({cell.model_name for cell in paper}) == 8
    assert len(paper) == 3 * (2 * 6 + 6 * 2)
    assert {cell.corpus for cell in shipped("demo")} == {"demo"}


def test_the_grid_of_2026_runs_every_current_model_on_every_open_corpus(shipped):
    corpora = read_yaml(ROOT / "grids" / "2026.yaml")["corpora"]
    assert [f"ambi_{corpus}" for corpus in corpora] == read_yaml(tasks_dir() / "ambi_open.yaml")["task"]
    cells = shipped("2026", corpora=["whiser"])
    assert len({cell.task for cell in cells if cell.model_name == "qwen3-omni"}) == 11
    asked = {value for cell in cells for value in (cell.model_name, *cell.model.model_args.values())}
    found = [each for each in known_models() if {each.checkpoint, each.model, each.name.lower().split(" v")[0]} & asked]
    assert {each.state for each in found} == {"current"}, "nothing that is shut down"
    others = [each for each in known_models() if each not in found]
    assert [each.name for each in others if not each.successor] == ["Qwen2-Audio-7B-Instruct"], (
        "its runs are the paper's"
    )
    paid = {cell.model_name: cell.model.model_args for cell in cells if "base_url" not in cell.model.model_args}
    assert all("max_cost" in args for args in paid.values() if "model" in args)


def test_a_folder_whose_path_is_too_long_for_the_sockets_of_ray_is_refused_at_once(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/tmp/" + "long" * 20)
    with pytest.raises(AmbiError, match="too long for Ray's sockets: set TMPDIR to a shorter one"):
        cluster.RayRunner({})


class TestMoney:
    @pytest.fixture
    def table(self, grid, tmp_path):
        def of(kind, **arguments):
            models = {"m": {"model": kind, "model_args": arguments, "gpus": 0}}
            made = cost_table(grid(models=models, strategies=["direct", "sc"], limit=2), tmp_path)
            columns = {str(column.header): list(column.cells) for column in made.columns}
            return columns.get("cost, at most"), next((c.footer for c in made.columns if "cost" in str(c.header)), None)

        return of

    def test_a_model_of_our_own_costs_nothing(self, table):
        assert table("hf-audio", pretrained="ambi-tiny") == (None, None)

    def test_without_a_price_that_is_said(self, table):
        assert table("openai-audio", model="mine", base_url="http://127.0.0.1:1/v1")[0] == ["no price known"] * 2

    def test_it_is_the_most_that_all_requests_can_cost(self, table):
        (direct, sampled), total = table("openai-audio", model="gpt-audio-1.5", output_price=1_000_000.0)
        assert float(direct.replace(",", "")) == 2 * 256
        assert float(sampled.replace(",", "")) == 2 * 20 * 32
        assert float(total.replace(",", "")) == 2 * 256 + 2 * 20 * 32

    def test_audio_is_paid_once_for_each_request(self, table):
        (direct, sampled), _ = table("gemini-audio", model="gemini-3.8-flash", audio_price=1_000_000.0)
        assert float(sampled.replace(",", "")) == pytest.approx(3 * float(direct.replace(",", "")), abs=0.1), "8, 8, 4"
