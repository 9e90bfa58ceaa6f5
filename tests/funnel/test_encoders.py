"""Supervised references from tiny encoders of real classes, and from eGeMAPS, on the demo's clips."""

import json

import numpy as np
import pytest
import torch
import transformers as hf

from ambi_eval.analysis.ambiguity import bin_clips
from ambi_eval.analysis.information import probes
from ambi_eval.analysis.references.baselines import baselines, description
from ambi_eval.analysis.references.supervised import save_supervised, supervised
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.select import corpus_clips, select
from ambi_eval.errors import AmbiError
from ambi_eval.funnel import encoders

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONVOLUTIONS = {"conv_dim": (8, 8), "conv_kernel": (400, 3), "conv_stride": (320, 1), "num_feat_extract_layers": 2}


def wav2vec2(kind):
    torch.manual_seed(0)
    config = getattr(hf, f"{kind}Config")(**SIZES, **CONVOLUTIONS, num_conv_pos_embeddings=4)
    return getattr(hf, f"{kind}Model")(config), hf.Wav2Vec2FeatureExtractor()


def of_spectra(kind, extractor):
    torch.manual_seed(0)
    return getattr(hf, f"{kind}Model")(getattr(hf, f"{kind}Config")(**SIZES)), extractor


def whisper():
    torch.manual_seed(0)
    config = hf.WhisperConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        vocab_size=50,
        max_target_positions=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return hf.WhisperModel(config), hf.WhisperFeatureExtractor()


BUILDERS = {
    "wav2vec2": lambda: wav2vec2("Wav2Vec2"),
    "hubert": lambda: wav2vec2("Hubert"),
    "wavlm": lambda: wav2vec2("WavLM"),
    "data2vec": lambda: wav2vec2("Data2VecAudio"),
    "unispeech-sat": lambda: wav2vec2("UniSpeechSat"),
    "ast": lambda: of_spectra("AST", hf.ASTFeatureExtractor()),
    "w2v-bert": lambda: of_spectra("Wav2Vec2Bert", hf.SeamlessM4TFeatureExtractor()),
    "whisper": whisper,
}


@pytest.fixture(scope="module")
def demo():
    settings = load_corpus("demo")
    return settings, select(settings, corpus_clips(settings))


@pytest.fixture(autouse=True, scope="module")
def _few_strengths():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "STRENGTHS", (1e3, 30.0))
        yield


@pytest.fixture
def kept(data_dir):
    yield data_dir / "references"
    for file in (data_dir / "references").glob("*.json"):
        file.unlink()


@pytest.fixture
def saved(tmp_path):
    def save(name):
        folder = tmp_path / name
        for part in BUILDERS[name]():
            part.save_pretrained(folder)
        return folder

    return save


def test_an_encoder_of_text_beside_an_audio_extractor_is_refused_in_one_sentence(tmp_path):
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 20}
    hf.T5Model(hf.T5Config(**sizes)).save_pretrained(tmp_path)
    hf.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    _, load = encoders._transformers(str(tmp_path), "cpu")
    with pytest.raises(AmbiError, match="the encoder of t5 takes no audio features; give an audio encoder"):
        load()(np.zeros(1600, dtype=np.float32))


@pytest.mark.parametrize("name", BUILDERS)
def test_the_states_of_an_encoder_are_those_of_its_own_forward_pass(saved, name, voice):
    samples = encoders.load_audio(encoders.AudioSpan(voice(1.0, 1)), 16000)
    _, load = encoders._transformers(str(saved(name)), "cpu")
    states = load()(samples)
    model, extractor = BUILDERS[name]()
    features = extractor(samples, sampling_rate=16000, return_tensors="pt")
    part = model.encoder if name == "whisper" else model
    with torch.inference_mode():
        hidden = part.eval()(next(iter(features.values())), output_hidden_states=True).hidden_states
    assert list(states) == ["layer 1", "layer 2"]
    frames = hidden[2][0][:50] if name == "whisper" else hidden[2][0]  # a second of 30, 50 frames a second
    assert np.allclose(states["layer 2"][:16], frames.mean(0).numpy(), atol=1e-5)


@pytest.mark.slow
def test_a_probe_of_egemaps_hears_the_demos_raters_and_stands_among_the_references(demo, kept, monkeypatch):
    pytest.importorskip("opensmile")
    settings, selection = demo
    name, reading, _, file = encoders.probe("egemaps", "demo", "")
    assert name == "probe:egemaps"
    assert reading.gain.low > 0.3
    monkeypatch.setattr(encoders, "load_audio", lambda *_: pytest.fail("the clips were heard again"))
    assert encoders.probe("egemaps", "demo", "")[3] == file
    found = baselines(selection, settings, bin_clips(selection), acoustic=False)
    assert found.overall[name]["jsd_bits"].value < found.overall["prior_loso"]["jsd_bits"].value - 0.1
    assert found.counts[name] == len(selection.clips)
    assert all(name in of_bin for of_bin in found.binned)
    assert description(name).startswith("a linear probe of egemaps")


def test_a_reference_is_kept_for_its_corpus_its_labels_and_its_votes(demo, kept):
    settings, selection = demo
    p = np.random.default_rng(0).dirichlet([1] * 4, len(selection.clips))
    p[0] = np.nan
    file = save_supervised("probe:x/y", p, selection, settings)
    notes: list[str] = []
    ((name, found),) = supervised(selection.at([2, 0, 1]), settings, notes)
    assert name == "probe:x/y"
    assert np.array_equal(found, p[[2, 0, 1]], equal_nan=True)
    assert not list(supervised(selection, settings.model_copy(update={"labels": ["a", "b"]}), notes))
    assert not list(supervised(selection, settings.model_copy(update={"manifest": "other"}), notes))
    content = json.loads(file.read_text())
    next(iter(content["clips"].values()))["votes"][0] += 1
    file.write_text(json.dumps(content))
    assert not list(supervised(selection, settings, notes))
    assert notes == ["probe:x/y was fitted to other votes than these: run `ambi-eval probe` again"]
    file.write_text("[]")
    with pytest.raises(AmbiError, match=r"\.json holds no reference .*: remove it"):
        list(supervised(selection, settings, notes))


@pytest.mark.parametrize(
    ("encoder", "why"),
    [("no/such", "--encoder no/such cannot be loaded"), ("egemaps", "needs openSMILE .free for res")],
)
def test_an_encoder_that_is_not_to_be_had_is_told(encoder, why, monkeypatch):
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)
    with pytest.raises(AmbiError, match=why):
        encoders.probe(encoder, "demo", "")
