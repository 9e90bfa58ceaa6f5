import pytest
from lm_eval.utils import simple_parse_args_string

from ambi_eval.config.model_arguments import (
    HFAudioArguments,
    ModelArguments,
    OpenAIAudioArguments,
    VLLMAudioArguments,
)
from ambi_eval.errors import AmbiError


def read(kind, text):
    """Read arguments as the harness hands them over."""
    return kind.read(simple_parse_args_string(text), "--model_args")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("pretrained=x", "batch_size", 1),
        ("pretrained=x,batch_size=4", "batch_size", 4),
        ("pretrained=x,batch_size=auto", "batch_size", "auto"),
        ("pretrained=x,batch_size=auto:4", "batch_size", "auto"),
        ("pretrained=x,seed=7", "seed", 7),
        ("pretrained=x,seed=-7", "seed", -7),
        ("pretrained=7", "pretrained", "7"),
        ("pretrained=x,trust_remote_code=True", "trust_remote_code", True),
    ],
)
def test_arguments_of_the_command_line_get_their_type(text, name, value):
    found = getattr(read(HFAudioArguments, text), name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        (HFAudioArguments, "", "--model_args: it needs a model: --model_args pretrained="),
        (HFAudioArguments, "pretraind=x", "unknown key 'pretraind', did you mean 'pretrained'"),
        (OpenAIAudioArguments, "modle=x,base_url=http://x/v1", "unknown key 'modle', did you mean 'model'"),
        (HFAudioArguments, "pretrained=x,batch_size=0", "batch_size is 0; it must be more than 0"),
        (HFAudioArguments, "pretrained=x,batch_size=-1", "batch_size is -1"),
        (HFAudioArguments, "pretrained=x,batch_size=1.5", r"batch_size is 1\.5; it must be a whole number"),
        (HFAudioArguments, "pretrained=x,seed=inf", "seed is inf"),
        (HFAudioArguments, "pretrained=x,verifier_base_url=http://x/v1", "verifier=self is no server; give verifier="),
        (OpenAIAudioArguments, "model=x,timeout=inf", "timeout is inf; it must be a finite number"),
        (OpenAIAudioArguments, "model=x,timeout=nan", "timeout is nan"),
        (OpenAIAudioArguments, "model=x,timeout=0", "timeout is 0; it must be more than 0"),
        (OpenAIAudioArguments, "model=x,api_key=sk-1", "keys do not belong on the command line"),
        (VLLMAudioArguments, "vllm=x", "--model_args: it needs a model: --model_args pretrained="),
        (
            VLLMAudioArguments,
            "pretrained=x,gpu_memory_utilization=2",
            "gpu_memory_utilization is 2; it must be at",
        ),
        (VLLMAudioArguments, "pretrained=x,model=y", "unknown key 'model'"),
        (OpenAIAudioArguments, "model=x,max_audio_seconds=0", "max_audio_seconds is 0; it must be more than 0"),
        (OpenAIAudioArguments, "model=x,max_retries=-1", "max_retries is -1; it must be at least 0"),
    ],
)
def test_a_mistake_is_one_sentence(kind, text, sentence):
    with pytest.raises(AmbiError, match=sentence) as told:
        read(kind, text)
    assert len(str(told.value).splitlines()) == 1
    assert "sk-1" not in str(told.value)


def test_every_argument_says_what_it_means():
    for kind in (ModelArguments, HFAudioArguments, OpenAIAudioArguments, VLLMAudioArguments):
        assert all(field.description for field in kind.model_fields.values())


def test_what_a_submission_publishes_names_no_place_on_a_machine_and_runs_no_code():
    kinds = (HFAudioArguments, OpenAIAudioArguments, VLLMAudioArguments)
    published = {name for kind in kinds for name in kind.published()}
    lengths = {"long_audio", "max_audio_seconds", "max_length", "max_model_len"}
    assert published == {"pretrained", "revision", "dtype", "peft", "seed", "model", "think_end_token", *lengths}
