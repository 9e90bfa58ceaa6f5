import numpy as np
import pytest
from support.selections import selection_of

from ambi_eval.analysis.ambiguity import ambiguity_bins
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.other_votes import halve_panels, target_votes
from ambi_eval.errors import AmbiError
from ambi_eval.votes import entropy_bits, shares


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


def test_halved_panels_share_no_vote_and_lose_none():
    clips = [Clip(id=str(n), votes={}) for n in range(4)]
    votes = np.array([[4.0, 3.0], [1.0, 0.0], [0.5, 1.5], [0.0, 6.0]])
    selection = selection_of(votes, clips=clips)
    halved, binned, note = halve_panels(selection)
    assert [clip.id for clip in halved.clips] == ["0", "3"]
    np.testing.assert_array_equal(halved.votes + binned, votes[[0, 3]])
    assert binned.sum(axis=1).tolist() == [3, 3]
    assert "2 clips left out" in note


def test_bins_of_the_other_half_are_blind_to_the_noise_of_the_target():
    rng = np.random.default_rng(0)
    votes = rng.multinomial(8, [0.5, 0.5], size=4000).astype(float)
    selection = selection_of(votes)
    halved, binned, _ = halve_panels(selection)
    own = [entropy_bits(shares(votes[b.members])).mean() for b in ambiguity_bins(votes)]
    other = [entropy_bits(shares(halved.votes[b.members])).mean() for b in ambiguity_bins(binned)]
    assert max(own) - min(own) > 0.1, "all clips are alike, yet their own votes seem to tell them apart"
    assert max(other) - min(other) < 0.03


def test_panels_of_one_cannot_be_halved():
    selection = selection_of([[1.0, 0.0]])
    with pytest.raises(AmbiError, match="no clip has two raters that its votes tell apart"):
        halve_panels(selection)
