import pytest
from support import ROOT

from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.manifest import Clip, write_manifest
from ambi_eval.errors import AmbiError
from ambi_eval.sweep.grid import by_group, read_grid

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
        (tmp_path / "mine.yaml").write_text("task: mine\nstrategy: sc\nlabels: [calm, sad]\nmanifest: clips.jsonl\n")
        cells = read_grid(write_grid(tmp_path, tasks=["mine.yaml"]))
        assert names(cells) == ["tiny/ambi_demo_sc.seed-0", "tiny/mine.seed-0"]
        assert (cells[1].clips, cells[1].answers, cells[1].corpus) == (2, 40, "clips")


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

    def test_of_what_is_not_sampled_it_does_not_depend_on_the_seed(self, grid):
        one, other = (grid(strategies=["direct"], seeds=[seed])[0] for seed in (1, 2))
        assert (one.name, one.identity) == (other.name, other.identity)


MISTAKES = [
    ({"model": {}}, r"grid\.yaml: unknown key 'model', did you mean 'models'\?"),
    ({"models": None}, "a grid needs `models`"),
    ({"models": ["tiny"]}, r"models must be `name: \.\.\.` lines, it is \['tiny'\]"),
    ({"models": {"a/b": TINY}}, "models: a/b: a model's name is the name of a folder"),
    ({"models": {"tiny": {"args": {}}}}, "models: tiny: unknown key 'args' .batch_size, gpus, model, model_args"),
    (
        {"models": {"tiny": {"model": "hf-adio"}}},
        "models: tiny: lm_eval has no model 'hf-adio', did you mean 'hf-audio'",
    ),
    ({"models": {"tiny": {"model_args": "pretrained=ambi-tiny"}}}, "model_args must be `key: value` lines"),
    ({"models": {"tiny": {"model_args": {"dtipe": "bf16"}}}}, "model_args: unknown key 'dtipe', did you mean 'dtype'"),
    ({"models": {"tiny": {"model_args": {"store": "x"}}}}, "take 'store' out of model_args"),
    ({"models": {"tiny": {"model_args": {"seed": 1}}}}, "take 'seed' out of model_args"),
    (
        {"models": {"tiny": {**TINY, "strategies": ["dirct"]}}},
        "tiny: no strategy 'dirct', did you mean 'direct'",
    ),
    ({"strategies": ["scc"]}, "no strategy 'scc', did you mean 'sc'"),
    ({"strategies": "sc"}, "strategies must be a list, it is 'sc'"),
    ({"strategies": None}, "a grid needs `models`, and either `corpora` and `strategies` or `tasks`"),
    ({"corpora": ["demoo"]}, "no corpus 'demoo', did you mean 'demo'"),
    ({"corpora": ["iemocap"]}, "no manifest of iemocap .* make it with ambi-eval prepare iemocap"),
    ({"tasks": ["none.yaml"]}, r"none\.yaml is not there"),
    ({"seeds": ["x"]}, r"seeds must be whole numbers, they are \['x'\]"),
    ({"metadata": [{"repeat": 5}]}, "metadata: unknown key 'repeat', did you mean 'repeats'"),
    ({"metadata": ["silence"]}, "metadata: there must be `key: value` lines, there is 'silence'"),
    ({"metadata": [{"control": "quiet"}]}, "control is 'quiet'"),
    ({"limit": 0}, "limit is 0; it must be at least 1 clip"),
    ({"limit": "all"}, "limit must be a whole number, it is 'all'"),
]


@pytest.mark.parametrize(("given", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_mistake_is_one_sentence_before_anything_runs(grid, given, message):
    with pytest.raises(AmbiError, match=message):
        grid(**given)


def test_the_grids_that_are_shipped_are_right(monkeypatch, tmp_path):
    monkeypatch.setenv("AMBI_DATA", str(tmp_path))
    for corpus in ("iemocap", "msp_podcast", "crema_d"):
        labels = load_corpus(corpus).labels
        clips = [Clip(id="1", audio="1.wav", votes=dict.fromkeys(labels, 1.0), speaker="a", session="1")]
        write_manifest(tmp_path / corpus / "manifest.parquet", clips)
    grids = ROOT / "grids"
    paper = read_grid(grids / "paper.yaml")
    assert len({cell.model.name for cell in paper}) == 8
    assert len(paper) == 3 * (2 * 6 + 6 * 2)
    assert {cell.corpus for cell in read_grid(grids / "demo.yaml")} == {"demo"}
