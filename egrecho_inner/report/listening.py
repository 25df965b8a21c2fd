"""Checks of the audio of some cuts of a survey: which ones, and what was measured.

In: a `Survey`, how many cuts may be loaded. Out: a `CheckedAudio` for each. Audio is costly, so a limited number is
listened to: first those that could be copies (same transcript, same length to the sample), then those of one length in
training and other data, then a random sample. Each takes some milliseconds; one wave is in memory at a time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from egrecho_inner.data.audio.load import SAMPLING_RATE, load_audio
from egrecho_inner.errors import DataError
from egrecho_inner.report.clips import Sound, measure_sound
from egrecho_inner.report.survey import Survey


@dataclass(frozen=True)
class CheckedAudio:
    """What was measured in the audio of one cut."""

    row: int
    sound: Sound | None
    fault: str = ""
    """Why it could not be loaded."""


def choose_cuts(survey: Survey, limit: int | None, seed: int = 0) -> np.ndarray:
    """Return the rows to listen to, those that could be copies first; all of them without a limit."""
    rows = np.arange(len(survey))
    rows = rows[survey.rate > 0]
    if limit is None or len(rows) <= limit:
        return rows
    samples = np.round(survey.duration * SAMPLING_RATE).astype(np.int64)
    twins = _repeated(samples[rows] * 31 + survey.text[rows].astype(np.int64)) & (survey.text[rows] > 0)
    both_sides = np.intersect1d(samples[rows][survey.training[rows]], samples[rows][~survey.training[rows]])
    across = np.isin(samples[rows], both_sides)
    order = np.lexsort((np.random.default_rng(seed).permutation(len(rows)), ~across, ~twins))
    return rows[order[:limit]]


def listen(survey: Survey, rows: Iterable[int]) -> Iterator[CheckedAudio]:
    """Load the audio of some cuts, one at a time."""
    for row, cut in survey.read(rows):
        try:
            yield CheckedAudio(row, measure_sound(load_audio(cut)))
        except DataError as error:
            yield CheckedAudio(row, None, str(error))


def _repeated(keys: np.ndarray) -> np.ndarray:
    """Return for each key whether it comes more than once."""
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return counts[inverse] > 1
