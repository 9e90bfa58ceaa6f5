"""Reads the one label that a text asserts about the speaker; unclear texts give no label."""

from __future__ import annotations

from functools import lru_cache

from ambi_eval.answers import grammar
from ambi_eval.answers.languages import ENGLISH, Spoken, in_english
from ambi_eval.answers.lexicon import Answer, Lexicon, Synonyms, lexicon, normalized_answer
from ambi_eval.answers.objects import find_objects, labels_in
from ambi_eval.answers.sentences import Sentence, read_sentences


@lru_cache(maxsize=1 << 15)
def read_label(
    text: str, labels: tuple[str, ...], synonyms: Synonyms = (), cut: bool = False, spoken: Spoken = ENGLISH
) -> Answer:
    """Read the one label that a text asserts.

    A label counts in an answer form (`happy`, `Answer: happy`, `{"emotion": "happy"}`) or in a statement about the
    speaker that consists of known words only ("The voice sounds very happy"). Other sentences are not read: a question,
    a wish, a condition, a quotation or a refusal is no vote. docs/answers.md shows the grammar.

    Args:
        text: The model's whole answer; its thinking is skipped.
        labels: The task's labels.
        synonyms: Other words for the labels, as `freeze_synonyms` returns them.
        cut: Whether the answer was cut at the token limit. Then only an answer form with text after it counts.
        spoken: The language of the answer, besides English.

    Returns:
        Share 1 for the label, or the reason why there is none. No text raises an error.

    >>> read_label("Happy (not sad).", ("angry", "happy", "sad")).shares
    (0.0, 1.0, 0.0)
    """
    bare = text.strip(" \n\"'.*!")
    for index, label in enumerate(labels):  # the usual answer, read in a fraction of the time
        if bare == label and not cut:
            return one_label(index, len(labels))
    plain = normalized_answer(text)
    if plain is None or not plain.strip():
        return Answer(None, "truncated" if cut else "unfinished" if plain is None else "empty")
    plain, words = in_english(plain, spoken), lexicon(labels, synonyms)
    objects = find_objects(plain, words)
    stated_label: int | None = None
    for found in objects:
        stated = found.stated
        if stated is None or (cut and not found.is_closed):
            continue
        named = {k for k, number in stated.numbers.items() if number.value > 0}
        one = stated.label if stated.label is not None else named.pop() if len(named) == 1 else None
        if one is None or stated.several or stated_label not in (None, one):
            return Answer(None, "ambiguous_label")
        if not found.is_closed and set(labels_in(plain, words)) != {one}:
            return Answer(None, "unfinished")
        stated_label = one
    if stated_label is not None:
        return one_label(stated_label, len(labels))
    if objects:
        plain = plain[: objects[0].start]
    return read_prose(plain, words, cut=cut)


def one_label(label: int, size: int) -> Answer:
    """Return the answer that gives one label the share 1."""
    return Answer(tuple([float(index == label) for index in range(size)]))


def read_prose(plain: str, words: Lexicon, *, cut: bool = False) -> Answer:
    """Read the label that a plain text without objects asserts."""
    sentences = read_sentences(plain, words, cut=cut)
    mentions = [mention for sentence in sentences for mention in sentence.mentions]
    if grammar.UNHEARD.search(plain):
        return Answer(None, "refused")
    label = _concluded(sentences) if not cut else _first_form(sentences)
    if label is not None:
        return one_label(label, words.size)
    if cut:
        return Answer(None, "truncated")
    asserted = {label for label, state in mentions if state == "asserted"}
    if len(asserted) > 1 or (asserted and any(state == "open" for _, state in mentions)):
        return Answer(None, "ambiguous_label")
    if grammar.REFUSAL.search(plain):
        return Answer(None, "refused")
    if not mentions:
        return Answer(None, "no_label")
    if len({label for label, state in mentions if state != "denied"}) > 1:
        return Answer(None, "ambiguous_label")
    return Answer(None, "negated" if all(state == "denied" for _, state in mentions) else "not_asserted")


def _concluded(sentences: list[Sentence]) -> int | None:
    """Return the label that the text concludes or asserts; None if it is unclear."""
    cues = [s for s in sentences if s.is_cue and not (s.mentions and all(state == "denied" for _, state in s.mentions))]
    if cues:
        rest = sentences[sentences.index(cues[-1]) + 1 :]
        later = {label for sentence in rest for label, state in sentence.mentions if state == "asserted"}
        if later - {cues[-1].label} or any(sentence.is_other for sentence in rest):
            return None
        named = {sentence.label for sentence in cues}
        if len(named) == 1:
            return cues[0].label
        return cues[-1].label if cues[-1].is_final else None
    naming = [sentence for sentence in sentences if sentence.mentions]
    if not naming:
        return None
    last = naming[-1]
    before = [mention for sentence in naming[:-1] for mention in sentence.mentions]
    is_conclusion = last.concludes or (last.is_alone and not any(sentence.is_alone for sentence in naming[:-1]))
    if is_conclusion and last.label is not None and (last.label, "denied") not in before:
        return last.label
    mentions = [mention for sentence in naming for mention in sentence.mentions]
    asserted = {label for label, state in mentions if state == "asserted"}
    if len(asserted) != 1:
        return None
    (label,) = asserted
    others = {state for other, state in mentions if other != label}
    unclear = (label, "denied") in mentions or "open" in others or ("asked" in others and last.label is None)
    return None if unclear else label


def _first_form(sentences: list[Sentence]) -> int | None:
    """Return the label of a text that was cut, from an answer form that ended before the cut; None without one."""
    whole = sentences[:-1]
    for sentence in whole:
        if (sentence.is_cue or sentence.is_alone) and sentence.label is not None:
            others = {label for each in whole for label, state in each.mentions if state != "denied"}
            return sentence.label if len(others) == 1 else None
    return None
