"""`prompt_language: corpus`: the prompts of every strategy in the language of the corpus."""

import re

import pytest

from ambi_eval.config.load import corpus_files, load_task, strategy_names
from ambi_eval.config.prompts import Prompts
from ambi_eval.config.tasks import APART
from ambi_eval.corpora.registry import corpus, corpus_names
from ambi_eval.errors import AmbiError
from ambi_eval.paths import tasks_dir

CORPORA = {"it": "emozionalmente", "ru": "dusha", "th": "thai_ser"}
SCRIPT = {"it": r"\b(?:emozione|emozioni|emotivo)\b", "ru": "эмоци", "th": "อารมณ์"}


@pytest.mark.parametrize("strategy", sorted(set(strategy_names()) - set(APART)))
@pytest.mark.parametrize("language", CORPORA)
def test_every_prompt_of_every_strategy_is_in_the_language_with_its_labels(language, strategy):
    name = CORPORA[language]
    path = tasks_dir() / name / f"ambi_{name}_{strategy}.yaml"
    english, task = load_task(path), load_task(path, {"prompt_language": "corpus"})
    assert english.prompt_language == "en"
    assert task.prompt_language == language
    assert len(task.templates) == len(english.templates)
    prompts = Prompts(task)
    asked = prompts.about("WORDS")
    if task.verifier:
        asked.append(prompts.rating("WORDS", "CANDIDATE"))
        assert "CANDIDATE" in asked[-1]
        assert "1" in asked[-1]
        assert str(task.verifier.ratings) in asked[-1]
    for prompt in asked:
        assert prompt.startswith("<audio>")
        assert re.search(SCRIPT[language], prompt, re.IGNORECASE), prompt
        assert not re.search(r"\b(?:the|voice|listeners|emotion|each|recording)\b", prompt), prompt
        words = [prompt.index(word) for word in task.asked_labels]
        assert words == sorted(words), "labels stand in their order"
        assert ("WORDS" in prompt) == (task.transcript == "given")
    same = ("pool", "readout", "repeats", "filter_list", "generation_kwargs", "labels")
    assert {key: getattr(task, key) for key in same} == {key: getattr(english, key) for key in same}


@pytest.mark.parametrize("strategy", APART)
def test_a_strategy_with_english_prompts_only_says_so(strategy):
    path = tasks_dir() / "dusha" / f"ambi_dusha_{strategy}.yaml"
    with pytest.raises(AmbiError, match=f"the strategy {strategy} has prompts in English only"):
        load_task(path, {"prompt_language": "corpus"})


def test_a_transcript_stands_in_every_prompt_that_may_hold_one():
    for language, name in CORPORA.items():
        for strategy in ("direct", "cot", "sc", "ens", "almv"):
            told = {"prompt_language": "corpus", "transcript": "given"}
            task = load_task(tasks_dir() / name / f"ambi_{name}_{strategy}.yaml", told)
            prompts = Prompts(task)
            asked = prompts.about("WORDS") + ([prompts.rating("WORDS", "X")] if task.verifier else [])
            assert all('"WORDS"' in prompt for prompt in asked), (language, strategy)


def test_a_corpus_in_english_is_asked_in_english():
    path = tasks_dir() / "whiser" / "ambi_whiser_sc.yaml"
    assert load_task(path, {"prompt_language": "corpus"}).doc_to_text == load_task(path).doc_to_text


def test_the_language_of_a_task_is_that_of_its_corpus():
    """The demo has none: its speakers say no words."""
    for name, path in corpus_files().items():
        told = re.search(r"^language: (\w+)$", path.read_text(), re.MULTILINE)
        recipe = name if name in corpus_names() else name.removesuffix("_full").removesuffix("_arousal")
        assert recipe == "demo" or told[1] == corpus(recipe).language


BASE = "class: x\ntask: mine\nmanifest: mine.jsonl\nstrategy: sc\nprompt_language: corpus\n"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("labels: [angry, sad]", "the key 'language' is missing"),
        ("labels: [angry, sad]\nlanguage: de", "has prompts in en, it, ru, th only, and language is 'de'"),
        ("labels: [elated, sad]\nlanguage: it", "no word for the label 'elated' in 'it': add it to label_words"),
        ("labels: [angry, sad]\nlanguage: it\nlabel_words: {sat: mesto}", "label_words names 'sat', which is no label"),
        ("labels: [angry, sad]\nlanguage: it\nlabel_words: {sad: rabbia}", "label_words must be different words"),
        ("labels: [angry, sad]\nprompt_language: fr", "prompt_language is 'fr'; it must be one of en, corpus, it"),
        ("labels: [angry, sad]\nprompt_language: en\nlabel_words: {sad: triste}", "label_words goes with"),
    ],
)
def test_a_language_that_cannot_be_is_one_sentence(tmp_path, lines, message):
    given = {line.partition(":")[0] for line in lines.splitlines()}
    base = "\n".join(line for line in BASE.splitlines() if line.partition(":")[0] not in given)
    (tmp_path / "mine.yaml").write_text(f"{base}\n{lines}\n")
    with pytest.raises(AmbiError, match=message):
        load_task(tmp_path / "mine.yaml")


def test_words_and_wording_of_ones_own_win(tmp_path):
    own = 'label_words: {elated: euforia}\ndoc_to_text: "<audio>Quale? {{ labels }}"\n'
    (tmp_path / "mine.yaml").write_text(f"{BASE}labels: [elated, sad]\nlanguage: it\n{own}")
    task = load_task(tmp_path / "mine.yaml")
    assert task.asked_labels == ["euforia", "tristezza"]
    assert Prompts(task).about(None) == ["<audio>Quale? ['euforia', 'tristezza']"]
