import pytest

from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.other_votes import target_votes
from ambi_eval.errors import AmbiError


def test_the_corpus_own_votes_are_the_default(own_corpus):
    config = load_corpus(str(own_corpus))
    assert target_votes(config).votes.tolist() == target_votes(config, "voice").votes.tolist()
    assert target_votes(config).votes.shape == (40, 3)


def test_the_acted_emotion_is_one_vote(own_corpus):
    config = load_corpus(str(own_corpus))
    selection = target_votes(config, "acted")
    assert (selection.votes.sum(axis=1) == 1).all()
    assert [config.labels[row.argmax()] for row in selection.votes] == [clip.acted for clip in selection.clips]


def test_an_acted_emotion_that_no_clip_has(tmp_path):
    (tmp_path / "heard.jsonl").write_text('{"id": "a", "votes": {"sad": 2}}')
    (tmp_path / "heard.yaml").write_text("manifest: heard.jsonl\nlabels: [angry, sad]\n")
    with pytest.raises(AmbiError, match="no clip of heard says which emotion was acted: leave out --against acted"):
        target_votes(load_corpus(str(tmp_path / "heard.yaml")), "acted")


def test_the_votes_of_other_raters_come_from_a_manifest_of_their_own(crema_d_data, crema_d_config, monkeypatch):
    monkeypatch.setenv("AMBI_DATA", str(crema_d_data))
    voice, face = (target_votes(crema_d_config, against) for against in ("voice", "face"))
    assert [clip.id for clip in voice.clips] == [clip.id for clip in face.clips]
    assert (voice.votes.sum(), face.votes.sum()) == (68_568, 71_654)


def test_votes_that_were_not_prepared(tmp_path, monkeypatch, crema_d_config):
    monkeypatch.setenv("AMBI_DATA", str(tmp_path))
    with pytest.raises(AmbiError, match=r"no 'av' votes of crema_d.*prepare crema_d --modality av --source DIR"):
        target_votes(crema_d_config, "av")
