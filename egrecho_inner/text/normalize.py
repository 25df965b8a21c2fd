"""Named, versioned text normalisers: applied to reference and hypothesis alike, their name beside every number.

In: `get_normalizer("whisper-basic")`; out: a frozen `Normalizer`, callable on a string.

`whisper-basic` and `whisper-english` are Whisper's own, as transformers ships them; the table of British spellings
that the English one needs is not shipped there and comes from the package whisper-normalizer (1739 entries, equal to
openai-whisper's). Whisper's basic normaliser puts a space in place of every combining mark, which cuts Hindi, Thai or
vocalised Arabic words to pieces and makes the error rate look too low (https://arxiv.org/abs/2409.02449):
`marks-preserving` is for these.

Left out: number words outside English.
"""

import difflib
import functools
import hashlib
import importlib.metadata
import importlib.resources
import inspect
import itertools
import json
import logging
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from egrecho_inner.errors import ConfigError, MachineError
from egrecho_inner.text.languages import NO_SPACE_LANGUAGES

NORMALIZERS = ("none", "whisper-basic", "whisper-english", "marks-preserving", "open-asr-leaderboard-rules")

# Whisper's languages whose letters NFKC composes, so that whisper-basic leaves them whole. Not Turkish and Azerbaijani:
# lower-casing İ leaves a combining dot.
_SAFE_WITH_BASIC = frozenset(
    re.findall(
        r"\w+",
        """
        af ba be bg br bs ca cs cy da de el es et eu fi fo fr gl ha haw hr ht hu hy id is it ja jw ka kk ko la lb lt lv
        mg mi mk mn ms mt nl nn no oc pl pt ro ru sk sl sn so sq sr su sv sw tg tk tl tt uk uz vi yue zh
        """,
    )
)


@dataclass(frozen=True)
class Normalizer:
    """A function from text to text with the name and version that a result must carry."""

    name: str
    version: str
    language: str | None = None
    function: Callable[[str], str] = field(default=str, repr=False, compare=False)

    def __call__(self, text: str) -> str:
        return self.function(text)

    def __reduce__(self) -> tuple:
        """Travel to another process by name: the function itself cannot be pickled."""
        return get_normalizer, (self.name, self.language)


@functools.cache
def get_normalizer(name: str, language: str | None = None) -> Normalizer:
    """Return the normaliser called `name`.

    Args:
        name: One of `NORMALIZERS`.
        language: ISO code; `marks-preserving` lower-cases Turkish and Azerbaijani by their own rule.
    """
    if name in _OWN:
        return Normalizer(name, _OWN[name].version, language, partial(_OWN[name].function, language))
    if name not in NORMALIZERS:
        near = difflib.get_close_matches(name, NORMALIZERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = f"expected one of {', '.join(NORMALIZERS)}, or a file of your own to --normalizer_file"
        raise ConfigError(f"normalizer: {name!r} is not known; {known}{hint}")
    if name in ("whisper-english", "open-asr-leaderboard-rules") and language not in (None, "en"):
        logging.getLogger(__name__).warning(
            "normaliser %s is for English and drops diacritics; for language %s take %s",
            *(name, language, default_normalizer(language)),
        )
    version, function = _build(name, language)
    return Normalizer(name, version, language, function)


class OwnNormalizer(NamedTuple):
    """A user's function out of a file."""

    path: str
    version: str
    """The file's digest: a result names the very text of the function."""
    function: Callable[[str | None, str], str]
    """Takes the language's code and the text."""


_OWN: dict[str, OwnNormalizer] = {}


def load_normalizer(path: str, asked: str = "auto") -> str:
    """Run a user's Python file and return the name of its normaliser, which is the file's.

    The file has a function `normalize(text)` or `normalize(text, language)`; the language is Whisper's code, or None.

    Args:
        path: Of the file, from the command line: it is run.
        asked: The normaliser that is asked for beside it; only auto agrees with a file.

    Raises:
        ConfigError: No such file, it fails, has no such function, or another normaliser is asked for, too.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{path} does not exist; --normalizer_file is a Python file with a function normalize(text)")
    if asked not in ("auto", file.stem):
        raise ConfigError(f"--normalizer {asked} and --normalizer_file {path}: give one of them")
    if file.stem in (*NORMALIZERS, "auto"):
        raise ConfigError(f"{path}: {file.stem} is a normaliser of egrecho's; give the file another name")
    content = file.read_bytes()
    module = {"__name__": f"egrecho_normalizer_{file.stem}", "__file__": str(file)}
    try:
        exec(compile(content, str(file), "exec"), module)  # the user's own file, named on the command line
        function = module["normalize"]
        takes_language = len(inspect.signature(function).parameters) > 1
    except Exception as error:
        reason = (
            "has no function normalize(text)" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        )
        raise ConfigError(f"{path} fails as a normaliser: {reason}") from error

    def call(language: str | None, text: str) -> str:
        found = function(text, language) if takes_language else function(text)
        if not isinstance(found, str):
            raise ConfigError(f"{path}: normalize({text!r}) is {found!r}; expected a string")
        return found

    _OWN[file.stem] = OwnNormalizer(str(file.resolve()), f"sha256 {hashlib.sha256(content).hexdigest()[:12]}", call)
    get_normalizer.cache_clear()
    return file.stem


def default_normalizer(language: str | None) -> str:
    """Name the normaliser that is right for a language: `marks-preserving` wherever Whisper's basic one might harm."""
    if language == "en":
        return "whisper-english"
    return "whisper-basic" if language in _SAFE_WITH_BASIC else "marks-preserving"


def default_metric(language: str | None) -> Literal["wer", "cer"]:
    """Return "cer" for scripts written without spaces, else "wer"."""
    return "cer" if language in NO_SPACE_LANGUAGES else "wer"


def _build(name: str, language: str | None) -> tuple[str, Callable[[str], str]]:
    """Return (version, function) of a known name."""
    if name == "none":
        return "1", str
    if name == "marks-preserving":
        fold = _fold_turkish if language in ("tr", "az") else str.casefold
        return "1", functools.partial(preserve_marks, fold=fold)
    from transformers.models.whisper import english_normalizer as whisper  # a second, which -h need not pay

    transformers = f"transformers {importlib.metadata.version('transformers')}"
    if name == "whisper-basic":
        return transformers, _stripped(whisper.BasicTextNormalizer())
    spellings, source = _english_spellings()
    if name == "whisper-english":
        return f"{transformers}, spellings {source}", _stripped(whisper.EnglishTextNormalizer(spellings))
    from egrecho_inner.text import leaderboard

    return (
        f"rules of {leaderboard.STATE}, {transformers}, spellings {source}, no name variants",
        _stripped(leaderboard.LeaderboardRules(spellings)),
    )


def _stripped(normalize: Callable[[str], str]) -> Callable[[str], str]:
    """Drop the outer spaces that Whisper's normalisers leave; tokens are the same."""
    return lambda text: normalize(text).strip()


def _english_spellings() -> tuple[dict[str, str], str]:
    """Read the British-to-American table; returns it with the package and version it is from."""
    try:
        version = importlib.metadata.version("whisper-normalizer")
        table = importlib.resources.files("whisper_normalizer") / "normalizers" / "english.json"
        return json.loads(table.read_text(encoding="utf-8")), f"whisper-normalizer {version}"
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise MachineError(
            "normalizer: the table of English spellings is missing (english.json of whisper-normalizer); "
            "pip install whisper-normalizer"
        ) from error


# marks-preserving -----------------------------------------------------------------------------------------------------

_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ＇`´ʹ′", "'"))
_INVISIBLE = re.compile("[\u034f\u0640\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # tatweel, variation selectors
# A consonant, the virama and a zero-width joiner: the old spelling of a letter that now has its own code point.
_OLD_SPELLINGS = {
    "\u0d23\u0d4d\u200d": "\u0d7a",  # Malayalam chillu
    "\u0d28\u0d4d\u200d": "\u0d7b",
    "\u0d30\u0d4d\u200d": "\u0d7c",
    "\u0d32\u0d4d\u200d": "\u0d7d",
    "\u0d33\u0d4d\u200d": "\u0d7e",
    "\u0d15\u0d4d\u200d": "\u0d7f",
    "\u09a4\u09cd\u200d": "\u09ce",  # Bengali khanda ta
}


def preserve_marks(text: str, fold: Callable[[str], str] = str.casefold) -> str:
    """Fold case, width and punctuation away; keep letters, digits and combining marks of every script.

    Apostrophes inside a word are dropped, other punctuation and symbols become spaces, and so does a mark that stands
    on no letter. Format characters (joiners, direction marks, soft hyphens) are dropped.
    """
    for old, new in _OLD_SPELLINGS.items():
        text = text.replace(old, new)
    text = _INVISIBLE.sub("", text.translate(_APOSTROPHES))
    # Twice NFKC: folding can take a composed letter apart, and compatibility forms can hold capitals.
    text = unicodedata.normalize("NFKC", fold(unicodedata.normalize("NFKC", text)))
    kept: list[str] = []
    for char, following in itertools.pairwise(text + " "):
        category = unicodedata.category(char)
        in_word = bool(kept) and kept[-1] != " "
        if category[0] in "LN" or (category[0] == "M" and in_word):
            kept.append(char)
        elif category != "Cf" and not (char == "'" and in_word and following.isalpha()):  # don't, l’été, п'ять
            kept.append(" ")
    return " ".join("".join(kept).split())


def _fold_turkish(text: str) -> str:
    return text.replace("I", "ı").replace("İ", "i").casefold()


def fold_text(text: str) -> str:
    """Return a text without case, punctuation and differences of spacing: equal for two transcripts that are the same.

    Marks stay: without them Vietnamese or Hindi words would fall together.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_FOLDED).split())


class _Folded(dict):
    """Table for `str.translate` that drops punctuation and symbols, filled as characters come."""

    def __missing__(self, code: int) -> str:
        category = unicodedata.category(chr(code))
        self[code] = "" if category == "Cf" else " " if category[0] in "PSZC" else chr(code)
        return self[code]


_FOLDED = _Folded()
