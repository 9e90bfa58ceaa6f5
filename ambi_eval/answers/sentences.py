"""Reads whether each sentence of a text asserts or denies a label, asks for it, or leaves it open."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Literal

from ambi_eval.answers import grammar
from ambi_eval.answers.lexicon import Lexicon, name_of

# What a sentence says about a label.
State = Literal["asserted", "denied", "asked", "open"]


@dataclass(slots=True)
class Sentence:
    """A sentence or line: its labels in order with the state of each, and the kind of sentence."""

    mentions: list[tuple[int, State]]
    is_cue: bool = False  # "Answer: ..."
    is_final: bool = False  # "Final answer: ..."
    is_alone: bool = False  # nothing but a label
    is_other: bool = False  # "Or ..."
    concludes: bool = False  # "So ...", "Overall ..."

    @property
    def label(self) -> int | None:
        """The label that it asserts, if it is the only label that is not denied; else None."""
        labels = {label for label, state in self.mentions if state != "denied"}
        asserted = {label for label, state in self.mentions if state == "asserted"}
        return asserted.pop() if len(labels) == len(asserted) == 1 else None


def read_sentences(plain: str, words: Lexicon, *, cut: bool) -> list[Sentence]:
    """Return the sentences of a plain text, each with its labels and their states."""
    text = plain.replace("e.g.", "for example ").replace("vs.", "vs")
    text = grammar.COURTESY.sub(" ", grammar.WRAPPED.sub(" ", text))
    text = grammar.QUOTED.sub(lambda quote: _unquote(quote, words), text)
    # From here on, a label is a mark (`grammar.MARK`).
    marked = words.label.sub(lambda found: f"\0{words.names[name_of(found[0])]}\0", text.replace("\0", " "))
    sentences: list[Sentence] = []
    start, pieces = 0, []
    for end in grammar.END.finditer(marked):
        pieces.append(marked[start : end.end()])
        start = end.end()
    pieces.append(marked[start:])
    carried = False  # a line before this one ends with a cue: "Answer:"
    for piece in pieces:
        if not piece.strip():
            continue
        sentence = _sentence(piece, carried=carried)
        if sentences and not sentence.mentions:
            _reply(sentences[-1], piece)
        leads_on = re.search(r"[:=>]\W*$", piece) if sentence.is_cue else carried and not grammar.WORD.search(piece)
        if leads_on and not sentence.mentions:
            sentence.is_cue = False
            carried = True
        else:
            carried = carried and sentence.is_alone  # a list of labels: all of them are the answer
        sentences.append(sentence)
    if cut and not pieces[-1].strip():
        sentences.append(Sentence([]))  # the text was cut after a whole sentence
    return sentences


def _reply(question: Sentence, reply: str) -> None:
    """Change the state of the label in a question if the next sentence answers it: "Is it happy? Yes."."""
    mentioned = set(question.mentions)
    if len(mentioned) != 1:
        return
    ((label, state),) = mentioned
    if state == "asked" and grammar.YES.search(reply):
        question.mentions = [(label, "asserted")]
    elif state == "asked" and grammar.NO.search(reply):
        question.mentions = [(label, "denied")]


def _unquote(quote: re.Match[str], words: Lexicon) -> str:
    """Return a quoted label without its quotes, and a placeholder that is no known word for any other quotation."""
    inner = quote[0][1:-1]
    if words.find(inner.strip(" .,!")) is not None:
        return f" {inner} "
    return " QUOTED. " if inner[-1:] in (".", "!", "?") else " QUOTED "


def _sentence(piece: str, *, carried: bool) -> Sentence:
    if "\0" not in piece:
        cue = grammar.CUE.search(piece)
        return Sentence([], is_cue=cue is not None, is_final=cue is not None and cue["final"] is not None)
    body = grammar.CHOICE.sub("", grammar.TAG_QUESTION.sub(".", grammar.IDIOMS.sub(" ", piece)))
    cues = list(grammar.CUE.finditer(body))
    cue = cues[-1] if cues else None
    if cue and "\0" in body[cue.end() :] and not grammar.OPENING.search(body[: cue.start()]):
        mentions = _mentions(body[cue.end() :])
        if body.rstrip().endswith("?") or grammar.NO_ANSWER_HEAD.search(body[cue.end() :].partition(":")[0]):
            mentions = [(label, "open" if state == "asserted" else state) for label, state in mentions]
        return Sentence(mentions, is_cue=True, is_final=cue["final"] is not None)
    mentions = _mentions(body)
    body = re.sub(r"\d+(?:st|nd|rd|th)\b", "", body)
    alone = not re.search(r"[^\W\d]", re.sub(r"\0\d+\0", "", re.sub(r"^\W*(?:\d+|[a-z])[.)]", "", body))) or (
        len(mentions) == 1 and all(word in grammar.DESCRIBING or word[0] == "\0" for word in grammar.WORD.findall(body))
    )
    if body.rstrip(" \n\"')").endswith("?"):
        mentions = [(label, "asked" if state != "denied" else state) for label, state in mentions]
    return Sentence(
        mentions,
        is_cue=carried,
        is_alone=alone,
        is_other=re.match(r"\W*or\b", body) is not None,
        concludes=grammar.CONCLUDING.search(body) is not None,
    )


def _mentions(body: str) -> list[tuple[int, State]]:
    parts: list[tuple[str, int, str]] = []  # the divider before a part, its start, its text
    start, divider = 0, ""
    for found in grammar.PART.finditer(body):
        parts.append((divider, start, body[start : found.start()]))
        start, divider = found.end(), found[0].strip()
    parts.append((divider, start, body[start:]))
    last = max(number for number, (_, _, part) in enumerate(parts) if "\0" in part)
    mentions: list[tuple[int, State]] = []
    named = 0  # labels of the last part that has any
    carries = False  # a part before this one denied a label: "not angry, happy or sad"
    for number, (divider, start, part) in enumerate(parts):
        labels = list(grammar.MARK.finditer(part))
        if divider in grammar.TURNS:
            carries = False
        if not labels:
            if grammar.RETRACTION.search(part):
                mentions[-named:] = [(label, "denied") for label, _ in mentions[-named:]]
            carries = carries and not grammar.WORD.search(part)
            continue
        states = _states(part, labels)
        if (
            carries
            and divider not in grammar.TURNS
            and not grammar.WORD.search(re.sub(r"\b(?:and|or|nor)\b", "", part[: labels[0].start()]))
        ):
            states = ["denied"] * len(states)
        is_last, at = divider == ":" and number == last, start + labels[0].start()
        states = _in_context(body, at, states, divider, is_conclusion=is_last)
        carries, named = "denied" in states, len(states)
        if states[-1] == "asserted" and grammar.CONTRAST.search(body[:start]):
            mentions = [(label, "denied" if state == "open" else state) for label, state in mentions]
        mentions += [(int(label[1]), state) for label, state in zip(labels, states, strict=True)]
    return mentions


def _in_context(body: str, position: int, states: list[State], divider: str, *, is_conclusion: bool) -> list[State]:
    """Return the states of the labels in a part of a sentence (`body`), given the text before the first of them.

    A part `is_conclusion` if it follows a colon, and no later part has a label.
    """
    head = body[:position].rstrip(" :\n\"'(").rstrip()
    voice = grammar.IN_A_VOICE.search(body)
    if voice and voice.start() < position and states[-1] != "denied":
        return [*states[:-1], "asserted"]
    speech = grammar.SPEECH.search(head)
    if speech and grammar.OWN_WORDS.search(head, speech.end()):
        speech = None
    if speech and not (is_conclusion and speech.end() < len(head) - 8):
        return ["denied"] * len(states)  # a quotation names a label, it does not say that the speaker sounds so
    poison = grammar.OPENING.search(body)
    if poison and poison.start() < position:
        turns = [turn.end() for turn in grammar.CONTRAST.finditer(body[:position])]
        poison = None if turns and turns[-1] > poison.end() else poison
        if poison and is_conclusion and poison[0] in ("could", "might", "may"):
            poison = None
    if poison or (divider == ":" and grammar.NO_ANSWER_HEAD.search(head)):
        return ["open" if state == "asserted" else state for state in states]
    return states


def _states(part: str, labels: list[re.Match[str]]) -> list[State]:
    """Return the states of the labels in a part of a sentence, according to the part alone."""
    distinct = {label[1] for label in labels}
    states: list[State] = []
    for i, label in enumerate(labels):
        left = part[labels[i - 1].end() if i else 0 : label.start()]
        states.append(_state(left, part[label.end() :], part[: label.start()], states, several=len(distinct) > 1))
    return states


def _state(left: str, right: str, before: str, states: list[State], *, several: bool) -> State:
    """Return the state of a label, from the words around it.

    `left` is the text from the previous label, or the beginning of the part, to this one; `before` all text before it.
    """
    if grammar.COMPARED.search(left):
        if re.search(r"\bthan\W*$", left) and re.search(r"\bless\b", before):
            return "asserted"
        return "denied"
    if (
        re.search(r"\bless\W*$|\bno longer\b", before)
        or _is_denied(left)
        or grammar.DENIED_AFTER.match(right)
        or grammar.TOO_LITTLE.search(left)
    ):
        return "denied"
    joined = re.fullmatch(r"\W*(?:and|or|nor)?\W*", left) is not None
    if states and joined and states[-1] == "denied":
        return "denied"
    if states and joined and not several:
        return states[-1]
    if (
        several
        and not grammar.COMPARES.search(before + right)
        and not (states and all(state == "denied" for state in states))
    ):
        return "open"
    around = grammar.WORD.findall(left if states else before)
    if states and around[:1] and around[0] in ("and", "just", "now"):
        around = around[1:]
    after = [word for word in grammar.WORD.findall(right) if word[0] != "\0"]
    if not _may_follow(after, stated=_is_statement(around)):
        is_subject = after[0] in grammar.OF_SUBJECT and all(word in grammar.AFTER_SUBJECT for word in after)
        return "asserted" if is_subject and all(word in grammar.DESCRIBING for word in around) else "open"
    if all(word in grammar.DESCRIBING or not word.isascii() or (word == "and" and i) for i, word in enumerate(around)):
        return "asserted"
    return "asserted" if _is_statement(around) else "open"


def _is_denied(left: str) -> bool:
    """Return whether the words before a label deny it, and not the object of another verb."""
    # "The lack of energy suggests sad" denies energy, and states sad.
    denials = list(grammar.NEGATION.finditer(left))
    return bool(denials) and (
        denials[-1][0] in ("n't", "not", "cannot")
        or grammar.VERBS.isdisjoint(grammar.WORD.findall(left[denials[-1].end() :]))
    )


def _is_statement(before: list[str]) -> bool:
    """Return whether the words before a label form a statement about the speaker, or about what the model hears."""
    if not all(word in grammar.KNOWN or not word.isascii() for word in before):
        return False
    if before[:1] == ["be"] or before[-1:] == ["me"] or not grammar.OWN_VOICE.isdisjoint(itertools.pairwise(before)):
        return False
    for word, previous, following in zip(before, ["", *before], [*before[1:], ""], strict=False):
        if word == "to" and previous not in grammar.BEFORE_TO and following not in ("me", "my"):
            return False
    subject = max((i for i, word in enumerate(before) if word in grammar.PERSON), default=-1)
    verbs = grammar.VERBS | grammar.CONCLUDING_VERBS
    if not grammar.MODALS.isdisjoint(before) and (grammar.CONCLUDING_VERBS | grammar.ANSWERS).isdisjoint(before):
        return False
    if subject >= 0 and before[subject] in grammar.FIRST_PERSON:
        return any(word in grammar.CONCLUDING_VERBS for word in before[subject + 1 :])
    return any(word in verbs for word in before) or any(word.endswith("'s") or word == "like" for word in before)


def _may_follow(after: list[str], *, stated: bool) -> bool:
    """Return whether the words after a label leave an assertion unchanged."""
    rest = after
    while rest and (rest[0] in grammar.NOUNS or rest[0] in grammar.DESCRIBING):
        rest = rest[1:]
    if not rest:
        return True
    if rest[0] == "i":
        return rest[1:2] in (["guess"], ["think"], ["believe"], ["suppose"], ["would"])
    if rest[0] == "to":
        return rest[1:2] in (["me"], ["my"])
    return rest[0] in grammar.TAILS or (stated and rest[0] == "about")
