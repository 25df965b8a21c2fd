"""The rules that the Open ASR Leaderboard adds to Whisper's English normaliser, for rates that come close to its own.

Not the leaderboard's normaliser: its table of name variants ("allan" is "allen" there) and 17 spellings that it has
beyond Whisper's ("flyer", "archaeological", ...) belong to its own code. Rates differ where such words occur; submit to
the leaderboard with its code.
"""

import re

from transformers.models.whisper import english_normalizer as whisper

STATE = "2026-07"
"""Of the leaderboard's code that the rules were read from."""

_COMPOUNDS = {
    "et cetera": "etc",
    "al right": "alright",
    "all right": "alright",
    "how ever": "however",
    "wi fi": "wifi",
    "hi fi": "hifi",
    "lo fi": "lofi",
    "sci fi": "scifi",
    "e mail": "email",
    "e book": "ebook",
    "e commerce": "ecommerce",
    "x ray": "xray",
    "t shirt": "tshirt",
    "a m": "am",
    "p m": "pm",
    "o k": "okay",
}
_FILLERS = "hmm mm mhm mmm uh um ah aha ahh ahm eh ehehe em hm huh hum mhum uhm umm uhuh"
_CONTRACTED_IS = r"\b(it|he|she|what|that|who|here|there|how|when|where|why|this)'s\b"


class LeaderboardRules(whisper.EnglishTextNormalizer):
    """Whisper's English normaliser with the leaderboard's changes.

    More fillers; "'s" is "is" only after a pronoun or question word; compounds are joined before numbers are read, and
    runs of single letters or digits after spellings ("b b c" is "bbc").
    """

    def __init__(self, spellings: dict[str, str]) -> None:
        super().__init__(spellings | {"ok": "okay", "kay": "okay", "etcetera": "etc"})
        self.ignore_patterns = rf"\b({_FILLERS.replace(' ', '|')})\b"
        # The order of the rules matters, so the changed one takes the place of the old.
        self.replacers = dict(
            (_CONTRACTED_IS, r"\1 is") if rule[0] == r"'s\b" else rule for rule in self.replacers.items()
        )
        numbers, spell = self.standardize_numbers, self.standardize_spellings
        self.standardize_numbers = lambda text: numbers(_join_compounds(text))
        self.standardize_spellings = lambda text: _join_single_characters(spell(text))


_COMPOUND = re.compile(r"\b(" + "|".join(key.replace(" ", r"\s+") for key in _COMPOUNDS) + r")\b")


def _join_compounds(text: str) -> str:
    return _COMPOUND.sub(lambda match: _COMPOUNDS[" ".join(match.group().split())], text)


def _join_single_characters(text: str) -> str:
    """Join runs of single letters or digits: two or more, three or more where "a" or "i" may be a word."""
    joined: list[str] = []
    run: list[str] = []
    for word in [*text.split(), ""]:
        if len(word) == 1 and word.isalnum():
            run.append(word)
            continue
        enough = 3 if {"a", "i"} & set(run) else 2
        joined += ["".join(run)] if len(run) >= enough else run
        joined.append(word)
        run = []
    return " ".join(joined[:-1])
