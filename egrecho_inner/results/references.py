"""The references of a test set: what should be recognised in each cut.

In: a manifest. Out: a `Reference` for each cut, in the order of the manifest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egrecho_inner.errors import DataError
from egrecho_inner.results.utterance import Reference

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from egrecho_inner.data.cuts.index import CutIndex


def read_references(cuts: CutIndex, limit: int | None, n_mels: int, language: str | None) -> list[Reference]:
    """Read the references of a manifest, and check its cuts before a model is loaded.

    Args:
        cuts: The manifest.
        limit: Take the first so many.
        n_mels: What stored features must have.
        language: Of cuts that name none.

    Raises:
        DataError: Cuts have no transcript, a language is unknown, stored features do not fit.
    """
    from egrecho_inner.data.audio.store import check_stored  # imports torch, which readers of results do without

    found: dict[str, Reference] = {}
    silent = []
    for position in range(len(cuts) if limit is None else min(limit, len(cuts))):
        cut = cuts[position]
        if cut.has_features:
            check_stored(cut, n_mels)
        if (reference := reference_in(cut, language)) is None:
            silent.append(cut.id)
        else:
            found[cut.id] = reference
    if silent:
        raise DataError(
            f"{cuts.path}: {len(silent)} of {position + 1} cuts have no transcript ({', '.join(silent[:5])}); "
            "expected supervisions that all have a text, empty where nothing is spoken"
        )
    return list(found.values())


def reference_in(cut: Cut, language: str | None) -> Reference | None:
    """Return what should be recognised in a cut; None where nobody transcribed it.

    Args:
        cut: The cut.
        language: Where it names none.

    Raises:
        DataError: Whisper does not know its language, or there are several.
    """
    from egrecho_inner.data.cuts.fields import cut_language, reference_of

    code = cut_language(cut) or language
    text = reference_of(cut).text
    speaker = cut.supervisions[0].speaker if cut.supervisions else None
    return None if text is None else Reference(cut.id, text, code, speaker, cut.duration)
