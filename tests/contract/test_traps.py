"""What single families of audio-language models get wrong by themselves, and what `hf-audio` does about it."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from ambi_eval.audio import AudioSpan, load_audio
from ambi_eval.engines.hf.loading import load_family
from ambi_eval.engines.prompt import as_messages
from ambi_eval.errors import AmbiError
from ambi_eval.models.hf_audio import HFAudio


def load(checkpoint):
    return load_family(str(checkpoint), revision="main", dtype=torch.float32, device=torch.device("cpu"))


def heard(family, context, *paths):
    audios = [load_audio(AudioSpan(path), family.sample_rate) for path in paths]
    return as_messages(context, [family.audio_part(audio) for audio in audios])


def likelihoods(checkpoint, requests, **options):
    return HFAudio(str(checkpoint), device="cpu", seed=0, store="none", **options).loglikelihood(requests)


@pytest.mark.parametrize("name", ["phi4_multimodal", "granite_speech"])
def test_a_batch_of_the_family_itself_changes_what_a_short_clip_says(checkpoint_of, voice, name):
    """Why each clip is encoded alone; that ours does not change is part of the contract."""
    family = load(checkpoint_of(name))
    pair = [heard(family, "<audio>Which?", voice(seconds)) for seconds in (0.7, 3.0)]
    with torch.inference_mode():
        alone = family.model(**family.model_inputs(pair[0])).logits[0, -1]
        together = family.processor.apply_chat_template(
            pair,
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            return_tensors="pt",
            processor_kwargs={"text_kwargs": {"padding": True}},
        )
        padded = family.model(**together, position_ids=(together["attention_mask"].cumsum(1) - 1).clamp(min=0)).logits[
            0, -1
        ]
    assert (alone - padded).abs().max() > 1e-3


def test_phi4_keeps_its_chat_template(checkpoint_of):
    checkpoint = checkpoint_of("phi4_multimodal")
    assert hf.AutoProcessor.from_pretrained(checkpoint).chat_template is None
    family = load(checkpoint)
    assert family.processor.chat_template == family.processor.tokenizer.chat_template


def test_the_speech_adapter_of_phi4_is_part_of_it(checkpoint_of, ask, voice, tmp_path):
    checkpoint = checkpoint_of("phi4_multimodal")
    request = ask("<audio>Which?", voice(2.0), continuation="happy")
    bare = shutil.copytree(checkpoint, tmp_path / "bare")
    weights = bare / "speech-lora" / "adapter_model.safetensors"
    lora = load_file(weights)
    save_file({name: value * 0 for name, value in lora.items()}, weights, metadata={"format": "pt"})
    ((whole, _),), ((silent, _),) = likelihoods(checkpoint, [request]), likelihoods(bare, [request])
    assert abs(whole - silent) > 1e-3

    save_file({f"other.{name}": value for name, value in lora.items()}, weights, metadata={"format": "pt"})
    with pytest.raises(AmbiError, match=r"speech-lora is no adapter of this model \(Found missing adapter keys"):
        load(bare)
    shutil.rmtree(bare / "speech-lora")
    with pytest.raises(AmbiError, match=r"speech-lora is no adapter of this model .* download the whole repository"):
        load(bare)


@pytest.mark.parametrize("name", ["qwen2_5_omni", "qwen3_omni_moe"])
def test_of_a_whole_omni_model_the_thinker_is_loaded(checkpoint_of, ask, voice, name, tmp_path):
    """The checkpoints on the hub hold the part that speaks as well."""
    thinker = checkpoint_of(f"{name}_thinker")
    whole = shutil.copytree(thinker, tmp_path / "whole")
    config = {"architectures": ["SomethingThatSpeaks"], "model_type": name}
    config["thinker_config"] = json.loads((thinker / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps(config))
    weights = {f"thinker.{key}": value for key, value in load_file(thinker / "model.safetensors").items()}
    weights["talker.codec_head.weight"] = torch.zeros(3, 3)
    save_file(weights, whole / "model.safetensors", metadata={"format": "pt"})
    request = ask("<audio>Which?", voice(2.0), continuation="happy")
    ((expected, _),) = likelihoods(thinker, [request])
    assert likelihoods(whole, [request]) == [(pytest.approx(expected, abs=1e-4), False)]


def test_qwen2_5_omni_counts_positions_anew_for_each_prompt(checkpoint_of, ask, voice):
    """It keeps the difference between tokens and positions on itself, that of the last prompt."""
    checkpoint = checkpoint_of("qwen2_5_omni_thinker")
    asked = [ask("<audio>Which?", voice(seconds), max_gen_toks=6) for seconds in (3.0, 12.0)]
    lm = HFAudio(str(checkpoint), device="cpu", seed=0, store="none", batch_size=2)
    together = lm.generate_until(asked)
    for answer, request in zip(together, asked, strict=True):
        (alone,) = lm.generate_until([request])
        assert alone == answer
        assert alone.logprob == pytest.approx(answer.logprob, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("qwen2_audio", 30),
        ("qwen2_5_omni_thinker", 300),
        ("qwen3_omni_moe_thinker", None),
        ("audioflamingo3", 600),
        ("musicflamingo", 1200),
        ("phi4_multimodal", None),
        ("voxtral", None),
        ("granite_speech", None),
        ("gemma3n", 30),
        ("gemma4", 30),
        ("gemma4_unified", None),
        ("muse_spark", None),
        ("glmasr", 650),  # says 655, of which it hears whole windows: of 10 s here, of 30 s in the published checkpoint
    ],
)
def test_the_window_is_what_the_processor_keeps(checkpoint_of, name, seconds):
    assert load(checkpoint_of(name)).window_seconds == seconds


@pytest.mark.parametrize("name", ["qwen2_audio", "gemma3n", "gemma4"])
def test_the_processor_itself_cuts_after_its_window_without_a_word(checkpoint_of, name, caplog):
    family = load(checkpoint_of(name))
    long = np.random.default_rng(0).standard_normal(32 * 16000).astype(np.float32)
    with caplog.at_level(logging.WARNING):
        whole, cut = (
            family.model_inputs(as_messages("<audio>Which?", [family.audio_part(each)]))
            for each in (long, long[: 30 * 16000])
        )
    assert whole["input_ids"].tolist() == cut["input_ids"].tolist()
    assert not caplog.records
