"""The task class inside the real harness; the answers are written down, so that every score can be checked by hand."""

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from scipy.special import softmax

from ambi_eval.answers.candidate import Candidate
from ambi_eval.errors import AmbiError
from ambi_eval.metrics import METRICS

CLIPS = [
    {"id": "c1", "audio": "a.wav", "speaker": "anna", "votes": {"calm": 3, "tense": 1}, "transcript": "one"},
    {"id": "c2", "audio": "b.wav", "speaker": "anna", "votes": {"calm": 0, "tense": 4}, "transcript": "two"},
    {"id": "c3", "audio": "a.wav", "speaker": "ben", "votes": {"calm": 2, "tense": 2}, "start": 0.2, "end": 0.7},
    {"id": "c4", "audio": "b.wav", "speaker": "ben", "votes": {"calm": 4, "tense": 0}, "transcript": "four"},
    {"id": "c5", "audio": "b.wav", "speaker": "carl", "votes": {"calm": 1, "tense": 2, "bored": 1}},
]
VOTES = {clip["id"]: np.array([clip["votes"]["calm"], clip["votes"]["tense"]], float) for clip in CLIPS[:4]}


class Scripted(LM):
    """Answers request k of a clip with the k-th text of its list, and keeps the requests."""

    MULTIMODAL = True

    def __init__(self, answers):
        super().__init__()
        self.answers, self.requests = answers, []

    def generate_until(self, requests, disable_tqdm=False):
        self.requests += requests
        seen = {}
        out = []
        for request in requests:
            k = seen[request.doc_id] = seen.get(request.doc_id, -1) + 1
            texts = self.answers(request) if callable(self.answers) else self.answers[request.doc["id"]]
            rating = k + 1.0 if "verifier" in request.args[2] else None
            out.append(Candidate(texts[k % len(texts)], logprob=-float(k), n_tokens=2, finish="stop", rating=rating))
        return out

    def loglikelihood(self, requests, disable_tqdm=False):
        self.requests += requests
        return [(float(np.log(self.answers[r.doc["id"]][r.idx])), False) for r in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError


def write_corpus(folder: Path, *lines: str, name="mine", clips=CLIPS) -> str:
    for file in ("a.wav", "b.wav"):
        soundfile.write(folder / file, np.zeros(16000), 16000)
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, clips)))
    base = {
        "class": "!function ambi_eval.harness.task.AmbiguousEmotionTask",
        "task": name,
        "strategy": "sc",
        "labels": "[calm, tense]",
        "manifest": "mine.jsonl",
    }
    keys = {line.partition(":")[0] for line in lines}
    text = [f"{key}: {value}" for key, value in base.items() if key not in keys]
    (folder / f"{name}.yaml").write_text("\n".join([*text, *lines]))
    return name


def evaluate(folder, lm, *, task="mine", metadata=None, **kwargs):
    manager = TaskManager(include_path=str(folder), include_defaults=False, metadata=metadata)
    return simple_evaluate(model=lm, tasks=[task], task_manager=manager, bootstrap_iters=0, **kwargs)


def requests_of(folder, **kwargs):
    lm = Scripted(lambda request: ["calm"])
    evaluate(folder, lm, **kwargs)
    return {request.doc["id"]: request for request in lm.requests}, lm.requests


SC_ANSWERS = {
    "c1": ["calm", "calm", "tense", "calm"],
    "c2": ["tense", "I cannot say", "calm", "tense"],
    "c3": ["calm", "tense", "tense", "calm"],
    "c4": ["", "hm", "?", "who knows"],
}
SC_SHARES = {"c1": [0.75, 0.25], "c2": [1 / 3, 2 / 3], "c3": [0.5, 0.5], "c4": [np.nan, np.nan]}


def test_scores_of_known_answers_are_what_the_formulas_say(tmp_path):
    write_corpus(tmp_path, "repeats: 4", "metrics: [jsd_bits, bc, acc, macro_f1, ece_votes, tokens_per_clip]")
    results = evaluate(tmp_path, Scripted(SC_ANSWERS))["results"]["mine"]
    p, votes = np.array(list(SC_SHARES.values())), np.array(list(VOTES.values()))
    for name in ("jsd_bits", "bc", "acc", "macro_f1", "ece_votes"):
        assert results[f"{name},dist"] == pytest.approx(METRICS[name].value(p, votes), abs=1e-12)
    assert results["invalid_rate,dist"] == 0.25
    assert results["tokens_per_clip,dist"] == 8
    assert results["acc,dist"] == (1 + 1 + 0.5 + 0) / 4, "a tie counts by expectation, an invalid clip is wrong"
    assert results["acc,vote"] == (1 + 1 + 0.5 + 0) / 4


def test_results_name_the_whole_path_of_an_own_task_so_that_reports_find_its_votes_from_anywhere(tmp_path, monkeypatch):
    write_corpus(tmp_path, "repeats: 4")
    monkeypatch.chdir(tmp_path)
    config = evaluate(Path(), Scripted(SC_ANSWERS))["configs"]["mine"]
    assert config["metadata"]["config_source"] == str(tmp_path / "mine.yaml")


@pytest.mark.parametrize(("lines", "version"), [([], 0), (["metadata: {version: 3}"], 3)])
def test_results_show_the_version_of_an_own_task(tmp_path, lines, version):
    write_corpus(tmp_path, "repeats: 4", *lines)
    assert evaluate(tmp_path, Scripted(SC_ANSWERS))["versions"]["mine"] == version


def test_error_bars_are_clustered_by_speaker(tmp_path):
    write_corpus(tmp_path, "repeats: 4")
    results = evaluate(tmp_path, Scripted(SC_ANSWERS))["results"]["mine"]
    p, votes = np.array(list(SC_SHARES.values())), np.array(list(VOTES.values()))
    scores = METRICS["jsd_bits"].per_clip(p, votes)
    sums = np.array([scores[:2].sum(), scores[2:].sum()]) - 2 * scores.mean()
    assert results["jsd_bits_stderr,dist"] == pytest.approx(np.sqrt(2 * (sums**2).sum()) / 4)
    assert isinstance(results["macro_f1_stderr,dist"], float)


def test_one_cluster_alone_has_no_error_bar(tmp_path):
    write_corpus(tmp_path, clips=[{**clip, "speaker": "anna"} for clip in CLIPS[:4]])
    assert evaluate(tmp_path, Scripted(SC_ANSWERS))["results"]["mine"]["jsd_bits_stderr,dist"] == "N/A"


def test_the_curve_ends_at_the_whole_pool_and_starts_at_the_single_answers(tmp_path):
    write_corpus(tmp_path, "repeats: 4")
    answers = {**SC_ANSWERS, "c4": ["calm"] * 4}
    results = evaluate(tmp_path, Scripted(answers))["results"]["mine"]
    assert "jsd_bits@5,dist" not in results, "no point beyond the pool"
    singles = []
    for clip, texts in answers.items():
        rows = [{"calm": [1, 0], "tense": [0, 1]}.get(text, [np.nan] * 2) for text in texts]
        singles.append(METRICS["jsd_bits"].per_clip(np.array(rows), VOTES[clip]).mean())
    assert results["jsd_bits@1,dist"] == pytest.approx(np.mean(singles))


def test_the_results_file_holds_the_curve_with_what_mere_sampling_gives_and_where_it_ends(tmp_path):
    write_corpus(tmp_path, "repeats: 6")
    answers = {**SC_ANSWERS, "c4": ["calm"] * 4}
    found = evaluate(tmp_path, Scripted(answers))
    results, curves = found["results"]["mine"], found["configs"]["mine"]["curve"]
    assert list(curves) == ["jsd_bits", "bc"]
    for metric, curve in curves.items():
        assert list(curve["people"]) == list(curve["prior"]) == ["1", "3", "5", "6"]
        for name in ("dist", "vote"):
            values = {size: point["value"] for size, point in curve["pipelines"][name].items()}
            logged = {size: results[f"{metric}@{size},{name}"] for size in "135"} | {"6": results[f"{metric},{name}"]}
            assert values == pytest.approx(logged)
        at = {int(size): point["value"] for size, point in curve["pipelines"]["dist"].items()}
        assert curve["extrapolated"]["dist"]["value"] == pytest.approx(np.clip(2 * at[6] - at[3], 0, 1))
        assert list(curve["extrapolated"]) == ["dist"], "a majority vote does not go with 1/N"


@pytest.mark.parametrize(
    ("lines", "kwargs"),
    [(["strategy: direct"], {}), (["strategy: asc"], {}), (["repeats: 1"], {}), ([], {"predict_only": True})],
)
def test_without_a_growing_pool_or_scores_there_is_no_curve_in_the_results(tmp_path, lines, kwargs):
    write_corpus(tmp_path, *lines)
    assert "curve" not in evaluate(tmp_path, Scripted(lambda request: ["calm"]), **kwargs)["configs"]["mine"]


def test_the_oracle_is_the_nearest_answer_of_the_pool_and_its_control_that_of_another_clips(tmp_path):
    write_corpus(tmp_path, "repeats: 4")
    results = evaluate(tmp_path, Scripted(SC_ANSWERS))["results"]["mine"]
    jsd = {
        label: METRICS["jsd_bits"].per_clip([p] * 4, np.array(list(VOTES.values())))
        for label, p in {"calm": [1, 0], "tense": [0, 1]}.items()
    }
    nearest = np.minimum(jsd["calm"], jsd["tense"])
    assert results["oracle_jsd_bits,dist"] == pytest.approx(np.mean([*nearest[:3], 1]), abs=1e-12)
    # Two clips on: c1 hears of c3's answers, c2 of c4's (none could be read), c3 of c1's, c4 of c2's.
    assert results["oracle_control_jsd_bits,dist"] == pytest.approx(np.mean([nearest[0], 1, *nearest[2:]]), abs=1e-12)
    assert "oracle_jsd_bits,vote" not in results, "it belongs to the pool, not to a pipeline"


@pytest.mark.parametrize("strategy", ["bon", "direct", "asc", "exact"])
def test_there_is_no_curve_where_a_part_of_the_pool_is_no_smaller_pool(tmp_path, strategy):
    write_corpus(tmp_path, f"strategy: {strategy}")
    answers = dict.fromkeys(VOTES, [0.5, 0.5] if strategy == "exact" else ["calm"])
    results = evaluate(tmp_path, Scripted(answers))["results"]["mine"]
    assert not [name for name in results if "@" in name]


def test_exact_reads_likelihoods_and_reports_the_label_mass(tmp_path):
    write_corpus(tmp_path, "strategy: exact")
    lm = Scripted({"c1": [0.6, 0.2], "c2": [0.1, 0.1], "c3": [0.5, 0.5], "c4": [0.3, 0.1]})
    results = evaluate(tmp_path, lm)["results"]["mine"]
    p, votes = [[0.75, 0.25], [0.5, 0.5], [0.5, 0.5], [0.75, 0.25]], np.array(list(VOTES.values()))
    assert results["jsd_bits,likelihood"] == pytest.approx(METRICS["jsd_bits"].value(p, votes))
    assert results["label_mass,likelihood"] == pytest.approx((0.8 + 0.2 + 1.0 + 0.4) / 4)
    assert all(request.args[2]["end_of_turn"] for request in lm.requests)


def test_a_task_in_the_language_of_its_corpus_is_asked_and_read_in_it(tmp_path):
    lines = ("language: it", "prompt_language: corpus", "label_words: {calm: calma, tense: tensione}")
    write_corpus(tmp_path, *lines, "repeats: 2")
    answers = {
        "c1": ["calma", "La voce è calma"],
        "c2": ["tensione", "tense"],
        "c3": ["non calma", "mah"],
        "c4": ["calma"],
    }
    lm = Scripted(answers)
    results = evaluate(tmp_path, lm)
    p = np.array([[1, 0], [0, 1], [np.nan, np.nan], [1, 0]])
    expected = METRICS["jsd_bits"].value(p, np.array(list(VOTES.values())))
    assert results["results"]["mine"]["jsd_bits,dist"] == pytest.approx(expected)
    assert "calma, tensione" in lm.requests[0].args[0]
    assert "Rispondi" in lm.requests[0].args[0]
    write_corpus(tmp_path, *lines, "strategy: exact", "length_normalisation: bytes")
    lm = Scripted({clip: [0.2, 0.3] for clip in VOTES})
    evaluate(tmp_path, lm)
    assert [request.args[1] for request in lm.requests[:2]] == ["calma", "tensione"]


def test_every_wording_of_an_ensemble_is_asked_once_and_joins_one_pool(tmp_path):
    write_corpus(tmp_path, "strategy: ens")
    lm = Scripted(lambda request: [f'{{"calm": {request.idx / 4}, "tense": {1 - request.idx / 4}}}'] * 5)
    results = evaluate(tmp_path, lm, system_instruction="Be brief.")["results"]["mine"]
    assert len(lm.requests) == 4 * 5
    assert len({request.args[0] for request in lm.requests}) == 5
    assert all(request.args[0].startswith("Be brief.") for request in lm.requests)
    assert results["jsd_bits,mean"] == pytest.approx(
        METRICS["jsd_bits"].value([[0.5, 0.5]] * 4, np.array(list(VOTES.values())))
    )


def test_exact_asks_every_rotation_of_the_labels_and_about_silence_where_told_to(tmp_path):
    write_corpus(tmp_path, "strategy: exact", "rotations: 2", "calibration: silence")
    lm = Scripted({clip: [0.5, 0.5] * 4 for clip in VOTES})
    evaluate(tmp_path, lm)
    assert len(lm.requests) == 4 * 2 * 2 * 2
    of_clip = [request for request in lm.requests if request.doc["id"] == "c2"]
    assert [request.args[1] for request in of_clip] == ["calm", "tense"] * 4
    assert [request.args[0].endswith("calm, tense.") for request in of_clip] == ([True] * 2 + [False] * 2) * 2
    assert [request.args[2]["audio"][0]["control"] for request in of_clip] == [None] * 4 + ["silence"] * 4
    silent = {json.dumps(r.args[2]["audio"]) for r in lm.requests if r.args[2]["audio"][0]["control"]}
    assert len(silent) == 1, "one silence serves all clips"


@pytest.mark.parametrize(
    ("outside", "merge", "clips"), [("drop_clip", "{}", 4), ("renormalise", "{}", 5), ("drop_clip", "{bored: calm}", 5)]
)
def test_votes_outside_the_labels(tmp_path, caplog, outside, merge, clips):
    write_corpus(tmp_path, f"outside: {outside}", f"merge: {merge}")
    caplog.set_level(logging.INFO, logger="ambi_eval")
    results = evaluate(tmp_path, Scripted(lambda request: ["calm"]))
    assert results["n-samples"]["mine"]["original"] == clips
    assert results["configs"]["mine"]["clips"] == clips
    if clips == 4:
        assert results["configs"]["mine"]["left_out"] == {"votes outside the labels": 1}
        assert "1 left out (votes outside the labels)" in caplog.text


def test_overrides_reach_the_requests_that_they_are_for(tmp_path):
    write_corpus(tmp_path)
    by_clip, everything = requests_of(tmp_path, metadata={"repeats": 5}, gen_kwargs={"temperature": 0.9})
    assert len(everything) == 4 * 5
    assert by_clip["c1"].args[1]["temperature"] == 0.9
    assert by_clip["c1"].args[1]["do_sample"] is True


BEAMS = ['{"calm": 1}', '{"tense": 1}', '{"calm": 0.5, "tense": 0.5}']


@pytest.mark.parametrize(
    ("strategy", "metadata", "pipeline", "weights"),
    [
        ("wbon", {}, "weighted", softmax([0, -1, -2])),
        ("wbon", {"weighting_temperature": 0.5}, "weighted", softmax([0, -2, -4])),
        ("wbon", {"weighting_temperature": 0.5}, "length_normalised", softmax([0, -1, -2])),
        ("walmv", {"weighting_temperature": 2}, "weighted", softmax([0.5, 1, 1.5])),
        ("walmv", {"weighting": "linear"}, "weighted", [1 / 6, 2 / 6, 3 / 6]),
        ("walmv", {"weighting_temperature": 2}, "linear", [1 / 6, 2 / 6, 3 / 6]),
    ],
)
def test_weighting_and_its_temperature_are_set_from_the_command_line(tmp_path, strategy, metadata, pipeline, weights):
    write_corpus(tmp_path, f"strategy: {strategy}")
    found = evaluate(tmp_path, Scripted(lambda request: BEAMS), metadata={"beams": 3, **metadata})
    shares = np.array(weights) @ [[1, 0], [0, 1], [0.5, 0.5]]
    expected = METRICS["jsd_bits"].value([shares] * 4, np.array(list(VOTES.values())))
    assert found["results"]["mine"][f"jsd_bits,{pipeline}"] == pytest.approx(expected)
    assert found["configs"]["mine"] | metadata == found["configs"]["mine"], "the results file says so"


def test_the_verifiers_scale_reaches_its_prompt_and_its_ratings(tmp_path):
    write_corpus(tmp_path, "strategy: almv")
    by_clip, _ = requests_of(tmp_path, metadata={"ratings": 7})
    asked = by_clip["c1"].args[2]["verifier"]
    assert "from 1 (not at all) to 7 (very well)" in asked["prompt"]
    assert asked["ratings"] == ["1", "2", "3", "4", "5", "6", "7"]


def test_length_normalisation_reaches_exact_from_the_command_line(tmp_path):
    write_corpus(tmp_path, "strategy: exact")
    lm = Scripted({clip: [0.1, 0.1] for clip in VOTES})
    found = evaluate(tmp_path, lm, metadata={"length_normalisation": "bytes"})
    p = softmax(np.log([0.1, 0.1]) / [4, 5])  # calm, tense
    expected = METRICS["jsd_bits"].value([p] * 4, np.array(list(VOTES.values())))
    assert found["results"]["mine"]["jsd_bits,likelihood"] == pytest.approx(expected)


def test_greedy_requests_stay_greedy_whatever_the_command_line_says(tmp_path):
    write_corpus(tmp_path, "strategy: direct")
    by_clip, everything = requests_of(
        tmp_path, metadata={"repeats": 5}, gen_kwargs={"temperature": 0.9, "do_sample": True, "max_gen_toks": 7}
    )
    assert len(everything) == 4
    kwargs = by_clip["c1"].args[1]
    assert "temperature" not in kwargs
    assert (kwargs["do_sample"], kwargs["max_gen_toks"]) == (False, 7)


def test_the_model_hears_the_clips_own_span(tmp_path):
    write_corpus(tmp_path)
    by_clip, _ = requests_of(tmp_path)
    heard = by_clip["c3"].args[2]["audio"]
    assert heard == [{"path": str(tmp_path / "a.wav"), "start": 0.2, "end": 0.7, "control": None}]


@pytest.mark.parametrize("control", ["silence", "noise", "silence_fixed"])
def test_a_control_of_the_signal_is_handed_to_the_model_and_shows_in_the_name(tmp_path, control):
    write_corpus(tmp_path)
    by_clip, _ = requests_of(tmp_path, metadata={"control": control})
    assert all(request.args[2]["audio"][0]["control"] == control for request in by_clip.values())
    results = evaluate(tmp_path, Scripted(SC_ANSWERS), metadata={"control": control})
    assert results["results"]["mine"]["alias"] == f"mine [{control}]"


def test_a_part_of_the_corpus_is_asked_about_and_shows_in_the_name(tmp_path):
    clips = [{**clip, "split": "test1" if number < 2 else "train"} for number, clip in enumerate(CLIPS)]
    write_corpus(tmp_path, clips=clips)
    by_clip, _ = requests_of(tmp_path, metadata={"split": "test1"})
    assert sorted(by_clip) == ["c1", "c2"]
    results = evaluate(tmp_path, Scripted(SC_ANSWERS), metadata={"split": "test1", "control": "noise"})
    assert results["results"]["mine"]["alias"] == "mine:split=test1 [noise]"
    assert results["configs"]["mine"]["split"] == "test1"


def test_shuffled_clips_hear_another_one_each_and_the_same_in_every_run(tmp_path):
    clips = [{**clip, "audio": f"{clip['id']}.wav"} for clip in CLIPS]
    for clip in clips:
        soundfile.write(tmp_path / clip["audio"], np.zeros(16000), 16000)
    write_corpus(tmp_path, clips=clips, name="mine")
    heard = [
        {
            clip: Path(r.args[2]["audio"][0]["path"]).stem
            for clip, r in requests_of(tmp_path, metadata={"control": "shuffle"})[0].items()
        }
        for _ in range(2)
    ]
    assert heard[0] == heard[1]
    assert sorted(heard[0].values()) == sorted(heard[0])
    assert all(clip != other for clip, other in heard[0].items())


def test_a_clip_without_partner_is_left_out_of_a_shuffle_and_counted(tmp_path):
    write_corpus(tmp_path, "outside: renormalise")
    manager = TaskManager(
        include_path=str(tmp_path), include_defaults=False, metadata={"control": "shuffle_same_speaker"}
    )
    task = manager.load(["mine"])["tasks"]["mine"]
    assert task.dump_config()["left_out"] == {"no other clip to hear instead": 1}
    assert [clip.id for clip in task.selection.clips] == ["c1", "c2", "c3", "c4"]


def test_the_transcript_control_reads_and_does_not_hear(tmp_path):
    write_corpus(tmp_path)
    by_clip, _ = requests_of(tmp_path, metadata={"control": "transcript"})
    assert sorted(by_clip) == ["c1", "c2", "c4"], "c3 has no transcript"
    context, _, heard = by_clip["c2"].args
    assert heard["audio"] == []
    assert "<audio>" not in context
    assert 'The speaker says: "two"' in context


def test_transcripts_are_given_only_where_asked(tmp_path):
    write_corpus(tmp_path)
    assert "says" not in requests_of(tmp_path)[0]["c1"].args[0]
    given, _ = requests_of(tmp_path, metadata={"transcript": "given"})
    assert given["c1"].args[0].startswith('<audio>The speaker says: "one" Listen')


def test_predict_only_gives_no_scores(tmp_path):
    write_corpus(tmp_path)
    results = evaluate(tmp_path, Scripted(SC_ANSWERS), predict_only=True, log_samples=True)
    assert results["results"]["mine"]["bypass,dist"] == 999
    assert len(results["samples"]["mine"]) == 8


def test_limit_and_samples_choose_clips(tmp_path):
    write_corpus(tmp_path)
    assert evaluate(tmp_path, Scripted(SC_ANSWERS), limit=2)["n-samples"]["mine"]["effective"] == 2
    by_clip, _ = requests_of(tmp_path, samples={"mine": [1, 3]})
    assert sorted(by_clip) == ["c2", "c4"]


def test_the_log_holds_each_candidate_once_and_no_vote_speaker_or_transcript(tmp_path):
    write_corpus(tmp_path, "repeats: 4")
    samples = evaluate(tmp_path, Scripted(SC_ANSWERS), log_samples=True)["samples"]["mine"]
    by_filter = {name: [s for s in samples if s["filter"] == name] for name in ("dist", "vote")}
    assert by_filter["dist"][0]["doc"]["candidates"] == {
        "logprob": [0.0, -1.0, -2.0, -3.0],
        "n_tokens": [2, 2, 2, 2],
        "finish": ["stop"] * 4,
    }
    assert "candidates" not in by_filter["vote"][0]["doc"]
    logged = json.dumps(samples, default=str)
    assert not re.search('anna|ben|"one"|votes', logged)
    assert json.loads(str(by_filter["dist"][1]["filtered_resps"][0]))["failed"] == {"refused": 1}


def test_a_user_task_that_carries_our_tag_joins_ours(tmp_path):
    write_corpus(tmp_path, "tag: ambi_sc")
    manager = TaskManager(include_path=str(tmp_path), include_defaults=True)
    assert "ambi_sc" in manager.all_tags
    assert "mine" in manager._index["ambi_sc"].tags


@pytest.mark.parametrize(
    ("lines", "kwargs", "message"),
    [
        (["manifest: gone.jsonl"], {}, "no manifest at .*gone.jsonl"),
        (["manifest: crema"], {}, "no corpus is named 'crema', did you mean 'crema_d'"),
        (["labels: [loud, soft]"], {}, r"no clip of the manifest 'mine.jsonl' is left \(5 votes outside the labels\)"),
        (["metrics: [jsd]"], {}, "unknown metric 'jsd', did you mean 'jsd_bits'"),
        (["synonyms: {clam: [quiet]}"], {}, r"mine.yaml\): synonyms: 'clam' is not one of the labels"),
        (["doc_to_text: '<audio> {{ lables }}'"], {}, "a prompt names what there is not: 'lables' is undefined"),
        (["doc_to_text: '<audio> {{ labels'"], {}, "the prompt is no Jinja template"),
        ([], {"num_fewshot": 2}, "no few-shot examples with audio"),
        (
            ["filter_list: [{name: x, filter: [{function: ambi_men}]}]"],
            {},
            "no filter 'ambi_men', did you mean 'ambi_mean'",
        ),
        (
            ["filter_list: [{name: x, filter: [{function: ambi_weighted, by: rating, wieghting: linear}]}]"],
            {},
            r"mine.yaml\): ambi_weighted has no option 'wieghting', did you mean 'weighting'",
        ),
        (
            ["filter_list: [{name: x, filter: [{function: ambi_mean, readout: shares}]}]"],
            {},
            "ambi_mean has no option 'readout'",
        ),
        (["strategy: wbon"], {"metadata": {"weighting_temperature": 0}}, "weighting_temperature is 0"),
        (["strategy: walmv"], {"metadata": {"weighting": "liner"}}, "weighting is 'liner', did you mean 'linear'"),
        (["strategy: almv"], {"metadata": {"ratings": 12}}, "verifier.ratings is 12; it must be at most 9"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, lines, kwargs, message):
    write_corpus(tmp_path, *lines)
    with pytest.raises(AmbiError, match=message) as error:
        evaluate(tmp_path, Scripted(SC_ANSWERS), **kwargs)
    assert "\n" not in str(error.value)
