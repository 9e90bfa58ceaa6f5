"""The word lists and patterns of the answer grammar: they decide whether a text asserts a label, denies it, or neither.

docs/answers.md states the grammar. A list is either a vocabulary or a guard. Only a sentence whose words are all in a
vocabulary is a statement, so a missing word loses an answer but never invents one. A guard rejects a form that only
looks like an answer.
"""

from __future__ import annotations

import re


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words that may describe the voice beside a label and name no label themselves: "a very calm, sad voice".
DESCRIBING = _set(
    """
    a an the this that his her their its same also just only now still then today quite so really rather pretty fairly
    extremely slightly somewhat mostly mainly largely primarily predominantly clearly definitely certainly probably
    likely presumably surely obviously mildly deeply strongly highly overall generally very most more much bit little
    totally fully completely truly genuinely distinctly single one strong clear slight mild deep intense subtle subdued
    overt male female young old older elderly adult middle aged high low mid higher lower pitched loud louder quiet soft
    softer slow slower fast faster quick steady flat level even calm tense bright dark warm cold harsh sharp monotone
    monotonous breathy shaky trembling tired relaxed energetic lively weak firm gentle serious raised hushed doubtful
    hesitant formal casual plain emotional expressive restrained controlled year years man woman human english american
    british best fitting dominant prevailing underlying basic main primary obvious apparent perceived expressed detected
    prominent pure general actual correct final top my our it's frustrated excited joyful anxious annoyed bored content
    upset worried nervous such undoubtedly
    """
)
# Nouns that a label may describe: "a sad tone".
NOUNS = _set(
    """
    voice tone speaker speech emotion mood feeling state sound expression delivery manner way man woman person male
    female girl boy lady guy individual affect sentiment sounding one intonation attitude label category recording clip
    audio option answer utterance prosody demeanor vibe quality
    """
)
SUBJECTS = _set(
    """
    speaker speaker's speakers voice tone emotion person person's man woman man's woman's male female girl boy guy lady
    he she it they his her their this that mood feeling delivery clip audio recording speech sentiment label answer
    state laugh laughter sigh scream crying expression impression choice guess prediction verdict classification
    response vote utterance intonation prosody pitch pace tempo energy manner demeanor category listeners raters people
    one everyone lack absence affect vibe word
    """
)
VERBS = _set(
    """
    is was 's be been being are were sounds sound seems seem appears appear feels comes came across conveys convey
    expresses express shows show has reads suggests suggest indicates indicate reflects remains stays portrays displays
    exhibits communicates carries uses expressing speaks full filled turns becomes points hints makes make described
    classified labeled labelled categorized perceived considered identified interpreted heard detected
    """
)
# Verbs by which a model gives a label: "I hear sadness", "listeners would say happy".
JUDGING = _set(
    """
    hear heard sense detect detected say choose chose pick picked go going vote label classify guess perceive call
    describe select answer conclude assign rate judge identify notice recognize recognise categorize lean settle opt
    hearing picking name goes leaning
    """
)
GLUE = _set(
    """
    i we i'd i'm i'll would will should 'd am can of in on from by to as like for with and or which what who my me us
    our you'd think believe find suppose feel based listening judging given hearing overall therefore thus hence so ok
    okay yes sure well here here's there there's is it's he's she's that's opinion view ear ears answer hmm finally
    conclusion sense hint expressed conveyed spoken behind being most likely better majority all several listener
    listener's rater you at end first glance using terms any closest matches match fits fit best described heard
    speaking talking emotional toward towards
    """
)
KNOWN = DESCRIBING | NOUNS | SUBJECTS | VERBS | JUDGING | GLUE
# Words that may follow an assertion without changing it: "happy with a bright tone", "sad because ...".
TAILS = _set(
    """
    with at in from throughout because due given as since based during while overall here about towards toward though
    although when and which who after rather instead than over by despite owing judging to
    """
)
FIRST_PERSON = _set("i we you i'm i'd i'll we're you're am my")
PERSON = FIRST_PERSON | (SUBJECTS - {"one", "word"})


def any_of(phrases: str) -> str:
    """Return a pattern that matches any of several patterns, given with commas between them."""
    return "(?:" + "|".join(" ".join(phrase.split()) for phrase in phrases.split(",")) + ")"


def _words(phrases: str, before: str = r"\b", after: str = r"\b") -> re.Pattern[str]:
    return re.compile(before + any_of(phrases) + after)


OF_SUBJECT = _set("is can seems fits fit would matches match describes suits dominates prevails best")
AFTER_SUBJECT = OF_SUBJECT | _set(
    "be the a my what i hear it choice answer most likely dominant main primary emotion label here in for this voice"
    " speaker better well heard present audible evident detected"
)
BEFORE_TO = _set(
    "seem seems appear appears described considered perceived inclined listening going closest points lean"
    " according due"
)
# Phrases in which a model speaks about itself.
OWN_VOICE = frozenset(("my", noun) for noun in ("voice", "tone", "mood", "feeling", "feelings", "emotions", "speech"))
MODALS = _set("would should will must i'd i'll he'd she'd it'd 'd 'll")
ANSWERS = _set("answer choice guess vote label emotion pick prediction")
CONCLUDING_VERBS = JUDGING | {"think", "believe", "guess"}

# These words deny the labels after them.
NEGATION = _words(
    r"""
    not, no, nor, neither, never, none, nothing, nobody, non, without, cannot, hardly, barely, scarcely, rarely, seldom,
    unlike, unlikely, lacks?, lacking, lack of, absence, absent, devoid, except, excluding, excludes, ruled? out, rules
    out, false, wrong, incorrect, doubt, doubts, fails?, failed, denies, deny, far from, opposite of, anything but,
    everything but, all but, pas, nicht, kein\w*,
    (?:is|are|was|were|do|does|did|has|have|had|ca|could|would|should|wo|ai)nt
    """,
    before=r"(?:n't|[不没无未]|\b",
    after=r")(?:\b|(?<=[^\x00-\x7f]))",
)
# Idioms that contain a word of denial or doubt, but express neither.
IDIOMS = _words(
    r"""
    (?:with(?:out)?|no|beyond|there is no) (?:a |any )?doubt(?: (?:that|about it))?, without question, no question,
    (?:nothing|none|nobody|no one) (?:but|else), no other \w+(?: \w+)?, if not \w+, not only, can(?:'t|not) be missed,
    if i (?:must|(?:had|have|were|was) to) (?:guess|choose|pick|say|estimate|decide)(?: one)?, not sure, hard to say
    """
)
# After these words, a sentence states a condition, a possibility, a question or small talk.
OPENING = _words(
    r"""
    if, unless, assuming, assume, suppose, supposing, whether, could, might, may, maybe, perhaps, possibly, imagine, had
    the, for example, for instance, such as, options?, choices, please, sorry, thank\w*, hello, hope, wish, something
    like, only one, either, between, as an ai, language model, i need, ideally, normally, usually, typically, except,
    refuse
    """,
    after=r"\b|是否|如果|可能|还是|或者|请|吗",
)
# These words introduce what was said in the clip; OWN_WORDS end it.
SPEECH = _words(
    r"""
    says, said, saying, transcript\w*, content, words? (?:are|is|were|was), sentence, lyrics, text (?:is|was|reads),
    (?:text|asr|speech|words)(?= ?:), utters, talks? about, quote\w*
    """
)
OWN_WORDS = re.compile(
    r"\b(?:but|yet|however)\b|,\W*(?:the|their|his|her) (?:voice|tone|speaker|delivery|emotion|mood)\b"
)
# A phrase that ends with these words and a colon does not introduce an answer.
NO_ANSWER_HEAD = _words(
    r"""
    not, least(?: \w+)?, second\w*(?: \w+)?, runner.up, unlikely, excluded?, excludes, except, ruled out, absent,
    missing, options, choices, labels, example, possib\w+(?: \w+)?, potential(?: \w+)?, alternative\w*(?: \w+)?,
    candidates?, format, question, which, choose from, between, unlike, compare\w*, default, other(?:s|wise)?, opposite,
    speaker \w, (?:first|other|one) (?:speaker|voice|person|man|woman|listener), cannot say, unclear, uncertain,
    unknown, (?:not|hardly) (?:clear|certain|sure), hard to \w+, (?:one|some|two|few)
    (?:listener|rater|person|people)s?, avoid, reject\w*, wrong, incorrect
    """,
    after=r"\W*$|^\W*(?:choose|pick|select|name|say)\b",
)
# "Answer:", "The dominant emotion is".
CUE = re.compile(
    r"(?:^|[\n.,;!?]|\b(?:so|therefore|thus|hence|and|here is|here's))\W*(?P<final>final )?"
    r"(?:(?:the|my|your|an?|speaker'?s?|predicted|dominant|detected|perceived|main|primary|overall|most likely|best"
    r"|final|this) )*"
    r"(?:answer|emotion|label|choice|prediction|verdict|conclusion|classification|vote|one word)"
    r"(?: that (?:best )?(?:describes|fits|matches) (?:this|the|his|her|their|it)(?: \w+)? is)?"
    r"(?: (?:label|is|would be|that i hear is|is clearly))*\s*(?:[:=]|->|(?<=is)\s|(?<=be)\s)\s*"
)
CONCLUDING = _words(
    """
    so, therefore, thus, hence, overall, finally, in conclusion, in summary, in sum, in total, to conclude, in short,
    all in all
    """,
    before=r"^\W*",
)
# "While it could be angry, it sounds sad", "it could be angry, but I'd say sad": the second part is the answer.
CONTRAST = re.compile(r"\bbut\b|^\W*(?:while|although|though)\b[^,]*,")
# "Option B: disgust".
CHOICE = re.compile(r"^\W*(?:option|choice) (?:[a-h]|\d{1,2})\W*[.):]\W*(?=\0)")
TAG_QUESTION = re.compile(r",?\s*(?:right|no|correct|(?:is|does|do|was|are)n't (?:it|he|she|they|this|that))\s*\?")
YES = re.compile(r"^\W*(?:yes|yeah|indeed|definitely|absolutely|certainly|it is)\b")
NO = re.compile(r"^\W*(?:no|nope|never|hardly|not|unlikely|rather not)\b")
RETRACTION = re.compile(
    r"^[^\0]*\b(?:no|not|never|unlikely|wrong|false|absent|hardly|excluded|ruled out|incorrect)\W*$"
)
COMPARED = re.compile(
    r"\b(?:rather than|instead of|other than|opposed to|more than|than|unlike|not|n't)(?!\w)\W*(?:an? )?(?:\w+ )?$"
)
COMPARES = re.compile(r"\bthan\b|\binstead\b|\brather\b")
# "Happy is unlikely", "happy: 0", "an angry voice would be louder".
DENIED_AFTER = re.compile(
    r"\W*(?:(?:is|are|was|sounds|seems|can|could|would|do|does|fits?)\s*)?"
    r"(?:n't|not\b|no\b|never\b|unlikely|wrong|false|incorrect|ruled|excluded|hardly|out\b|absent)"
    r"|\W*(?:can|could|seems?|is|are|sounds|would)\b[^\0]*?(?:n't|\bnot\b|unlikely|ruled|exclud|hardly|wrong)"
    r"|\W*(?:voice |tone |speaker |one |person )?would (?!be (?:my|the|a|an|best)\b|fit|match)"
    r"|[\s:=(]*0(?:\.0*)?(?![\d.])"
)
TOO_LITTLE = re.compile(r"(?<!a )\b(?:little|few|zero|minimal)\W*$|(?<![\d.])0(?:\.0*)? ?%? ?$")
IN_A_VOICE = re.compile(r"\b(?:in|with) an?(?: [a-z]+)?\s*\0(\d+)\0 (?:voice|tone|manner|way|mood|fashion)[^\w\0]*$")

END = re.compile(r"\n+|(?<=[.!?;])[\"')]*(?:\s+|$)|(?<=[;!?])")
# A line whose sentence continues in the next line.
WRAPPED = re.compile(
    r"(?:(?<=,)|(?<=\b(?:or|is|an))|(?<=\b(?:and|nor|the|are))|(?<=\b(?:either|sounds|not an))|(?<=\ba)|(?<=^not))"
    r"[ ]*\n\s*"
)
PART = re.compile(
    r",|;|:|\(|\)|\[|\]|\s-+\s|/|->|(?<!thing )(?<!all )(?<!none )\bbut\b|\b(?:so|therefore|hence|thus|because)\b|而是"
    r"|\b(?=and (?:is|it|sounds|seems|the)\b)"
)
# These words end an earlier denial.
TURNS = ("but", "so", "therefore", "hence", "thus", ":", ";", "而是")
QUOTED = re.compile(r"\"[^\"\n]*\"|(?<![\w'])'(?:[^'\n]|(?<=\w)'(?=\w))*'(?!\w)")
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|\0\d+\0")
# The mark that replaces a label in the text: its index between two NUL characters.
MARK = re.compile(r"\0(\d+)\0")

# A refusal, small talk or a question to the user; it counts only if the text states no answer.
REFUSAL = _words(
    r"""
    sorry, apolog\w+, unable, cannot, can't, can not, not (?:able|possible|appropriate), impossible, inappropriate,
    unclear, i(?:'m| am) (?:an?|just|only|afraid), as an? (?:ai|language|large|text|assistant|audio|model), language
    model, (?:happy|glad|pleased|delighted) to \w+, (?:let|tell) me, please, (?:could|would|do|can) you, (?:how|what)
    can i, thank(?:s| you), hello, hi there, guidelines?, policy, policies, refuse, decline\w*, forbid\w*, i(?:
    would|'d)? need, need to hear, not? (?:audio|recording|clip|way of|speech), don't have, do not have, prefer not,
    rather not, remain neutral, stay neutral, sensitive
    """
)
# "I'd be happy to help": the model does not speak about the speaker in the rest of the sentence.
COURTESY = re.compile(
    r"(?:^|(?<=[.!?\n] )|(?<=\n))\W*(?:happy|glad|pleased|delighted) to (?:help|assist)\b[^.!?\n]*"
    r"|\b(?:i'd|i would|i'm|i am|i'll|we'd|we would|we're)(?: \w+){0,3} (?:happy|glad|pleased|delighted|sad|sorry)"
    r" to\b[^.!?\n]*"
)
# The model says that it has not heard the clip: then nothing in the text is a vote.
UNHEARD = re.compile(
    r"(?:n't|\bnot|\bunable to|\bcannot|\bno way to|\bwithout)(?: able to| \w+)? "
    r"(?:hear(?:ing)?|process(?:ing)?|listen(?:ing)? to|access|analy[sz]e|play|receive|have|see)"
    r"(?: the| any| this| your| an?)?"
    r"(?: \w+)? ?(?:audio|recording|clip|sound|file|it|this|anything)\b"
    r"|\b(?:no|without|missing) (?:audio|recording|clip|sound)\b|\baudio (?:is|was) (?:missing|not)\b"
)
LISTENER = any_of("listener, rater, annotator, judge, participant, person, evaluator, voter, respondent, observer") + (
    r"s?(?:[ #]+[a-z]|[ #:]*\d{1,3})"
)
# "I would not say angry: 0.5": the text after it is denied.
NOT_SAID = re.compile(r"\b(?:not|never) (?:say|call|claim|rate|give|put)\b|\bnot the case\b")
# Words in the sentence before an answer that mark it as an example, an alternative, a draft or the like.
ASIDE = _words(
    r"""
    alternativ\w*, another, examples?, instance, format, form, template, placeholder, hypothetical\w*, if, unless,
    suppose, imagine, assum\w+, compar\w+, baseline, uniform, random\w*, guessing, prior, average, typical\w*, draft,
    initial\w*, originally, first (?:guess|thought|impression|draft), at first, i thought, might, could, would
    (?:look|have), among those, such as, clip would, either
    """,
    after=r"\b|^\W*or\b",
)
# Words that mark the final one of several answers.
FINAL = _words(
    r"""
    final\w*, conclu\w+, correct(?:ed|ion), revis\w+, actually, in fact, updat\w+, on reflection, therefore, hence,
    instead, rather, but no, wait, adjusted, answer
    """
)
OWN_ANSWER = re.compile(r"\b(?:final|my) (?:answer|estimate)\b")
OWN_GUESS = re.compile(r"\bif i (?:had|have|were|was) to \w+(?: one)?\b|\bif i must\b")


def is_aside(lead: str) -> bool:
    """Return whether a sentence marks the text after it as an example, an alternative or the like, not an answer."""
    if NOT_SAID.search(lead):
        return True
    return bool(ASIDE.search(OWN_GUESS.sub("", lead))) and not OWN_ANSWER.search(lead)
