"""Scripts of a text and of a language: whether a transcript can be in the language of its label.

In: a text, a language code. Out: the script most of its letters are in (Latin, Cyrillic, Han, ...), the scripts a
language is written in. The names are the first word of Unicode's character names. Left out: separating languages of one
script apart, which needs a statistical model.
"""

import unicodedata
from collections import Counter
from functools import cache

# Whisper's languages that are not written in Latin letters, with every script in common use; all others are Latin.
_SCRIPTS = """
ARABIC: ar fa ur ps; ARABIC LATIN DEVANAGARI: sd; HEBREW: he yi; GREEK: el; ARMENIAN: hy; GEORGIAN: ka; ETHIOPIC: am
CYRILLIC: ru uk be bg mk tg ba; CYRILLIC LATIN: sr bs uz tk tt kk az; CYRILLIC MONGOLIAN: mn; LATIN ARABIC: ms ha
DEVANAGARI: hi mr ne sa; BENGALI: bn as; GURMUKHI ARABIC: pa; GUJARATI: gu; TAMIL: ta; TELUGU: te; KANNADA: kn
MALAYALAM: ml; SINHALA: si; THAI: th; LAO: lo; MYANMAR: my; KHMER: km; TIBETAN: bo; HAN: zh yue; HANGUL HAN: ko
HAN HIRAGANA KATAKANA: ja
"""
_HAN = ("CJK", "KANGXI")


def main_script(text: str) -> tuple[str, int]:
    """Return the script that most letters of a text are in and how many letters are in it; ("", 0) without letters."""
    if text.isascii():
        letters = sum(map(str.isalpha, text))
        return ("LATIN" if letters else "", letters)
    counts: Counter[str] = Counter()
    for char, count in Counter(text).items():
        counts[_script(char)] += count
    counts.pop("", None)
    return counts.most_common(1)[0] if counts else ("", 0)


def expected_scripts(language: str) -> frozenset[str]:
    """Return the scripts that a language of Whisper's is written in."""
    return _by_language().get(language, frozenset({"LATIN"}))


@cache
def _script(char: str) -> str:
    if not char.isalpha():
        return ""
    first = unicodedata.name(char, "").replace("-", " ").split(" ")[0]
    return "HAN" if first in _HAN else "KATAKANA" if first == "HALFWIDTH" else first


@cache
def _by_language() -> dict[str, frozenset[str]]:
    table = {}
    for entry in _SCRIPTS.replace("\n", ";").split(";"):
        scripts, _, languages = entry.partition(":")
        table |= {language: frozenset(scripts.split()) for language in languages.split()}
    return table
