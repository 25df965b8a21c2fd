"""Names of languages: what a corpus calls them, and what Whisper does.

In: a code or name as found in `utt2lang` (vi, vie, vi-VN, Vietnamese). Out: Whisper's own code, or None where it is not
sure; a wrong language token trains in silence. The legal codes come from Transformers; ISO 639-3 codes of
macro-languages are mapped only where there is one candidate.
"""

import difflib
import re
from functools import cache

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


def whisper_language(name: str) -> str | None:
    """Return Whisper's code for a language code or English name, or None if it has none or it is not sure."""
    known = _known_names()
    name = name.strip().lower()
    # a region or script (vi-VN, zh_Hans) does not change Whisper's token
    return known.get(name) or known.get(re.split(r"[-_]", name)[0])


def nearest_languages(name: str, count: int = 3) -> str:
    """Name the legal codes most like an illegal one, for an error message."""
    known = _known_names()
    near = difflib.get_close_matches(name.strip().lower(), known, n=2 * count, cutoff=0.4)
    codes = list(dict.fromkeys(known[match] for match in near))[:count]
    names = {code: long for long, code in reversed(known.items()) if len(long) > 3}
    return ", ".join(f"{code} ({names.get(code, code)})" for code in codes)


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
