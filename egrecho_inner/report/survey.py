"""One pass over cut manifests that keeps some numbers for each cut: what the data page and its suspicions rest on.

In: named manifests (`.jsonl`, `.jsonl.gz`), perhaps a Whisper processor's label encoder. Out: a `Survey`, columns of
numpy, about 80 bytes a cut; texts and ids are kept as 64-bit hashes, the cuts themselves are read again by their line
where they are shown. A million cuts take about a minute, some two more with a tokenizer.
py3langid names the language that a text looks like. Left out: the audio, see `suspects.py`.
"""

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from egrecho_inner.data.cuts.fields import code_of, supervision_rows
from egrecho_inner.data.cuts.make import scan_manifest
from egrecho_inner.data.cuts.statistics import duration_of
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import read_lines
from egrecho_inner.runtime.progress import watched
from egrecho_inner.text.labels import LabelEncoder
from egrecho_inner.text.languages import join_texts, whisper_language
from egrecho_inner.text.normalize import fold_text
from egrecho_inner.text.scripts import main_script

try:
    import py3langid
except ImportError:  # in an environment made by hand; the page lists what is not checked then
    py3langid = None

UNKNOWN = "not given"
UNUSABLE = -1  # tokens of a transcript that cannot become labels
_COLUMNS = {
    **{"split": "h", "line": "i", "duration": "d", "characters": "i", "letters": "i", "tokens": "i", "rate": "i"},
    **{"language": "i", "speaker": "i", "script": "i", "lookalike": "i", "margin": "f"},
    **{"id": "Q", "source": "Q", "text": "Q", "copy": "b"},
}


@dataclass(frozen=True)
class Survey:
    """What is known of all cuts; every array is (N,), in the order of the manifests."""

    paths: dict[str, str]
    """Manifest of each split; its position is what `split` holds."""
    split: np.ndarray
    line: np.ndarray
    """From 0, in the split's manifest."""
    duration: np.ndarray
    """Seconds."""
    characters: np.ndarray
    """Of the transcript, without spaces."""
    letters: np.ndarray
    """In the main script."""
    tokens: np.ndarray
    """Decoder positions that the labels take; 0 without tokenizer, -1 where the text cannot become labels."""
    rate: np.ndarray
    """Hz of the audio file; 0 without one."""
    language: np.ndarray
    speaker: np.ndarray
    script: np.ndarray
    lookalike: np.ndarray
    """Language that the text looks like, by py3langid."""
    margin: np.ndarray
    """Log likelihood ratio of that language over the one given; 0 where nothing was compared."""
    id: np.ndarray
    """Hashes of cut ids."""
    source: np.ndarray
    """Hashes of file, beginning and length: equal for the same piece of the same file."""
    text: np.ndarray
    """Hashes of the text without case and punctuation; 0 for none."""
    languages: list[str]
    speakers: list[str]
    scripts: list[str]
    copies: dict[str, tuple[int, float]]
    """Cuts at another speed, which stand beside their originals, by split, with seconds; none is in the arrays."""

    def __len__(self) -> int:
        return len(self.duration)

    @property
    def splits(self) -> list[str]:
        return list(self.paths)

    @property
    def training(self) -> np.ndarray:
        """Which cuts are training data (N,) bool: splits called train..., or else the first one."""
        named = [name.startswith("train") for name in self.paths]
        return np.array(named if any(named) else [True] + [False] * (len(named) - 1), dtype=bool)[self.split]

    def read(self, rows: Iterable[int]) -> Iterator[tuple[int, Cut]]:
        """Yield (row, cut) for some rows, in their order in the manifests, reading these once more."""
        wanted = np.unique(np.fromiter(rows, dtype=np.int64))
        for number, path in enumerate(self.paths.values()):
            rows_here = wanted[self.split[wanted] == number]
            lines = {int(self.line[row]): int(row) for row in rows_here}
            last = max(lines, default=-1)
            for position, line in enumerate(read_lines(path) if lines else ()):
                if position in lines:
                    yield lines[position], deserialize_item(json.loads(line))
                if position == last:
                    break


def survey_cuts(paths: Mapping[str, str], encoder: LabelEncoder | None = None) -> Survey:
    """Read manifests once.

    Copies at another speed are counted apart: they are no utterances of their own, unless there is nothing else.

    Args:
        paths: Manifest of each split, by its name.
        encoder: Counts label tokens.

    Raises:
        DataError: A manifest is missing or torn, points at commands or URLs, or a line is no cut.
    """
    columns = {name: array(code) for name, code in _COLUMNS.items()}
    names: dict[str, dict[str, int]] = {"language": {}, "speaker": {}, "script": {}}
    for split, path in enumerate(paths.values()):
        if not scan_manifest(path):
            raise DataError(f"{path} holds no cuts; make the manifest again")
        for number, line in enumerate(watched(read_lines(path), what="reading cuts")):
            try:
                facts = _facts(json.loads(line), names, encoder)
            except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
                raise DataError(
                    f"{path}:{number + 1}: not a cut ({error!r}); expected one Lhotse cut a line"
                ) from error
            for name, value in (facts | {"split": split, "line": number}).items():
                columns[name].append(value)
    arrays = {name: np.frombuffer(values, dtype=np.dtype(values.typecode)) for name, values in columns.items()}
    lists = {f"{name}s": list(known) for name, known in names.items()}
    copy = arrays.pop("copy").astype(bool)
    copy &= not copy.all()
    copies = {
        name: (int(here.sum()), float(arrays["duration"][here].sum()))
        for split, name in enumerate(paths)
        if (here := copy & (arrays["split"] == split)).any()
    }
    arrays = {name: values[~copy] for name, values in arrays.items()}
    return Survey(paths=dict(paths), **arrays, **lists, copies=copies)


def _facts(cut: dict[str, Any], names: dict[str, dict[str, int]], encoder: LabelEncoder | None) -> dict[str, Any]:
    """Return what is kept of one parsed line, but for its place."""
    track = cut["tracks"][0]["cut"] if "tracks" in cut else cut  # the speech of a mix is its first track
    supervisions = [each for _, each in supervision_rows(track)]
    first = supervisions[0] if supervisions else {}
    language, speaker = code_of(first.get("language")) or UNKNOWN, first.get("speaker") or UNKNOWN
    text = join_texts((each.get("text") for each in supervisions), language)
    script, letters = main_script(text)
    lookalike, margin = _lookalike(text, language) if letters >= 20 else (language, 0.0)
    return {
        "duration": duration_of(cut),
        "characters": len("".join(text.split())),
        "letters": letters,
        "tokens": _tokens(text, language, encoder),
        "rate": _rate(track.get("recording") or {}),
        "language": names["language"].setdefault(language, len(names["language"])),
        "speaker": names["speaker"].setdefault(speaker, len(names["speaker"])),
        "script": names["script"].setdefault(script, len(names["script"])),
        "lookalike": names["language"].setdefault(lookalike, len(names["language"])),
        "margin": margin,
        "id": hashed(cut["id"]),
        "source": _source(track),
        "text": hashed(folded) if (folded := fold_text(text)) else 0,
        "copy": any(each.get("name") == "Speed" for each in (track.get("recording") or {}).get("transforms") or []),
    }


def hashed(text: str) -> int:
    """Return 64 bits of a text, never 0."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big") or 1


def _rate(recording: dict[str, Any]) -> int:
    """Return the rate of the file, before any resampling."""
    transforms = [each for each in recording.get("transforms") or [] if each.get("name") == "Resample"]
    return int(transforms[0]["kwargs"]["source_sampling_rate"] if transforms else recording.get("sampling_rate", 0))


def _source(cut: dict[str, Any]) -> int:
    recording = cut.get("recording")
    if not recording:
        return 0
    where = [source.get("source") for source in recording["sources"] if source.get("type") == "file"]
    return hashed(f"{where} {cut['start']} {cut['duration']} {cut.get('channel')}") if where else 0


def _tokens(text: str, language: str, encoder: LabelEncoder | None) -> int:
    if encoder is None:
        return 0
    try:
        return encoder.length(text, whisper_language(language) or "en")
    except DataError:  # a special token inside the text
        return UNUSABLE


def identified_languages() -> set[str]:
    """Return the languages, by Whisper's codes, that py3langid knows; none without it."""
    return {code for name, _ in py3langid.rank("") if (code := whisper_language(name))} if py3langid else set()


def _lookalike(text: str, language: str) -> tuple[str, float]:
    """Return Whisper's language that py3langid finds, and by how much it is likelier than the one given."""
    code = whisper_language(language)
    if py3langid is None or code is None:
        return language, 0.0
    scores = {known: score for name, score in py3langid.rank(text) if (known := whisper_language(name))}
    best = max(scores, key=scores.__getitem__)
    return (best, float(scores[best] - scores[code])) if code in scores else (language, 0.0)
