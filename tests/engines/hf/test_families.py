import base64
import io
import json
import os
import shutil
from importlib.metadata import metadata
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from support import ROOT, families_that_hear, families_that_see
from transformers import (
    AutoProcessor,
    Dots3NoteConfig,
    InklingConfig,
    NemotronH_Omni_Reasoning_V3_Config,
    Qwen2AudioForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from ambi_eval.engines.hf import families, loading
from ambi_eval.engines.hf.families import Voxtral
from ambi_eval.engines.hf.loading import load_family, processor_digest, weights_digest
from ambi_eval.errors import AmbiError

HEAD = "language_model.lm_head.weight"  # as on the hub


def load(source, **options):
    options = {"revision": "main", "dtype": torch.float32, "device": torch.device("cpu"), **options}
    return load_family(str(source), **options)


@pytest.fixture(scope="module")
def family(qwen2_audio_checkpoint):
    return load(qwen2_audio_checkpoint)


@pytest.fixture
def copy(qwen2_audio_checkpoint, tmp_path):
    """A copy of the checkpoint to change."""
    return shutil.copytree(qwen2_audio_checkpoint, tmp_path / "copy")


def edit(path, **changes):
    content = json.loads(path.read_text())
    content |= changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_a_checkpoint_is_loaded_with_the_class_that_it_names(family):
    assert isinstance(family.model, Qwen2AudioForConditionalGeneration)
    assert not family.model.training
    assert family.model.dtype == torch.float32


@pytest.mark.parametrize("architectures", [None, ["ClassOfSomebodyElse"]])
def test_a_checkpoint_that_names_no_class_is_loaded_by_its_type(copy, architectures):
    edit(copy / "config.json", architectures=architectures)
    assert isinstance(load(copy).model, Qwen2AudioForConditionalGeneration)


def test_what_a_family_knows_about_its_model(family):
    tokenizer = family.processor.tokenizer
    assert family.sample_rate == 16000
    assert family.window_seconds == 30
    assert tokenizer.convert_ids_to_tokens(family.end_ids) == ["<|im_end|>", "<|endoftext|>"]
    assert tokenizer.convert_ids_to_tokens(family.placeholder_ids) == ["<|AUDIO|>"]
    assert family.max_positions == 2048
    assert family.rope_delta == 0


def test_the_end_of_a_turn_is_found_without_generation_settings(copy):
    (copy / "generation_config.json").unlink()
    assert load(copy).end_ids == [2]


def test_nothing_is_left_of_the_checkpoints_own_sampling_recipe(family):
    settings = family.model.generation_config
    assert (settings.do_sample, settings.top_p, settings.top_k, settings.repetition_penalty) == (None,) * 4


def test_voxtral_gets_its_audio_as_a_file_that_loses_nothing():
    samples = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    part = Voxtral.audio_part(SimpleNamespace(sample_rate=16000), samples)
    decoded, rate = soundfile.read(io.BytesIO(base64.b64decode(part["base64"])), dtype="float32")
    assert np.array_equal(decoded, samples)
    assert rate == 16000


def test_the_prompt_is_the_models_chat_template_with_the_audio_in_it(family):
    part = family.audio_part(np.zeros(16000, np.float32))
    inputs = family.model_inputs([{"role": "user", "content": [part, {"type": "text", "text": "Which?"}]}])
    text = family.processor.tokenizer.decode(inputs["input_ids"][0])
    assert text.replace("<|AUDIO|>" * 25, "<|AUDIO|>") == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "Audio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\nWhich?<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("seconds", [[0.1], [2.5], [3.0, 0.7], [4.995], [30.0]])
@torch.inference_mode()
def test_qwen2_audio_computes_the_same_without_the_padding_to_its_window(qwen2_audio_checkpoint, family, seconds):
    """Transformers' own model and extractor, to which nothing of ours was done, read 30 s of every audio."""
    model = Qwen2AudioForConditionalGeneration.from_pretrained(qwen2_audio_checkpoint).eval()
    processor = AutoProcessor.from_pretrained(qwen2_audio_checkpoint)
    rng = np.random.default_rng(0)
    audios = [0.1 * rng.standard_normal(int(16_000 * length), dtype=np.float32) for length in seconds]
    content = [{"type": "audio", "audio": audio} for audio in audios] + [{"type": "text", "text": "Which?"}]
    padded, given = (
        each.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            return_tensors="pt",
        )
        for each in (processor, family.processor)
    )
    assert padded["input_features"].shape[-1] == 3000
    assert 100 * max(seconds) <= given["input_features"].shape[-1] <= 100 * max(seconds) + 5
    assert torch.equal(given["input_ids"], padded["input_ids"])
    torch.testing.assert_close(family.model(**given).logits, model(**padded).logits, atol=1e-5, rtol=0)


def test_an_adapter_is_merged_into_the_weights(qwen2_audio_checkpoint, family, tmp_path):
    model = Qwen2AudioForConditionalGeneration.from_pretrained(qwen2_audio_checkpoint)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path)
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        expected = adapted(input_ids=ids).logits
        merged = load(qwen2_audio_checkpoint, peft=str(tmp_path)).model(input_ids=ids).logits
        plain = family.model(input_ids=ids).logits
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=0)
    assert (merged - plain).abs().max() > 0.01
    assert weights_digest(str(qwen2_audio_checkpoint), str(tmp_path)) != weights_digest(str(qwen2_audio_checkpoint))


def test_an_adapter_of_another_model_is_said(qwen2_audio_checkpoint, tmp_path):
    model = Qwen2AudioForConditionalGeneration.from_pretrained(qwen2_audio_checkpoint)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    save_file({f"other.{name}": value for name, value in load_file(weights).items()}, weights)
    with pytest.raises(AmbiError, match=r"is no adapter of this model \(Found missing adapter keys .*correct peft="):
        load(qwen2_audio_checkpoint, peft=str(tmp_path))


def test_the_digest_is_of_the_weights_wherever_they_lie(qwen2_audio_checkpoint, copy):
    digest = weights_digest(str(qwen2_audio_checkpoint))
    assert weights_digest(str(copy)) == digest
    edit(copy / "config.json", transformers_version="0.0")
    assert weights_digest(str(copy)) == digest
    weights = load_file(copy / "model.safetensors")
    weights[HEAD] = weights[HEAD] * 1.001
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert weights_digest(str(copy)) != digest


@pytest.fixture
def sharded(tmp_path, monkeypatch):
    """A checkpoint of two files, large for a test, and a cache of its own."""
    monkeypatch.setattr(loading, "LARGE_FILE", 100)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"model-{number}.safetensors").write_bytes(bytes(range(200)))
    return folder


@pytest.mark.parametrize("shard", [1, 2])
@pytest.mark.parametrize("place", [0, 3, 101, 199])
def test_every_byte_of_every_weight_file_is_in_the_digest(sharded, shard, place):
    before = weights_digest(str(sharded))
    changed = bytearray(range(200))
    changed[place] ^= 1
    (sharded / f"model-{shard}.safetensors").write_bytes(changed)
    assert weights_digest(str(sharded)) != before


def test_a_large_file_is_read_once_until_it_changes(sharded, monkeypatch):
    read = []
    monkeypatch.setattr(loading, "_sha256", lambda path, sha256=loading._sha256: read.append(path.name) or sha256(path))
    before = weights_digest(str(sharded))
    assert sorted(read) == ["model-1.safetensors", "model-2.safetensors"]
    assert weights_digest(str(sharded)) == before
    assert len(read) == 2
    os.utime(sharded / "model-1.safetensors", ns=(1, 1))
    assert weights_digest(str(sharded)) == before
    assert read[2:] == ["model-1.safetensors"]
    (sharded.parent / "cache" / "ambi_eval" / "digests.json").write_text("{damaged")
    assert weights_digest(str(sharded)) == before
    assert len(read) == 5


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors.index.json",
        "generation_config.json",
        "chat_template.jinja",
        "additional_chat_templates/short.jinja",
        "modeling_mine.py",
        "code/modeling_mine.py",
        "speech-lora/adapter_config.json",
    ],
)
def test_whatever_else_changes_an_answer_is_in_the_digest_of_the_processor(tmp_path, name):
    (tmp_path / "config.json").write_text("{}")
    before = processor_digest(str(tmp_path))
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("1")
    once = processor_digest(str(tmp_path))
    file.write_text("2")
    assert len({before, once, processor_digest(str(tmp_path))}) == 3


def test_a_checkpoint_that_is_not_there_is_said():
    with pytest.raises(AmbiError, match=r"no/such-model cannot be loaded \(.*\); give a folder or a repository"):
        load("no/such-model")


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("config.json", {"model_type": "qwen9_audio"}, r"cannot be loaded \(.*qwen9_audio"),
        (
            "config.json",
            {"model_type": "voxtral"},
            r"\(voxtral\) needs mistral_common: pip install 'ambi_eval\[voxtral\]'",
        ),
    ],
)
def test_a_checkpoint_that_this_installation_cannot_load_is_said(copy, monkeypatch, name, changes, sentence):
    monkeypatch.setattr(loading, "find_spec", lambda module: None)
    edit(copy / name, **changes)
    with pytest.raises(AmbiError, match=sentence):
        load(copy)


def test_every_extra_that_a_family_names_is_one_of_the_package():
    extras = set(metadata("ambi-eval").get_all("Provides-Extra"))
    assert {family.extra for family in families.FAMILIES.values() if family.needs} <= extras


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_family_has_a_tiny_model_for_the_contract_and_a_row_in_the_docs(name):
    # An Omni model without its part that speaks is a model_type of its own.
    built = {each.removesuffix("_thinker") for each in families_that_hear.BUILDERS | families_that_see.BUILDERS}
    assert name.removesuffix("_thinker") in built, (
        f"write a tiny {name} into BUILDERS of tests/support/families_that_hear.py"
    )
    assert f"`{name}`" in (ROOT / "docs" / "families.md").read_text(encoding="utf-8"), (
        f"docs/families.md: a row of {name}"
    )


def test_a_package_that_does_not_work_is_said_with_what_is_wrong_with_it(copy, monkeypatch):
    def broken(*args, **kwargs):
        try:
            raise RuntimeError("operator torchvision::nms does not exist")
        except RuntimeError as error:
            raise ModuleNotFoundError("Could not import module 'Qwen2AudioProcessor'.") from error

    monkeypatch.setattr(loading.AutoProcessor, "from_pretrained", broken)
    with pytest.raises(AmbiError, match=r"does not fit torch 2.*: operator torchvision::nms does not exist"):
        load(copy)


def test_damaged_weights_are_said(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:10_000])
    with pytest.raises(AmbiError, match="cannot be loaded"):
        load(copy)


def test_weights_that_are_missing_are_not_made_up(copy):
    weights = load_file(copy / "model.safetensors")
    del weights[HEAD]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        AmbiError, match=r"lacks 1 weights of a Qwen2AudioForConditionalGeneration, lm_head\.weight first"
    ):
        load(copy)


def test_a_model_that_only_reads_is_said(qwen2_audio_checkpoint, tmp_path):
    config = Qwen2Config(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=400)
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    shutil.copy(qwen2_audio_checkpoint / "tokenizer.json", tmp_path)
    with pytest.raises(AmbiError, match="is a model without audio support"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (NemotronH_Omni_Reasoning_V3_Config, r"\(nemotron_h_omni\) cannot be decoded .* a running state \(Mamba"),
        (InklingConfig, r"\(inkling_mm_model\) cannot be decoded .* a running state .* --model openai-audio"),
        (Dots3NoteConfig, r"\(dots3_note\) cannot be decoded .* an index of the tokens to attend to"),
    ],
)
def test_a_model_that_remembers_more_than_keys_and_values_is_refused_before_its_weights_are_read(
    copy, config, sentence
):
    (copy / "model.safetensors").unlink()
    config().save_pretrained(copy)
    with pytest.raises(AmbiError, match=sentence):
        load(copy)


def test_a_model_that_takes_no_questions_is_said(copy):
    (copy / "chat_template.jinja").unlink()
    edit(copy / "processor_config.json", processor_class="WhisperProcessor")
    edit(copy / "tokenizer_config.json", processor_class="WhisperProcessor")
    with pytest.raises(AmbiError, match="has no chat template"):
        load(copy)
