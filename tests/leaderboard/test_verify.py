"""Each way to tamper with a submission is named; an honest one passes, and says what could not be checked."""

import json
import os
import re
import shutil

import pytest

from ambi_eval.corpora.manifest import Clip, read_manifest, write_manifest
from ambi_eval.corpora.recipes import crema_d as crema_d_corpus
from ambi_eval.corpora.registry import ensure_manifest
from ambi_eval.leaderboard.rescore import listed_clips, task_settings
from ambi_eval.leaderboard.submission import read_submission
from ambi_eval.leaderboard.verify import verify, verify_all
from ambi_eval.paths import manifest_path

KINDS = ["sc", "sc-shares", "exact", "cheap", "exact-silence"]


def test_every_shipped_submission_is_accepted_and_re_scored(shipped):
    verdicts = verify_all(shipped)
    assert len(verdicts) == len(KINDS)
    assert [verdict.problems for verdict in verdicts] == [[]] * len(KINDS)
    assert {verdict.status for verdict in verdicts} == {"re-scored"}


def test_replies_that_named_another_model_are_told_with_the_submission(copy, edit):
    told = "'a' was asked for, but the server named another model: 'b' (7 replies)."
    folder = copy("exact")
    edit.card(folder, lambda card: card["backend"].update(other_models=[told]))
    verdict = verify(folder)
    assert (verdict.problems, verdict.notes) == ([], [told])


def test_what_the_run_warned_of_and_what_the_provider_withheld_are_told_with_the_submission(copy, edit):
    folder = copy("sc")
    (task,) = edit_notices(edit, folder, ["heard only the beginning of 3 audios", "the answers come from 2 set-ups"])
    edit.answers(folder, lambda lines: lines[3].update(finish="content_filter"))
    edit.forge(folder)
    verdict = verify(folder)
    withheld = f"{task}: 1 of 1,440 answers were withheld by the provider"
    told = ["heard only the beginning of 3 audios", "the answers come from 2 set-ups", withheld]
    assert (verdict.problems, verdict.notes, verdict.tasks[task].notices) == ([], told, told)


def edit_notices(edit, folder, notices):
    def add(card):
        for task in card["tasks"].values():
            task["notices"] = notices
        names.extend(card["tasks"])

    names = []
    edit.card(folder, add)
    return names


def change_one(lines):
    lines[0]["answer"] = "angry"


def lower_n(lines):
    return [line for line in lines if line["sample"] < 10]


def say(word):
    def change(lines):
        for line in lines:
            line["answer"] = word

    return change


def first_line(**changed):
    return lambda lines: lines[0].update(changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            change_one,
            r"ambi_demo_sc: dist bc.* is claimed to be 0\.\d+, the answers give 0\.\d+ \(and \d+ more .*run it again",
        ),
        (
            lambda lines: [line for line in lines if line["clip"] != "test_01_001"],
            "1 of 72 clips are missing, the first",
        ),
        (
            lambda lines: lines + [{**line, "clip": "zzz"} for line in lines[:20]],
            "1 clip too many for this task.*'zzz'",
        ),
        (lower_n, "the clip 'test_01_001' has 10 answers instead of 20"),
        (first_line(finish="not_drawn"), "has 19 drawn answers where the task draws 20"),
        (first_line(answer="UklGRiQ" * 300), "holds packed data, such as audio"),
        (say("sad"), "the answers to all clips are the same, so the model did not hear them"),
    ],
)
def test_changed_answers_are_found_out(copy, edit, change, message):
    folder = copy("sc")
    edit.answers(folder, change)
    (problem,) = verify(folder).problems
    assert re.search(message, problem), problem


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda claims: claims["dist"].update(jsd_bits=claims["dist"]["jsd_bits"] - 2e-6), "jsd_bits is claimed"),
        (lambda claims: claims["vote"].update(acc=0.99), "vote acc is claimed to be 0.99, the answers give 0.93"),
        (lambda claims: claims["dist"].update(jsd_bits_stderr=0.0), "jsd_bits_stderr is claimed"),
        (lambda claims: claims["dist"].update({"jsd_bits@5": 0.1}), "jsd_bits@5 is claimed"),
        (lambda claims: claims["dist"].update(jsd_bits=None), "jsd_bits is claimed to be None"),
        (lambda claims: claims["dist"].update(elo=2000.0), "invent a metric: elo"),
        (lambda claims: claims["dist"].pop("jsd_bits"), "lack or invent a metric: jsd_bits"),
        (lambda claims: claims.pop("vote"), "must be about the pipelines dist, vote, not vote"),
        (lambda claims: claims.update(best={"jsd_bits": 0.0}), "dist, vote, not best"),
    ],
)
def test_improved_claims_are_found_out(copy, edit, change, message):
    folder = copy("sc")
    edit.claims(folder, lambda claims: change(claims["ambi_demo_sc"]))
    (problem,) = verify(folder).problems
    assert message in problem


def test_the_scores_of_single_wordings_may_be_claimed(copy, edit):
    folder = copy("cheap")
    edit.forge(folder)
    claimed = json.loads((folder / "results.json").read_text())
    assert "jsd_bits@wording5" in claimed["ambi_demo_ens"]["mean"]
    assert verify(folder).problems == []


def test_claims_that_rounding_moved_are_accepted(copy, edit):
    folder = copy("sc")
    edit.claims(
        folder,
        lambda claims: claims["ambi_demo_sc"]["dist"].update(
            jsd_bits=claims["ambi_demo_sc"]["dist"]["jsd_bits"] + 5e-7
        ),
    )
    assert verify(folder).problems == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda task: task.update(n=10), "a clip has 20 answers in this task, the submission says n: 10"),
        (lambda task: task.update(strategy="exact"), "the strategy is sc, .* says exact"),
        (lambda task: task.update(overrides={"repeats": 10}), "a clip has 10 answers in this task"),
        (lambda task: task.update(overrides={"repeats": 10**4}), "a clip has 10,000 answers"),
        (lambda task: task.update(overrides={"control": "deaf"}), "control is 'deaf'"),
        (lambda task: task.update(overrides={"repeats": "many"}), "repeats is .many.; it must be a whole number"),
    ],
)
def test_a_run_that_is_another_than_is_said_is_found_out(copy, edit, change, message):
    folder = copy("sc")
    edit.card(folder, lambda card: change(card["tasks"]["ambi_demo_sc"]))
    (problem,) = verify(folder).problems
    assert re.search(message, problem), problem


def test_a_smaller_pool_that_is_said_and_claimed_is_accepted(copy, edit):
    folder = copy("sc")
    edit.answers(folder, lower_n)
    edit.card(folder, lambda card: card["tasks"]["ambi_demo_sc"].update(n=10, overrides={"repeats": 10}))
    edit.forge(folder)
    assert verify(folder).problems == []


def test_a_task_that_is_not_ours_is_refused(copy, edit):
    folder = copy("sc")
    (folder / "samples" / "ambi_demo_sc.jsonl.gz").rename(folder / "samples" / "ambi_demo_scc.jsonl.gz")
    edit.claims(folder, lambda claims: claims.update(ambi_demo_scc=claims.pop("ambi_demo_sc")))
    edit.card(folder, lambda card: card["tasks"].update(ambi_demo_scc=card["tasks"].pop("ambi_demo_sc")))
    assert verify(folder).problems == ["ambi_demo_scc: there is no task 'ambi_demo_scc', did you mean 'ambi_demo_sc'?."]


def test_every_corpus_needs_a_word_on_training_data(copy, edit):
    folder = copy("sc")
    edit.card(folder, lambda card: card.update(training_data={}))
    assert verify(folder).problems == ["ambi_demo_sc: training_data says nothing of demo."]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (first_line(answer="happy"), "lacks the likelihood of a label, or has labels in another order"),
        (first_line(logprob=None), "lacks the likelihood of a label"),
        (lambda lines: [{**line, "logprob": lines[line["sample"]]["logprob"]} for line in lines], "are the same"),
        (first_line(logprob=-0.01), "of the clip 'test_01_001' sum to 1.963, above 1"),
        (first_line(logprob=-20.0), "is claimed to be"),
    ],
)
def test_changed_likelihoods_are_found_out(copy, edit, change, message):
    folder = copy("exact")
    edit.answers(folder, change)
    (problem,) = verify(folder).problems
    assert message in problem


def test_a_control_may_say_the_same_of_all_clips(copy, edit):
    folder = copy("sc")
    edit.answers(folder, say("sad"))
    edit.card(folder, lambda card: card["tasks"]["ambi_demo_sc"].update(overrides={"control": "silence"}))
    edit.forge(folder)
    assert verify(folder).problems == []


def test_answers_that_an_adaptive_strategy_would_not_have_drawn_are_found_out(copy, edit):
    folder = copy("cheap")
    asc = read_submission(folder).pools["ambi_demo_asc"]
    clip = next(clip for clip, pool in asc.items() if pool[4].finish == "not_drawn")

    def draw_more(lines):
        for line in lines:
            if line["clip"] == clip and line["sample"] == 4:
                line.update(finish="stop", answer="sad", tokens=2, logprob=-0.1)

    edit.answers(folder, draw_more)
    (problem,) = verify(folder).problems
    assert f"'{clip}' has 5 drawn answers where the task draws 4" in problem


def test_a_copy_is_found_out_and_so_is_one_that_was_touched_up(copy, edit):
    honest, copied = copy("sc"), copy("sc", "2026-12-01_mine")
    assert "100.0% of its answers are those of" in verify(copied).problems[0]
    assert honest.name in verify(copied).problems[0]

    def touch_up(lines):
        for line in lines[::40]:
            line["answer"] = "happy"

    edit.answers(copied, touch_up)
    edit.forge(copied)
    (problem,) = verify(copied).problems
    assert "% of its answers are those of" in problem
    assert [bool(verdict.problems) for verdict in verify_all(honest.parent)] == [True, True]


def test_answers_that_are_those_of_a_control_are_found_out(copy, edit):
    copy("sc")
    control = copy("sc", "2026-12-01_control")
    edit.card(control, lambda card: card["tasks"]["ambi_demo_sc"].update(overrides={"control": "shuffle"}))
    edit.forge(control)
    folder = next(path for path in control.parent.iterdir() if path != control)
    (problem,) = verify(folder).problems
    assert "of its answers are those of 2026-12-01_control, which heard shuffle. Both are refused" in problem


def test_hostile_bytes_in_any_file_end_in_a_problem(copy):
    for path in ("submission.yaml", "results.json", "samples/ambi_demo_sc.jsonl.gz"):
        for content in (b"", b"\0" * 100, b"{" * 100_000, b"\xff\xfe", os.urandom(1000)):
            folder = copy("sc")
            (folder / path).write_bytes(content)
            assert len(verify(folder).problems) == 1
            shutil.rmtree(folder)


def test_broken_neighbours_do_not_keep_an_honest_submission_back(copy):
    folder = copy("sc")
    (folder.parent / "junk").mkdir()
    (folder.parent / "2026-01-01_link").symlink_to(folder)
    assert verify(folder).problems == []
    (folder.parent / "2026-01-01_link").unlink()
    assert verify(folder).problems == []
    assert [bool(verdict.problems) for verdict in verify_all(folder.parent)] == [False, True]


# ------------------------------------------------------------------------------------ corpora whose votes are elsewhere


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("AMBI_DATA", str(tmp_path / "data"))


def retold(copy, edit, corpus, ids, answer):
    """A submission about another corpus: the shipped one of greedy answers, with other clips and answers."""
    folder = copy("sc")
    task = f"ambi_{corpus}_direct"
    (folder / "samples" / "ambi_demo_sc.jsonl.gz").rename(folder / "samples" / f"{task}.jsonl.gz")
    edit.claims(folder, lambda claims: (claims.clear(), claims.update({task: {"answer": {"jsd_bits": 0.2}}})))
    edit.card(
        folder,
        lambda card: card.update(
            tasks={task: {"strategy": "direct", "n": 1, "overrides": {}, "generation": None}},
            training_data={corpus: "no"},
        ),
    )
    edit.answers(folder, lambda lines: [{**lines[0], "clip": clip, "answer": answer(clip)} for clip in ids])
    return folder


@pytest.mark.usefixtures("elsewhere")
def test_scores_of_a_corpus_that_is_not_here_are_claims(copy, edit):
    folder = retold(
        copy, edit, "iemocap", ["Ses01F_impro01_F000", "Ses01F_impro01_F001"], lambda clip: f"sad: 0.5 {clip}"
    )
    verdict = verify(folder)
    assert verdict.problems == []
    assert verdict.status == "claimed"
    assert verdict.notes == [
        "ambi_iemocap_direct: the ids of its 2 clips could not be checked without the manifest of iemocap.",
        "ambi_iemocap_direct: the votes of iemocap are not on this machine, so its scores are claims.",
    ]


@pytest.mark.usefixtures("elsewhere")
def test_ids_of_crema_d_are_checked_without_its_votes(copy, edit):
    ids = listed("crema_d")
    assert len(ids) == 7442
    folder = retold(copy, edit, "crema_d", ids, lambda clip: f"sad: 1.0 ({clip})")
    assert (verify(folder).problems, verify(folder).status) == ([], "claimed")
    edit.answers(folder, lambda lines: lines[1:])
    assert "1 of 7442 clips are missing, the first is '1001_DFA_ANG_XX'" in verify(folder).problems[0]


def listed(corpus):
    return listed_clips(task_settings(f"ambi_{corpus}_sc"))


@pytest.fixture
def small_iemocap(elsewhere):
    clips = [
        Clip(
            id=f"Ses0{n}",
            votes={"sad": 2.0, "angry": 1.0},
            session=str(n),
            transcript=f"Well, I will be there on day {n}.",
        )
        for n in range(1, 4)
    ]
    path = manifest_path("iemocap")
    path.parent.mkdir(parents=True)
    write_manifest(path, clips)
    return clips


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        (lambda clip: f'{{"angry": 0.3, "happy": 0, "neutral": 0, "sad": 0.{clip[-1]}}}', True),
        (lambda clip: f"The speaker says: well i will be THERE, on day {clip[-1]}! sad: 0.{clip[-1]}", False),
        (lambda clip: f"The speaker says something about day {clip[-1]}. sad: 0.{clip[-1]}", True),
    ],
)
def test_licensed_words_do_not_leave_through_the_answers(copy, edit, small_iemocap, answer, fits):
    folder = retold(copy, edit, "iemocap", [clip.id for clip in small_iemocap], answer)
    edit.forge(folder)
    verdict = verify(folder)
    if fits:
        assert (verdict.problems, verdict.status) == ([], "re-scored")
    else:
        (problem,) = verdict.problems
        assert "an answer quotes the transcript of the clip 'Ses01'" in problem
        assert "day" not in problem


def test_a_manifest_of_a_part_of_the_corpus_is_not_scored_against(copy, edit, elsewhere):
    path = manifest_path("crema_d")
    path.parent.mkdir(parents=True)
    write_manifest(path, [Clip(id="1001_DFA_ANG_XX", votes={"angry": 1.0}, speaker="1001")])
    folder = retold(copy, edit, "crema_d", ["1001_DFA_ANG_XX"], lambda clip: "angry: 1")
    (problem,) = verify(folder).problems
    assert "has 1 clip, not the 7442 of the task: prepare the whole corpus anew" in problem


def test_the_list_of_the_demo_is_its_manifest():
    assert listed("demo") == sorted(clip.id for clip in read_manifest(ensure_manifest("demo")))


def test_the_list_of_crema_d_is_its_release(crema_d, tmp_path):
    preparation = crema_d_corpus.prepare(crema_d, tmp_path, allow_missing_audio=True)
    assert listed("crema_d") == sorted(clip.id for clip in read_manifest(preparation.manifest))


@pytest.mark.parametrize(
    ("changed", "problems", "notes"),
    [
        ({"date": "2026-02-31"}, "the date 2026-02-31 does not exist", None),
        ({"date": "2999-01-01"}, "the date 2999-01-01, on which the run started, is in the future", None),
        ({"name": "\u0430mbi"}, None, "the name has letters that look like Latin ones .*cyrillic small letter a"),
        ({"id": "Qwen/Qw\u0435n2"}, None, "the model's id has letters that look like Latin ones"),
        ({"name": "\u0430\u043c\u0431\u0438", "id": "M\u00fcller/\u97f3\u58f0"}, None, None),
    ],
)
def test_what_a_card_cannot_truly_say_is_found(changed, problems, notes, copy, edit):
    folder = copy("exact")
    for key, value in changed.items():
        edit.card(folder, lambda card: (card["model"] if key == "id" else card).update({key: value}))  # noqa: B023
    verdict = verify(folder)
    for found, expected in ((verdict.problems, problems), (verdict.notes, notes)):
        assert len(found) == (expected is not None)
        assert not found or re.search(expected, found[0])


def test_submissions_that_contradict_each_other_about_weights_are_told(copy, edit):
    one, other, third = copy("exact"), copy("sc"), copy("sc-shares")
    assert verify(one).notes == []
    for folder in (other, third):
        edit.card(folder, lambda card: card["model"].update(digest="0" * 64))
    first = min(other.name, third.name)
    assert verify(one).notes == [f"other weights have the same name, ambi-tiny, in {first} (and 1 more)."]
    edit.card(one, lambda card: card["model"].update(digest="0" * 64, id="mine"))
    notes = {verdict.name: verdict.notes for verdict in verify_all(one.parent)}
    assert notes[one.name] == [f"the same weights are in {first} under the name ambi-tiny (and 1 more)."]
    assert notes[other.name] == notes[third.name] == [f"the same weights are in {one.name} under the name mine."]
