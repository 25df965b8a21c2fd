"""Marks that transcribers of the test sets write and nobody speaks: taken out before scoring, a function each corpus.

In: a transcript as published. Out: the words. What Whisper's normaliser would remove by itself (`<...>`, `(...)`) is
taken out here all the same, so that raw scores and other normalisers see words only; and what it would remove wrongly
(CORAAL's words inside brackets) is kept.
"""

import re

ANGLES = re.compile(r"<[^<>]*>")
ROUND = re.compile(r"\([^()]*\)")
SQUARE = re.compile(r"\[[^\[\]]*\]")
CURLY = re.compile(r"\{[^{}]*\}")
CHOICE = re.compile(r"\{\s*([^{}/]*?)\s*/[^{}]*\}")
SPACED_APOSTROPHE = re.compile(r"\s+'(?=\w)")
UNCLEAR = re.compile(r"/(?:unintelligible|inaudible|\?+|RD[^/]*)/", re.IGNORECASE)
SPELLINGS = {"aks": "ask", "aksed": "asked", "aksing": "asking", "busses": "buses"}


def tedlium(text: str) -> str:
    """Join TED-LIUM's split contractions (`it 's`) and drop `<unk>`."""
    return SPACED_APOSTROPHE.sub("'", ANGLES.sub(" ", text))


def hub5(text: str) -> str:
    """Drop asides (`<B_ASIDE>`) and what is optional (`(%HESITATION)`, `(REA-)`); of alternatives take the first."""
    text = CHOICE.sub(r"\1", ANGLES.sub(" ", text).replace("((", "(").replace("))", ")"))
    return ROUND.sub(" ", text)


def wsj(text: str) -> str:
    """Drop `<NOISE>` and `<SPOKEN_NOISE>`."""
    return ANGLES.sub(" ", text)


def coraal(text: str) -> str:
    """Drop CORAAL's remarks and redactions, keep words in overlap marks, and spell two dialect forms as others do.

    `[ ... ]` marks words spoken at the same time as another's, which are words; `/word/` is one the transcriber doubts.
    """
    text = UNCLEAR.sub(" ", text)
    for remark in (ANGLES, ROUND, CURLY):
        text = remark.sub(" ", text)
    text = text.replace("[", " ").replace("]", " ").replace("/", " ")
    return " ".join(SPELLINGS.get(word.lower(), word) for word in text.split() if "<" not in word and ">" not in word)


def chime6(text: str) -> str:
    """Drop `[noise]`, `[laughs]`, `[inaudible 0:01:02]`."""
    return SQUARE.sub(" ", text)


def common_voice(text: str) -> str:
    """Take off the quotes that a sentence with quotes is exported in."""
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        return text[1:-1].replace('""', '"')
    return text
