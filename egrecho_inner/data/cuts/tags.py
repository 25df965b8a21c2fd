"""Tags: facts about the captions of a recording or a window, small pure functions in a table.

In: `Captions`, the cues of a document or a window. Out: a value per tag: true or false, a number, a word. `egrecho tag`
writes them to `cut.custom.document` (document) and `supervision.custom.tags` (window);
`data/cuts/conditions.py` filters by them. A user's own Python file adds tags with the same decorator:

    from egrecho_inner.data.cuts.tags import Captions, tag

    @tag("questions")
    def questions(captions: Captions) -> int:
        return sum(cue.text.count("?") for cue in captions.cues)

Definitions are those of OLMoASR (Ngo et al. 2025) where it has the tag; `repeating_lines` is that of its paper, as its
code calls every "no" after "no, no" a repetition. What needs the audio is in `data/audio/tags.py`; audio languages
come with a model's text (`egrecho pseudo-label`) or from its own detection (`egrecho tag --model`).
"""

import importlib.util
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.alignment import count_errors, tokenize
from egrecho_inner.text.cues import MUSIC, Cue, clean
from egrecho_inner.text.identify import identify
from egrecho_inner.text.normalize import default_metric, default_normalizer, get_normalizer

Value = bool | int | float | str


@dataclass(frozen=True)
class Captions:
    """What tags are computed from."""

    cues: Sequence[Cue]
    seconds: float
    """Of the audio they cover."""
    language: str | None = None
    """Code of the captions, as their file names it."""
    machine: str | None = None
    """A recogniser's text of the same audio."""
    machine_language: str | None = None
    """Code of the language that the recogniser took the audio for."""
    normalizer: str = "auto"
    """What both texts go through before they are compared; auto is the language's own."""

    @property
    def text(self) -> str:
        """All cues as one line."""
        return " ".join(" ".join(cue.text.split()) for cue in self.cues if cue.text.strip())


Function = Callable[[Captions], Value]
TAGS: dict[str, Function] = {}
"""Every known tag by its name."""


def tag(name: str) -> Callable[[Function], Function]:
    """Enter a function into the table of tags.

    Raises:
        ConfigError: The name is taken.
    """

    def enter(function: Function) -> Function:
        if name in TAGS:
            raise ConfigError(f"tag '{name}' is there already; give the new one another name")
        TAGS[name] = function
        return function

    return enter


def load_tags(path: str) -> list[str]:
    """Run a user's Python file and return the names of the tags it added.

    Raises:
        ConfigError: No such file, it fails, or it adds none.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{path} does not exist; --tags_file is a Python file with functions under @tag(NAME)")
    before = set(TAGS)
    spec = importlib.util.spec_from_file_location(f"egrecho_tags_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} fails: {type(error).__name__}: {error}") from error
    added = [name for name in TAGS if name not in before]
    if not added:
        raise ConfigError(f"{path} adds no tag; put @tag(NAME) above each function")
    return added


def compute(captions: Captions, names: Iterable[str]) -> dict[str, Value]:
    """Return the values of some tags.

    Raises:
        ConfigError: A tag is not in the table.
    """
    found: dict[str, Value] = {}
    for name in names:
        if name not in TAGS:
            raise ConfigError(f"unknown tag '{name}'; known are {', '.join(sorted(TAGS))}")
        found[name] = TAGS[name](captions)
    return found


@tag("casing")
def casing(captions: Captions) -> str:
    """Return upper, lower or mixed: what most cues are; a clear minority of the richer kind wins.

    A cue without letters counts as lower, an empty one as mixed. With more than 0.6 mixed cues to each lower one the
    text is mixed; with more than 0.6 upper ones to each mixed one it is upper.
    """
    counts = Counter(cue_casing(cue.text) for cue in captions.cues)
    mixed, upper, lower = counts["mixed"], counts["upper"], counts["lower"]
    best = max(("mixed", "upper", "lower"), key=lambda kind: counts[kind])
    if best == "lower" and mixed > 0.6 * lower:
        return "mixed"
    if best == "mixed" and upper > 0.6 * mixed:
        return "upper"
    return best


def cue_casing(text: str) -> str:
    """Return whether one cue is in upper, lower or mixed case."""
    if not text.strip():
        return "mixed"
    if any(c.isupper() for c in text):
        return "mixed" if any(c.islower() for c in text) else "upper"
    return "lower"


@tag("repeating_lines")
def repeating_lines(captions: Captions) -> bool:
    """Tell whether a cue of more than one word repeats a line of the cue before it, as roll-up captions do."""
    for one, other in pairwise(captions.cues):
        before = {line for line in lines_of(one.text) if " " in line}
        if before.intersection(lines_of(other.text)):
            return True
    return False


def lines_of(text: str) -> list[str]:
    """Return what is spoken in the lines of a cue, lower case, without punctuation around it."""
    return [clean(line)[0].strip(".,!?-…").casefold() for line in text.split("\n")]


@tag("has_comma_period")
def has_comma_period(captions: Captions) -> bool:
    """Tell whether commas and periods both occur."""
    return "," in captions.text and "." in captions.text


@tag("has_proper_cap_after_punct_line")
def has_proper_cap_after_punct_line(captions: Captions) -> bool:
    """Tell whether each cue behind one that ends a sentence begins with an upper-case letter."""
    for one, other in pairwise(captions.cues):
        first = next((c for c in other.text if c.isalpha()), "")
        if re.search(r"[.!?]\s*$", one.text) and first and not first.isupper():
            return False
    return True


@tag("num_words")
def num_words(captions: Captions) -> int:
    """Count words between white space."""
    return len(captions.text.split())


@tag("characters_per_second")
def characters_per_second(captions: Captions) -> float:
    """Return characters, without space, per second of captioned time; 0 without captions."""
    spoken = sum(cue.seconds for cue in captions.cues)
    count = sum(len(re.sub(r"\s", "", cue.text)) for cue in captions.cues)
    return round(count / spoken, 3) if spoken else 0.0


@tag("captioned_share")
def captioned_share(captions: Captions) -> float:
    """Return the share of the audio that lies under captions."""
    return round(sum(cue.seconds for cue in captions.cues) / captions.seconds, 4) if captions.seconds else 0.0


@tag("distinct_words")
def distinct_words(captions: Captions) -> float:
    """Return distinct words to words: low where a text repeats itself; 1 for an empty one."""
    words = captions.text.casefold().split()
    return round(len(set(words)) / len(words), 4) if words else 1.0


@tag("longest_cue")
def longest_cue(captions: Captions) -> float:
    """Return the seconds of the longest cue."""
    return round(max((cue.seconds for cue in captions.cues), default=0.0), 3)


@tag("music_cues")
def music_cues(captions: Captions) -> float:
    """Return the share of cues that have a note or the word music in brackets: sung or played over."""
    marked = sum(bool(MUSIC.search(cue.text) or NAMED_MUSIC.search(cue.text)) for cue in captions.cues)
    return round(marked / len(captions.cues), 4) if captions.cues else 0.0


NAMED_MUSIC = re.compile(r"[\[(（［][^\])）］]*\b(music|musik|musique|música|musica|singing|song)\b", re.IGNORECASE)


@tag("text_language")
def text_language(captions: Captions) -> str:
    """Return the code of the language that the text is written in; `und` without letters."""
    return identify(captions.text)


@tag("audio_language")
def audio_language(captions: Captions) -> str:
    """Return the code of the language that the recogniser took the audio for.

    Raises:
        DataError: There is no recogniser's text.
    """
    if captions.machine_language is None:
        raise no_machine("audio_language")
    return captions.machine_language


@tag("edit_distance")
def edit_distance(captions: Captions) -> float:
    """Return the word errors of the recogniser's text, per word of the captions; a word more where these are empty.

    Characters where words have no spaces. Both sides are normalised (`text/normalize.py`). The language's default may
    make one number of a row of digits, which then counts as one word: take another where digits are spelt one by one.

    Raises:
        DataError: There is no recogniser's text.
    """
    errors, words = count_edits(captions)
    return round(errors / max(words, 1), 4)


def count_edits(captions: Captions) -> tuple[int, int]:
    """Return errors of the recogniser's text and words of the captions.

    Raises:
        DataError: There is no recogniser's text.
    """
    if captions.machine is None:
        raise no_machine("edit_distance")
    code = captions.language or captions.machine_language
    name = default_normalizer(code) if captions.normalizer == "auto" else captions.normalizer
    normalize, metric = get_normalizer(name, code), default_metric(code)
    reference, found = (tokenize(normalize(text), metric) for text in (captions.text, captions.machine))
    return sum(count_errors(reference, found)), len(reference)


def no_machine(name: str) -> DataError:
    """Return the error of a tag that wants a recogniser's text."""
    return DataError(f"tag '{name}' wants a recogniser's text on the windows; write it first: egrecho pseudo-label")
