"""Make `store.sqlite` and `questions.json`: run at commit fd0c634, whose stores must be found as long as there are any.

python tests/inference/old_store/make.py
"""

import json
from pathlib import Path

import numpy as np
import soundfile
from lm_eval.api.instance import Instance

from ambi_eval.models.hf_audio import HFAudio

HERE = Path(__file__).parent
VERIFIER = {"prompt": "<audio>Somebody said: <candidate> How well does it fit?", "ratings": ["1", "2", "3"]}
SAMPLED = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "until": ["\n"], "max_gen_toks": 8}
GENERATED = [
    ("<audio>Which emotion?", {"until": ["\n"], "max_gen_toks": 8}, 1, {}),
    ("<audio>Which emotion?", SAMPLED, 5, {}),
    ("<system>Be brief.</system>\n<audio>Which emotion?", {**SAMPLED, "top_k": 50}, 2, {}),
    ("<audio>Which emotion?", {"num_beams": 3, "max_gen_toks": 8}, 3, {"verifier": VERIFIER}),
]
SCORED = [("happy", True), ("sad", True), ("happy", False)]


def requests(audio: dict) -> tuple[list[Instance], list[Instance]]:
    generated = []
    for context, settings, repeats, more in GENERATED:
        arguments = (context, dict(settings), {"audio": [audio], **more})
        generated += [Instance("generate_until", {}, arguments, 0, metadata=("old", 0, repeats))] * repeats
    scored = [
        Instance("loglikelihood", {}, ("<audio>Which?", text, {"audio": [audio], "end_of_turn": ends}), 0)
        for text, ends in SCORED
    ]
    return generated, scored


if __name__ == "__main__":
    noise = np.random.default_rng(0).normal(0, 0.1, 4800).astype(np.float32)
    soundfile.write(HERE / "clip.flac", noise, 16000)
    (HERE / "store.sqlite").unlink(missing_ok=True)
    lm = HFAudio("ambi-tiny", device="cpu", dtype="float32", seed=7, store=str(HERE / "store.sqlite"))
    generated, scored = requests({"path": str(HERE / "clip.flac"), "start": 0.05, "end": 0.25})
    answers = lm.generate_until(generated)
    expected = {
        "identity": lm.recall.model,
        "answers": [[str(each), each.logprob, each.n_tokens, each.finish, each.rating] for each in answers],
        "likelihoods": lm.loglikelihood(scored),
    }
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1))
    lm.recall.store.close()
