import pytest
from support.answers_in_languages import LABELS, SHARES

from ambi_eval.answers.label import read_label
from ambi_eval.answers.languages import LANGUAGES, Spoken, in_english, spoken_in
from ambi_eval.answers.lexicon import freeze_synonyms, lexicon, name_of
from ambi_eval.answers.shares import read_shares
from ambi_eval.config.load import load_task, prompt_languages, read_yaml
from ambi_eval.paths import tasks_dir

CORPORA = {"it": "emozionalmente", "ru": "dusha", "th": "thai_ser"}


@pytest.fixture(scope="module")
def tasks():
    """Of each language: the labels, synonyms and language of a task that asks in it."""
    found = {}
    for language, corpus in CORPORA.items():
        task = load_task(tasks_dir() / corpus / f"ambi_{corpus}_sc.yaml", {"prompt_language": "corpus"})
        spoken = spoken_in(task.prompt_language, task.label_words)
        found[language] = (tuple(task.labels), freeze_synonyms(task.labels, task.synonyms), spoken)
    return found


@pytest.mark.parametrize(("language", "text"), [(lang, text) for lang, texts in LABELS.items() for text in texts])
def test_a_label_is_read_as_a_person_reads_it_or_not_at_all(tasks, language, text):
    labels, synonyms, spoken = tasks[language]
    shares = read_label(text, labels, synonyms, spoken=spoken).shares
    assert (shares and labels[shares.index(1)]) == LABELS[language][text]


@pytest.mark.parametrize(("language", "text"), [(lang, text) for lang, texts in SHARES.items() for text in texts])
def test_shares_are_read_as_a_person_reads_them_or_not_at_all(tasks, language, text):
    labels, synonyms, spoken = tasks[language]
    shares = read_shares(text, labels, synonyms, spoken=spoken).shares
    stated = shares and {label: share for label, share in zip(labels, shares, strict=True) if share}
    assert stated == (SHARES[language][text] and pytest.approx(SHARES[language][text]))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_that_a_prompt_uses_for_a_label_is_read_as_that_label(language):
    """Also where the table of the language knows no emotion of that name, such as `other`."""
    words = read_yaml(tasks_dir() / "_languages" / language / "labels.yaml")
    for label, word in words.items():
        spoken = Spoken(language, ((word, label),))
        assert read_label(word, (label, "elated"), spoken=spoken).shares == (1, 0)
        assert read_shares(f'{{"{word}": 0.3, "elated": 0.7}}', (label, "elated"), spoken=spoken).shares[0] == 0.3


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_word_of_an_emotion_in_a_prompt_is_that_emotion_in_the_table(language):
    words = read_yaml(tasks_dir() / "_languages" / language / "labels.yaml")
    for label, word in words.items():
        if label != "other":
            known = lexicon((label, "elated"), ())
            assert known.names.get(name_of(in_english(name_of(word), Spoken(language)))) == 0, word


def test_a_word_of_ones_own_counts_for_its_label():
    spoken = Spoken("it", (("sereno", "calm"), ("teso", "tense")))
    assert read_label("La voce è molto teso.", ("calm", "tense"), spoken=spoken).shares == (0, 1)


def test_a_denial_in_another_language_is_read_where_the_task_asks_in_it(tasks):
    labels, synonyms, spoken = tasks["ru"]
    assert read_label("не sad", labels, synonyms, spoken=spoken).reason == "negated"


def test_there_are_prompts_in_the_languages_that_are_read():
    assert prompt_languages() == sorted(LANGUAGES)
    assert in_english("das ist traurig", Spoken("de")) == "das ist traurig"
