"""What is trained on: the cuts of several manifests as one list, without those that training cannot use.

In: manifests, the label encoder of a model. Out: cuts by position, their durations, and how many were left out why. All
but a few long texts are decided by the columns of the index, without reading a cut.
"""

import logging
from collections.abc import Sequence
from functools import partial
from zlib import crc32

import numpy as np
from lhotse.cut import Cut

from egrecho_inner.data.batches.inputs import Texts
from egrecho_inner.data.batches.options import Source
from egrecho_inner.data.cuts.columns import NO_SUPERVISION, NO_TEXT
from egrecho_inner.data.cuts.fields import transcript_of
from egrecho_inner.data.cuts.index import CutIndex, check_unique_over
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.constants import WINDOW_SECONDS

logger = logging.getLogger(__name__)

MIN_SECONDS = 0.1
TEXTS: dict[Source, str] = {"reference": "text", "teacher": "teacher"}
"""The name of each source's text in the columns of an index."""


class CutList:
    """The cuts of several manifests as one list, read by position, with what cannot be used left out and counted."""

    source: Source = "reference"
    """Which text is learned from."""
    no_speech = False
    """Whether empty references are learned from, as silence."""

    def __init__(self, paths: Sequence[str] | str, key: str = "data.train"):
        """Open manifests.

        Args:
            paths: One or several.
            key: The setting that named them, for messages.

        Raises:
            ConfigError: None is given.
            DataError: Two cuts have the same id.
        """
        self.key = key
        self.indexes = [CutIndex(path) for path in ([paths] if isinstance(paths, str) else paths)]
        if not self.indexes:
            raise ConfigError(f"no manifest of cuts is given; set {key} to one, or to a list of them")
        check_unique_over(self.indexes)
        self.keep_all()

    def keep_all(self) -> None:
        """Begin with every cut."""
        self.starts = np.cumsum([0, *map(len, self.indexes)])
        self.kept = np.arange(self.starts[-1])
        self.left_out: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, position: int) -> Cut:
        where = int(self.kept[position])
        part = int(np.searchsorted(self.starts, where, side="right")) - 1
        return self.indexes[part][where - int(self.starts[part])]

    @property
    def durations(self) -> np.ndarray:
        """Seconds of the kept cuts (N,)."""
        return self.column("durations")[self.kept]

    @property
    def languages(self) -> list[str | None]:
        """Languages that the kept cuts name, as codes; None where some name none."""
        names = [np.array(index.languages, dtype=object)[index.language] for index in self.indexes]
        return list(dict.fromkeys(np.concatenate(names)[self.kept].tolist()))

    @property
    def digest(self) -> str:
        """One hash over all manifests."""
        return "+".join(index.digest for index in self.indexes)

    def keep_trainable(
        self,
        labels: Texts,
        max_skip_ratio: float,
        source: Source = "reference",
        no_speech: bool = False,
        longest: float = WINDOW_SECONDS,
    ) -> None:
        """Leave out what training cannot use, count it, name the first, and stop if it is too much.

        Args:
            labels: Makes the targets.
            max_skip_ratio: Share of the cuts that may be left out.
            source: Which text is learned from.
            no_speech: Learn silence from empty references.
            longest: Seconds that the model takes at most.

        Raises:
            DataError: More than `max_skip_ratio` of the cuts, or all, would be left out.
        """
        self.source, self.no_speech = source, no_speech
        reasons = self.faults(labels, longest)
        bad = np.logical_or.reduce(list(reasons.values()))
        self.left_out = {reason: int(mask.sum()) for reason, mask in reasons.items() if mask.any()}
        first = ", ".join(self[int(position)].id for position in np.flatnonzero(bad)[:5])
        self.kept = np.flatnonzero(~bad)
        name = "development" if self.key == "data.dev" else "training"
        if bad.mean() > max_skip_ratio or not len(self.kept):
            limit = f", more than data.max_skip_ratio {max_skip_ratio:g}" if max_skip_ratio < 1 else ""
            raise DataError(
                f"{int(bad.sum())} of {len(bad)} {name} cuts cannot be used ({self.summary()}){limit}; first: {first}; "
                f"fix the data{' or raise the limit' if limit else ''}"
            )
        if bad.any():
            counts = bad.sum(), len(bad)
            logger.info("%d of %d %s cuts are left out: %s; first: %s", *counts, name, self.summary(), first)

    def faults(self, labels: Texts, longest: float = WINDOW_SECONDS) -> dict[str, np.ndarray]:
        """Return for each reason why cuts cannot be used which they are (N,)."""
        seconds, text_bytes = self.column("durations"), self.column(f"{TEXTS[self.source]}_bytes")
        reasons = {
            f"over {longest:.0f} s": seconds > longest,
            f"under {MIN_SECONDS} s": seconds < MIN_SECONDS,
            "without supervision": text_bytes == NO_SUPERVISION,
            f"without {self.source} text": text_bytes == NO_TEXT,
        }
        if self.source == "reference":  # a teacher names the languages that it has tokens for
            if not self.no_speech:
                reasons["with an empty text (data.no_speech true learns silence from it)"] = text_bytes == 0
            reasons |= {reason: mask & (text_bytes >= 0) for reason, mask in self.language_faults(labels).items()}
        return reasons | {f"over {labels.max_tokens} tokens": self.too_long(labels)}

    def too_long(self, labels: Texts, limit: int | None = None) -> np.ndarray:
        """Return the cuts whose text does not fit the decoder, or has more tokens than a limit (N,)."""
        return np.concatenate([find_too_long(index, labels, self.source, limit) for index in self.indexes])

    def language_faults(self, labels: Texts) -> dict[str, np.ndarray]:
        """Return the cuts whose language has no token in the model, by reason (N,)."""
        reasons: dict[str, np.ndarray] = {}
        for language in {name: None for index in self.indexes for name in index.languages}:
            if reason := labels.language_fault(language):
                named = [
                    index.language == (index.languages.index(language) if language in index.languages else -1)
                    for index in self.indexes
                ]
                reasons[reason] = np.concatenate(named)
        return reasons

    def alike(self, same_speaker: bool) -> np.ndarray:
        """Number the kept cuts by language, and by speaker where they name one: what is alike may be joined (N,).

        Args:
            same_speaker: Tell speakers apart; their names are read once and kept with the index.
        """
        languages: dict[str | None, int] = {}
        found = []
        for index in self.indexes:
            numbers = np.array([languages.setdefault(name, len(languages)) for name in index.languages])
            number = numbers[np.asarray(index.language)].astype(np.int64)
            if same_speaker:
                number = (number << 32) + index.remembered("speakers", partial(speakers_of, index)).astype(np.int64)
            found.append(number)
        return np.concatenate(found)[self.kept]

    def column(self, name: str) -> np.ndarray:
        """Return a column of all manifests (N,), left-out cuts among them."""
        return np.concatenate([getattr(index, name) for index in self.indexes])

    def keep_short(self, max_seconds: float) -> None:
        """Keep cuts up to a length, by choice: they are not counted as skips."""
        self.kept = self.kept[self.durations <= max_seconds]
        if not len(self.kept):
            raise ConfigError(f"data.max_seconds {max_seconds:g} leaves no cut; raise it")

    def keep_brief(self, labels: Texts, max_tokens: int | None) -> None:
        """Keep cuts whose text has at most so many tokens, by choice: they are not counted as skips.

        Args:
            labels: Makes the targets.
            max_tokens: Special tokens included; None keeps all.
        """
        if max_tokens is None:
            return
        self.kept = self.kept[~self.too_long(labels, max_tokens)[self.kept]]
        if not len(self.kept):
            raise ConfigError(f"data.max_tokens {max_tokens} leaves no cut; raise it")

    def draw(self, limit: int | None, seed: int) -> None:
        """Keep at most `limit` cuts, drawn once."""
        if limit is not None and limit < len(self.kept):
            self.kept = np.sort(np.random.default_rng(seed).choice(self.kept, limit, replace=False))

    def summary(self) -> str:
        """Return in words what was left out."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items()) or "none left out"


def speakers_of(index: CutIndex) -> np.ndarray:
    """Return a number for the speaker of each cut; 0 where none is named (N,)."""
    names = (cut.supervisions[0].speaker if cut.supervisions else None for cut in index.select(range(len(index))))
    return np.array([crc32(str(name).encode()) if name else 0 for name in names], dtype=np.uint32)


def find_too_long(index: CutIndex, labels: Texts, source: Source, limit: int | None = None) -> np.ndarray:
    """Find the cuts whose text does not fit the decoder, or has more tokens than a limit (N,).

    Most texts are too short for that, whatever the tokenizer. The tokens of the others are counted once, by the first
    process that asks, and kept with the index: a million of them take minutes.
    """
    found = np.zeros(len(index), dtype=bool)
    always_fits = labels.always_fits if limit is None else labels.always_fits - labels.max_tokens + limit
    long = np.flatnonzero(getattr(index, f"{TEXTS[source]}_bytes") > always_fits)
    if not len(long):
        return found

    def count() -> np.ndarray:
        if len(long) > 10_000:
            logger.info("counting the tokens of %s long texts of %s, once", f"{len(long):,}", index.path)
        return np.array([count_tokens(cut, labels, source) for cut in index.select(long)], dtype=np.int32)

    name = f"{TEXTS[source]}_tokens-{labels.digest()}" + (f"-{limit}" if limit is not None else "")
    found[long] = index.remembered(name, count) > (labels.max_tokens if limit is None else limit)
    return found


def count_tokens(cut: Cut, labels: Texts, source: Source) -> int:
    """Return the decoder positions of a cut's text; 0 where no label can be made of it, named when it is read."""
    try:
        spoken = transcript_of(cut, source)
        return labels.length(spoken.text or "", spoken.language)
    except DataError:
        return 0
