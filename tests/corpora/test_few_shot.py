"""Few-shot examples are clips of other speakers, the same in every run, and stand in the prompt with their votes."""

import pytest

from ambi_eval.config.load import resolve
from ambi_eval.config.prompts import Prompts
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.select import select
from ambi_eval.errors import AmbiError

CLIPS = [
    Clip(id=f"{speaker}{n}", votes={"angry": n + 1.0, "calm": 3.0}, audio=f"/{speaker}{n}.wav", speaker=speaker)
    for speaker in "abcde"
    for n in range(3)
]


def settings(clips=3, seed=0, **keys):
    config = {"task": "t", "manifest": "m.jsonl", "labels": ["angry", "calm"], "strategy": "few_shot", **keys}
    return resolve({**config, "shots": {"clips": clips, "seed": seed}, "metadata": {"config_source": "inline"}})


def paths(selection):
    return [[span["path"] for span in before] for before in selection.before]


@pytest.mark.parametrize("control", ["none", "silence", "shuffle"])
def test_examples_are_whole_clips_of_as_many_other_speakers_as_there_are(control):
    found = select(settings(control=control), CLIPS)
    for clip, shown, votes in zip(found.clips, paths(found), found.shown, strict=True):
        speakers = [path[1] for path in shown]
        assert clip.speaker not in speakers
        assert len(set(speakers)) == 3
        assert votes.tolist() == [[float(path[2]) + 1, 3.0] for path in shown]
    assert all(span["control"] is None for before in found.before for span in before)


def test_clips_of_one_speaker_share_their_examples():
    found = select(settings(), CLIPS)
    assert len({(clip.speaker, *shown) for clip, shown in zip(found.clips, paths(found), strict=True)}) == 5


def test_the_seed_chooses_them_and_nothing_else_does():
    assert paths(select(settings(), CLIPS)) == paths(select(settings(), CLIPS))
    assert paths(select(settings(), CLIPS)) != paths(select(settings(seed=1), CLIPS))


def test_more_examples_than_speakers_take_several_clips_of_one():
    found = select(settings(clips=6), CLIPS)
    assert {len(set(shown)) for shown in paths(found)} == {6}


@pytest.mark.parametrize(("readout", "shown"), [("shares", '{"angry": 0.25, "calm": 0.75}'), ("label", "calm")])
def test_an_example_states_what_answers_state(readout, shown):
    (prompt,) = Prompts(settings(readout=readout)).about(None, [[1.0, 3.0], [1.0, 3.0]])
    assert prompt.count("<audio>") == 3
    assert prompt.count(f"The listeners answered: {shown}\n") == 2
    assert prompt.index(shown) < prompt.index("Several listeners")


def test_clips_of_unknown_speakers_are_left_out_and_never_shown():
    unknown = [Clip(id="u", votes={"angry": 1.0}, audio="/u.wav")]
    found = select(settings(clips=12), [*CLIPS, *unknown])
    assert found.left_out == {"unknown speaker": 1}
    assert "/u.wav" not in {path for shown in paths(found) for path in shown}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"clips": 13}, "shots asks for 13 clips of other speakers than 'a', and there are 12; take fewer"),
        ({"control": "transcript"}, "shots are heard, and control: transcript takes all audio out"),
        ({"verifier": {"prompt": "x", "ratings": 5}}, "a verifier rates answers about one clip"),
    ],
)
def test_what_cannot_be_is_one_sentence(keys, message):
    with pytest.raises(AmbiError, match=message):
        select(settings(**keys), CLIPS)
