"""Whole sweeps of ambi-tiny, in processes that are killed, against the stock `lm_eval`."""

import json
import pickle
import re

import pytest
from support import commands
from support.processes import forked_for_spawned

from ambi_eval.harness.results import read_runs
from ambi_eval.sweep.local import LocalRunner
from ambi_eval.sweep.overview import finished_runs

pytestmark = pytest.mark.slow

STRATEGIES = ["direct", "sc", "asc", "exact"]
CLIPS = 24  # enough to be killed in the middle of
SAMPLES = 20 * CLIPS


@pytest.fixture(scope="module")
def sweep(folder):
    """Run `ambi-eval sweep` with these words."""

    def run(*words):
        with forked_for_spawned():
            return commands.ambi_eval("sweep", *words, cwd=folder)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def stock(lm_eval_run, folder):
    """What the stock command makes of the same tasks, by task."""
    tasks = ",".join(f"ambi_demo_{strategy}" for strategy in STRATEGIES)
    words = ["--model", "hf-audio", "--model_args", "pretrained=ambi-tiny,store=none", "--device", "cpu"]
    words += ["--tasks", tasks, "--limit", CLIPS, "--seed", 0, "--log_samples", "--output_path", "stock"]
    done = lm_eval_run(*words, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(next((folder / "stock").rglob("results_*.json")).read_text())["results"]


@pytest.fixture(scope="module")
def cells(grid):
    return grid(strategies=STRATEGIES, limit=CLIPS)


class TestOneMachine:
    @pytest.fixture(scope="class")
    def killed(self, cells, folder, run, losing):
        """A sweep whose process is killed once, in the middle of sampling."""
        engine = losing(LocalRunner(), task="ambi_demo_sc")
        return engine, run(cells, folder / "local", engine)

    def test_a_killed_process_fails_the_run_it_was_at_which_is_tried_again(self, killed, cells):
        engine, failures = killed
        assert failures == {}
        assert [event.reason for event in engine.seen if event.kind == "ended"] == [
            "its process ended with exit code -9",
            "",
        ]
        starts = [event.cell.rpartition("demo_")[2] for event in engine.seen if event.kind == "started"]
        assert starts == ["direct", "sc.seed-0", "sc.seed-0", "asc.seed-0", "exact"]

    def test_results_are_those_of_the_stock_command(self, killed, cells, folder, results, stock):
        for cell in cells:
            assert results(folder / "local", cell)["results"][cell.task] == stock[cell.task]

    def test_every_run_says_what_it_took_itself(self, killed, cells, folder, results):
        direct, sc, asc, exact = (results(folder / "local", cell)["config"]["ambi"] for cell in cells)
        assert (direct["encodes"], exact["encodes"]) == (CLIPS, CLIPS)
        assert sc["generated_tokens"] > 0
        assert sc["store_hits"] == killed[0].answers_at_death, "it went on where the killed process stood"
        assert (asc["generated_tokens"], asc["store_hits"], exact["store_hits"]) == (0, SAMPLES, 0)

    def test_the_report_shows_all_runs_of_a_model_as_one(self, killed, cells, folder):
        joined, *others = finished_runs(cells, folder / "local")
        assert not others
        assert joined.model == "tiny"
        assert [*joined.tasks] == [f"ambi_demo_{strategy}" for strategy in STRATEGIES]
        assert "--tasks ambi_demo_direct,ambi_demo_sc,ambi_demo_asc,ambi_demo_exact" in joined.command
        assert "--seed 0,0,0,0" in joined.command
        assert joined.results["config"]["ambi"]["encodes"] >= 2 * CLIPS
        assert len(joined.results["config"]["ambi"]["set_ups"]) == 1

    def test_a_second_sweep_runs_nothing(self, killed, cells, folder, run, losing):
        engine = losing(LocalRunner())
        assert run(cells, folder / "local", engine) == {}
        assert engine.jobs == []

    def test_what_was_changed_in_the_grid_runs_again_from_the_store(self, killed, grid, folder, run, losing, results):
        cells = grid(strategies=STRATEGIES, limit=CLIPS, metadata=[{"repeats": 10}])
        sc = next(cell for cell in cells if cell.task == "ambi_demo_sc")
        engine = losing(LocalRunner())
        assert run([sc], folder / "local", engine) == {}
        counts = results(folder / "local", sc)["config"]["ambi"]
        assert (counts["store_hits"], counts["generated_tokens"]) == (SAMPLES // 2, 0)


class TestRay:
    """A cluster of three: one where the sweep runs, and two with a core and a GPU each, by what they tell Ray."""

    @pytest.fixture(scope="class")
    def cluster(self, no_pip):
        pytest.importorskip("ray")
        from ray.cluster_utils import Cluster

        # By default, Ray waits 100 seconds before it takes a machine that does not answer for lost.
        impatient = {"health_check_period_ms": 500, "health_check_failure_threshold": 2}
        head = {"num_cpus": 0, "num_gpus": 0, "_system_config": impatient}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", no_pip)
            cluster = Cluster(initialize_head=True, head_node_args=head)
            for _ in range(2):
                cluster.add_node(num_cpus=1, num_gpus=1)
        yield cluster
        cluster.shutdown()

    @pytest.fixture(scope="class")
    def killed(self, cluster, grid, folder, run, losing):
        """A sweep of two replicas with a GPU each; the machine of the first is lost while it samples."""
        from ambi_eval.sweep.cluster import RayRunner

        model = {"model_args": {"pretrained": "ambi-tiny", "device": "cpu"}, "gpus": 1}
        sampled = grid(models={"tiny": model}, strategies=["sc", "asc", "exact"], limit=CLIPS)
        ray = RayRunner({sampled[0].model_name: sampled[0].model}, cluster.address)
        engine = losing(ray, job="share-0-of-2", task="ambi_demo_sc", machine=True)
        return sampled, engine, run(sampled, folder / "ray", engine, replicas=2)

    def test_the_share_of_a_lost_machine_is_run_again_elsewhere(self, killed):
        _, engine, failures = killed
        assert failures == {}
        assert 0 < engine.answers_at_death < SAMPLES / 2
        names = [job.name.removeprefix("tiny.demo.seed-0") for job in engine.jobs]
        assert sorted(names) == ["", ".share-0-of-2", ".share-0-of-2", ".share-1-of-2"]
        reasons = [event.reason for event in engine.seen if event.kind == "ended"]
        assert sorted(map(bool, reasons)) == [False, False, False, True]

    def test_it_goes_on_from_what_the_killed_one_left(self, killed):
        _, engine, _ = killed
        first, second = (job for job in engine.jobs if job.name.endswith("share-0-of-2"))
        assert (first.store.name, second.store.name) == tuple(f"{first.name}.{number}.sqlite" for number in (0, 1))
        assert engine.answers_before[second.store] == engine.answers_at_death

    def test_results_are_to_the_digit_those_of_one_process(self, killed, folder, results, stock):
        for cell in killed[0]:
            assert results(folder / "ray", cell)["results"][cell.task] == stock[cell.task]

    def test_the_run_over_all_clips_finds_every_answer(self, killed, folder, results):
        for cell in killed[0]:
            counts = results(folder / "ray", cell)["config"]["ambi"]
            assert (counts["encodes"], counts["generated_tokens"]) == (0, 0)

    def test_of_the_replicas_one_store_is_left(self, killed, folder, answers_in):
        assert [file.name for file in (folder / "ray" / "stores").iterdir()] == ["tiny.demo.seed-0.sqlite"]
        assert answers_in(folder / "ray" / "stores" / "tiny.demo.seed-0.sqlite") == SAMPLES

    def test_what_travels_is_names_and_numbers(self, killed):
        assert all(len(pickle.dumps(job)) < 20_000 for job in killed[1].jobs)


class TestCommand:
    @pytest.fixture(scope="class")
    def half_broken(self, folder, write_grid, sweep):
        """A grid of a run that works and one whose audio cannot be read, which only its run finds out."""
        (folder / "clips.jsonl").write_text('{"id": "1", "audio": "broken.wav", "votes": {"calm": 2}}')
        (folder / "broken.wav").write_text("no audio")
        (folder / "mine.yaml").write_text(
            "class: !function ambi_eval.harness.task.AmbiguousEmotionTask\ntask: mine\nstrategy: exact\n"
            "labels: [calm, sad]\nmanifest: clips.jsonl\n"
        )
        file = write_grid(folder, strategies=["direct"], tasks=["mine.yaml"], limit=3)
        return file, sweep(file, "-o", "half")

    def test_what_fails_twice_is_reported_and_the_rest_is_done(self, half_broken, folder):
        done = half_broken[1]
        assert done.returncode == 1, done.stderr[-3000:]
        assert "broken.wav" in done.stderr
        log = folder / "half" / "tiny" / "mine" / "log.txt"
        assert f"tiny/mine failed twice: {folder}" in done.stderr
        assert f"its log: {log}" in done.stderr
        assert log.read_text().count("errors.AmbiError: ") == 2
        lines = done.stdout.splitlines()
        assert lines[-1].startswith("wrote ")
        run = read_runs(folder / "half" / "tiny" / "ambi_demo_direct")[0]
        jsd = run.results["results"]["ambi_demo_direct"]["jsd_bits,answer"]
        assert any(line.endswith(f"ambi_demo_direct: 3 clips; JSD: answer {jsd:.3f}") for line in lines)
        assert any(re.match(rf"\s*tiny: direct +{jsd:.3f}", line) for line in lines), "the table of scores"
        assert "off the raters' votes" in done.stdout
        assert [run.model for run in read_runs(folder / "half" / "tiny" / "ambi_demo_direct")] == ["ambi-tiny"]
        assert "direct" in (folder / "half" / "report.html").read_text()

    def test_a_dry_run_shows_the_cost_and_does_nothing(self, half_broken, folder, sweep):
        done = sweep(half_broken[0], "-o", "dry", "--dry-run")
        assert done.returncode == 0, done.stderr
        assert "tokens, at most" in done.stdout
        assert "768" in done.stdout, "three answers of at most 256 tokens"
        assert not (folder / "dry").exists()

    def test_a_probe_measures_the_tokens(self, folder, write_grid, sweep):
        file = write_grid(strategies=["direct", "sc"], limit=20)
        done = sweep(file, "-o", "probed", "--dry-run", "--probe", 2)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "tokens, as probed" in done.stdout
        rows = {row[0]: row for row in map(str.split, done.stdout.splitlines()) if len(row) == 4}
        probed = next(iter(read_runs(folder / "probed" / "probe" / "tiny" / "ambi_demo_sc.seed-0"))).tasks[
            "ambi_demo_sc"
        ]
        assert float(rows["tiny/ambi_demo_sc.seed-0"][3].replace(",", "")) == pytest.approx(
            10 * probed.tokens.sum(), abs=1
        )
        assert not (folder / "probed" / "tiny").exists()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--replicas", "2"], "--address and --replicas go with --engine ray"),
            (["--probe", "2"], "--probe goes with --dry-run"),
            (["--out", "/proc/no"], "no file can be written into /proc/no"),
            (["--engine", "ray", "--address", "127.0.0.1:1"], "no Ray cluster at '127.0.0.1:1'"),
        ],
    )
    def test_a_mistake_is_one_line_and_exit_code_2(self, write_grid, sweep, options, message):
        done = sweep(write_grid(), "-o", "mistaken", *options)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
