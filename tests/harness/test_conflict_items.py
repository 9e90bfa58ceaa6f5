"""Conflict items from the YAML to the score: a model that hears the voice, and one that reads the words."""

import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from ambi_eval.corpora.manifest import write_manifest
from ambi_eval.demo.corpus import prepare
from ambi_eval.models.hf_audio import HFAudio
from ambi_eval.models.openai_audio import OpenAIAudio

LABELS = ["angry", "happy", "neutral", "sad"]
OFTEN = 5  # of eight clips of a label, so many say the words of this label, and one the words of each other label


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The demo's voices with words to them: each sentence is said mostly by voices that sound as it reads."""
    folder = tmp_path_factory.mktemp("conflict")
    prepared = prepare(folder)
    clips, seen = [], Counter()
    for clip in prepared.clips:
        most = [label for label, count in clip.votes.items() if count == max(clip.votes.values())]
        if len(most) > 1:
            continue
        seen[most[0]] += 1
        away = max(seen[most[0]] % 8 - OFTEN + 1, 0)
        words = LABELS[(LABELS.index(most[0]) + away) % 4]
        clips.append(replace(clip, sentence=words, transcript=f"I am {words}."))
    write_manifest(prepared.manifest, clips, prepared.about)
    for strategy in ("exact", "sc"):
        (folder / f"words_{strategy}.yaml").write_text(
            "class: !function ambi_eval.task.AmbiguousEmotionTask\n"
            f"task: words_{strategy}\nstrategy: {strategy}\nmanifest: {prepared.manifest}\n"
            f"labels: [{', '.join(LABELS)}]\nmetrics: [acc, jsd_bits]\n"
        )
    return folder


@pytest.fixture
def accuracy(corpus):
    def run(lm, strategy, **metadata):
        manager = TaskManager(include_path=str(corpus), include_defaults=False, metadata=metadata)
        found = simple_evaluate(model=lm, tasks=[f"words_{strategy}"], task_manager=manager, bootstrap_iters=0)
        (scores,) = found["results"].values()
        return scores[f"acc,{'likelihood' if strategy == 'exact' else 'vote'}"], scores["sample_len"]

    return run


@pytest.fixture
def reader(chat_server, monkeypatch):
    """A model behind a server that answers what the words of the question say."""

    def read(body):
        words = re.search(r"I am (\w+)\.", json.dumps(body["messages"]))[1]
        choices = [
            {"index": each, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}
            for each in range(body.get("n") or 1)
        ]
        return {"choices": choices, "usage": {"prompt_tokens": 9, "completion_tokens": len(choices)}}

    monkeypatch.setattr(chat_server, "answer", read)
    return OpenAIAudio(model="listener", base_url=chat_server.url, store="none")


@pytest.mark.slow
def test_who_hears_the_voice_is_right_where_who_reads_the_words_is_wrong(corpus, accuracy, reader):
    hears = HFAudio("ambi-tiny", device="cpu", store="none", batch_size=16)
    of_reader, every = accuracy(reader, "sc", control="transcript")
    assert of_reader > 0.6, "the words are mostly right"
    of_reader, conflicts = accuracy(reader, "sc", control="transcript", items="conflict")
    assert of_reader == 0
    of_hearer, same = accuracy(hears, "exact", items="conflict")
    assert 15 <= conflicts == same < every
    assert of_hearer > 0.5, "chance is .25"
