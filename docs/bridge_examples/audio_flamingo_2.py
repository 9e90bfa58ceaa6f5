"""Audio Flamingo 2 for the bridge: `python bridge.py audio_flamingo_2:generate`.

Runs in the folder `inference_HF_pretrained` of NVIDIA's repository, beside its `inference.py`, in the environment that
its README describes. Written after that file; without the weights at hand it could be checked up to the interface only.
"""

import json
from pathlib import Path

import inference
import torch
import yaml
from huggingface_hub import snapshot_download
from safetensors.torch import load_file

snapshot_download("nvidia/audio-flamingo-2", local_dir=".")
config = yaml.safe_load(Path("configs/inference.yaml").read_text())
train = config["train_config"]
model, tokenizer = inference.create_model_and_transforms(
    **config["model_config"],
    clap_config=config["clap_config"],
    use_local_files=train["offline"],
    gradient_checkpointing=train["gradient_checkpointing"],
    freeze_lm_embeddings=train["freeze_lm_embeddings"],
)
weights = {}
for chunk in json.loads(Path("safe_ckpt/metadata.json").read_text()):
    weights.update(load_file(f"safe_ckpt/{chunk}.safetensors"))
model.load_state_dict(weights, strict=False)
model = model.cuda().eval()
dtype = inference.get_cast_dtype(train["precision"])


@torch.no_grad()
def generate(audio_path, prompt, n, *, temperature, top_p, max_tokens, seed, stop, system):
    """Return n answers; see bridge.py."""
    if audio_path is None:
        raise ValueError("Audio Flamingo 2 needs an audio")
    if seed is not None:
        torch.manual_seed(seed)
    # Divides by the largest sample: loudness is lost, and silence is undefined.
    clips, mask = inference.load_audio(audio_path, config["clap_config"])
    # As its own script asks: lower case, and no system message apart from the question.
    question = " ".join(filter(None, [system, prompt])).lower().strip()
    tokens = tokenizer(f"<audio>{question}{tokenizer.sep_token}", return_tensors="pt")["input_ids"]
    drawn = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}
    answers = []
    for _ in range(n):
        output = model.generate(
            audio_x=clips[None].to("cuda", dtype),
            audio_x_mask=mask[None].to("cuda", dtype),
            lang_x=tokens.cuda(),
            eos_token_id=tokenizer.eos_token_id,
            max_new_tokens=max_tokens,
            **drawn,
        )[0]
        text = tokenizer.decode(output).split(tokenizer.sep_token)[-1]
        for mark in (tokenizer.eos_token, tokenizer.pad_token, "<|endofchunk|>", *stop):
            text = text.split(mark)[0]
        answers.append(text)
    return answers
