"""Names of languages: what a corpus calls them, what Whisper does, and what follows from the language for its text.

In: a code or name as found in `utt2lang`, a cut or an option (vi, vie, vi-VN, Vietnamese). Out: Whisper's own code, or
None where it is not sure; a wrong language token trains in silence. The legal codes come from Transformers; ISO 639-3
codes of macro-languages are mapped only where there is one candidate.

A language that Whisper has no token for is named by its code of ISO 639 (mdw, mdw-CG), never by a name: manifests may
hold it, for a model may have a token for it (`egrecho add-language`). Whether it has is asked where a model is known.
"""

import difflib
import re
from collections.abc import Iterable
from functools import cache
from typing import Literal

from egrecho_inner.errors import ConfigError

Task = Literal["transcribe", "translate"]
"""What a text is: a transcript, or an English translation."""

NO_SPACE_LANGUAGES = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km", "bo"})
"""Languages written without spaces between words: their text starts without one, and is scored by character."""

# ISO 639-2/3 (and a few 639-1) codes that mean exactly one of Whisper's languages.
ISO_CODES = """
af afr; am amh; ar ara arb; as asm; az aze azj; ba bak; be bel; bg bul; bn ben; bo bod tib; br bre; bs bos;
ca cat; cs ces cze; cy cym wel; da dan; de deu ger; el ell gre; en eng; es spa; et est ekk; eu eus baq;
fa fas per pes; fi fin; fo fao; fr fra fre; gl glg; gu guj; ha hau; haw haw; he heb iw; hi hin; hr hrv; ht hat;
hu hun; hy hye arm; id ind; is isl ice; it ita; ja jpn; jw jav jv; ka kat geo; kk kaz; km khm; kn kan; ko kor;
la lat; lb ltz; ln lin; lo lao; lt lit; lv lav lvs; mg mlg plt; mi mri mao; mk mkd mac; ml mal; mn mon khk;
mr mar; ms msa may zsm; mt mlt; my mya bur; ne nep npi; nl nld dut; nn nno; no nor nob nb; oc oci; pa pan;
pl pol; ps pus; pt por; ro ron rum; ru rus; sa san; sd snd; si sin; sk slk slo; sl slv; sn sna; so som;
sq sqi alb; sr srp; su sun; sv swe; sw swa swh; ta tam; te tel; tg tgk; th tha; tk tuk; tl tgl fil; tr tur;
tt tat; uk ukr; ur urd; uz uzb uzn; vi vie; yi yid; yo yor; yue yue; zh zho chi cmn
"""


CANTONESE = frozenset({"yue", "hk", "hkg", "mo", "mac", "hong kong", "macau", "cantonese"})
"""Variants of Chinese (zh-HK, zh-yue) that are spoken Cantonese, which has a token of its own since large-v3."""
NO_LANGUAGE = frozenset({"mis", "mul", "und", "zxx"})
"""Codes of ISO 639 that name none: uncoded, several, undetermined, no words."""
BORROW = (
    "add a token (egrecho add-language), or let the model learn the language with the token of a related one: give the "
    "related one's code as --language"
)
"""What to do about a language that a model has no token for."""
CODES = "and the ISO 639 code of any other (mdw), which a model may have been given a token for"
"""What else is legal beside the languages that Whisper knows."""


@cache
def whisper_language(name: str) -> str | None:
    """Return Whisper's code for a language code or English name, or None if it has none or it is not sure."""
    known = _known_names()
    name = name.strip().lower()
    if name in known:
        return known[name]
    language, *variants = (part.strip(" )") for part in re.split(r"[-_(]", name))
    code = known.get(language)
    if code == "zh":
        if not CANTONESE.isdisjoint(variants):
            return "yue"
        spoken = [part for part in variants if re.fullmatch("[a-z]{3}", part)]  # zh-nan and zh-wuu are not Mandarin
        return "zh" if all(part == "cmn" for part in spoken) else None
    return code  # elsewhere a region or script (vi-VN, sr_Latn) does not change Whisper's token


@cache
def known_language(name: str) -> str | None:
    """Return Whisper's code for a language code or English name, or the code that ISO 639 has; None if neither.

    Where ISO 639 has a code of two letters it is that one, as in Whisper. A region or script is dropped.
    """
    import iso639  # 10 ms and 1 MB, for languages that Whisper lacks

    if code := whisper_language(name):
        return code
    code, *variants = re.split("[-_]", name.strip().lower())
    if whisper_language(code) or code in NO_LANGUAGE:  # xx-vi, or zh-nan: not sure
        return None
    if not all(re.fullmatch("[a-z0-9]{2,8}", part) for part in variants):
        return None
    if not iso639.is_language(code, ("pt1", "pt2b", "pt2t", "pt3")):
        return None
    return iso639.Lang(code).pt1 or iso639.Lang(code).pt3


def language_code(name: str) -> str:
    """Return the code for a language code or English name: Whisper's, or ISO 639's for a language that it lacks.

    Raises:
        ConfigError: There is none, with what to do.
    """
    code = known_language(name)
    if code is None:
        advice = f"nearest: {near}" if (near := nearest_languages(name)) else BORROW
        legal = f"{' '.join(legal_languages())}, {CODES}"
        raise ConfigError(f"language '{name}' is not Whisper's; {advice}; legal are {legal}")
    return code


def join_texts(texts: Iterable[str | None], language: str | None) -> str:
    """Join the texts of parts that follow each other, with a space where the language has spaces between words.

    Args:
        texts: Of the parts, in the order of time; empty ones are passed over.
        language: Code of their language.
    """
    return ("" if language in NO_SPACE_LANGUAGES else " ").join(text for text in texts if text)


def nearest_languages(name: str, count: int = 3) -> str:
    """Name the languages whose English names are most like a misspelt one; nothing for a code.

    Letters in common are no evidence for codes: mdw is Mboshi, a Bantu language, and mk is Macedonian.
    """
    names = sorted(known for known in _known_names() if len(known) > 3)
    near = difflib.get_close_matches(name.strip().lower(), names, n=count) if len(name.strip()) > 3 else []
    return ", ".join(f"{_known_names()[each]} ({each})" for each in near)


def legal_languages() -> list[str]:
    """Return Whisper's language codes, sorted."""
    return sorted(set(_known_names().values()))


@cache
def _known_names() -> dict[str, str]:
    # here, because Transformers takes a second to import and only a directory's languages need it
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    known = {code: code for code in LANGUAGES} | TO_LANGUAGE_CODE
    for row in ISO_CODES.split(";"):
        code, *others = row.split()
        known |= {other: code for other in others}
    return known
