"""Which language a text is written in.

In: a text. Out: Whisper's code. The library is py3langid: of it, lingua and fastText's lid.176 it is right most often
on texts of five words and more, takes the fewest others for English, and needs 48 microseconds a sentence and no
download (`benchmarks/text_language.py`; the numbers are in docs/pretraining.md). It is asked for Whisper's languages.
"""

from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from egrecho_inner.text.languages import ISO_CODES

CODES = {"nb": "no", "jv": "jw"}
"""Where Whisper's code is another."""


@cache
def identifier() -> LanguageIdentifier:
    """Load the library's model, for Whisper's languages; its own, of all languages, stays as it is."""
    found = LanguageIdentifier.from_model_file(MODEL_FILE)
    codes = {row.split()[0] for row in ISO_CODES.split(";")} | set(CODES)
    found.set_languages(codes.intersection(found.nb_classes))
    return found


def identify(text: str) -> str:
    """Return the code of the language that a text is likeliest in; `und` (ISO 639-2) for one without letters."""
    if not any(map(str.isalpha, text)):
        return "und"
    code = str(identifier().classify(text)[0])
    return CODES.get(code, code)
