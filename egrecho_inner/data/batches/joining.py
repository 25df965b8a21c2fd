"""Utterances joined on the fly: rows of a batch that hold several cuts, one after the other, with silence between.

In: durations of cuts, a number for each that those have in common which may be joined, options. Out: for each epoch
rows, a pure function of (seed, epoch, cuts): a share of the cuts, drawn afresh each time, in random order and up to a
length that is drawn for every row. So a model that is trained on short clips learns how several of them sound and are
written in one window, and what to do behind the last of them. `egrecho pack` joins true neighbours beforehand instead,
with the pauses that they have. Lhotse's `CutConcatenate` joins the cuts of one batch, whose memory then is another one;
here rows are made first and batches of them, so that a batch's bound holds. The joined cut is a mix of Lhotse's.
Left out: teachers' texts, which are joined by packing.

N cuts, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from egrecho_inner.data.audio.files import SAMPLING_RATE
from egrecho_inner.data.batches.options import ConcatenateOptions
from egrecho_inner.errors import DataError

if TYPE_CHECKING:
    from lhotse.cut import Cut, MixTrack

JOINING = 0x6A6F696E
"""Sets the draws of joining apart from those of the plan."""
SHORTEST = 0.2
"""A row's length is drawn between this share of the longest and the longest: recordings end anywhere."""


class CutRows(NamedTuple):
    """What stands in rows: cuts by their places in a list, row after row."""

    positions: np.ndarray
    """(N,)."""
    starts: np.ndarray
    """Where each row begins in `positions`, and where the last one ends (R + 1,)."""
    gaps: np.ndarray
    """Seconds of silence between a row's cuts (R,)."""
    seconds: np.ndarray
    """Of each row, silence included (R,)."""

    @property
    def sizes(self) -> np.ndarray:
        """Cuts of each row (R,)."""
        return np.diff(self.starts)

    def take(self, chosen: np.ndarray) -> CutRows:
        """Return some rows, in the order given."""
        parts = [self.positions[self.starts[row] : self.starts[row + 1]] for row in chosen]
        starts = np.concatenate([[0], np.cumsum(self.sizes[chosen])])
        return CutRows(np.concatenate(parts), starts, self.gaps[chosen], self.seconds[chosen])


def single_rows(durations: np.ndarray) -> CutRows:
    """Return rows of one cut each."""
    n = len(durations)
    return CutRows(np.arange(n), np.arange(n + 1), np.zeros(n), np.asarray(durations, dtype=np.float64))


def join_rows(
    durations: np.ndarray, alike: np.ndarray, options: ConcatenateOptions | None, seed: Sequence[int]
) -> CutRows:
    """Join a share of the cuts.

    Args:
        durations: Seconds of each (N,).
        alike: Only cuts of one number may be joined (N,).
        options: How; None joins none.
        seed: Of the draws: the run's, the epoch, what else sets them apart.
    """
    if options is None or not options.share:
        return single_rows(durations)
    rng = np.random.default_rng([*seed, JOINING])
    chosen = rng.permutation(np.flatnonzero(rng.random(len(durations)) < options.share))
    chosen = chosen[np.argsort(alike[chosen], kind="stable")]
    rows: list[list[int]] = []
    gaps: list[float] = []
    filled = limit = 0.0
    for place in chosen.tolist():
        seconds = float(durations[place])
        if rows and alike[rows[-1][0]] == alike[place] and filled + gaps[-1] + seconds <= limit:
            rows[-1].append(place)
            filled += gaps[-1] + seconds
            continue
        rows.append([place])
        gaps.append(float(rng.uniform(*options.gap)))
        filled, limit = seconds, options.max_seconds * float(rng.uniform(SHORTEST, 1))
    left = np.setdiff1d(np.arange(len(durations)), chosen)
    sizes = np.array([*map(len, rows), *np.ones(len(left), dtype=int)])
    positions = np.array([*(place for row in rows for place in row), *left], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    between = np.array([*gaps, *np.zeros(len(left))])
    seconds = np.add.reduceat(np.asarray(durations, dtype=np.float64)[positions], starts[:-1]) + between * (sizes - 1)
    return CutRows(positions, starts, between, seconds)


def join(cuts: Sequence[Cut], gap: float) -> Cut:
    """Return cuts one after the other as one, with the supervisions of all; a single one as it is.

    `Cut.append` would make a copy of all cuts before for each one, and pads instead of leaving a gap.

    Args:
        cuts: In their order.
        gap: Seconds of silence between them.

    Raises:
        DataError: One is no cut of a recording, or effects of Lhotse's lie on it as a mix.
    """
    from lhotse.cut import MixedCut, MixTrack, MonoCut  # takes a second, and plans of batches need none of it

    if len(cuts) == 1:
        return cuts[0]
    tracks: list[MixTrack] = []
    start = 0.0
    for cut in cuts:
        own = cut.resample(SAMPLING_RATE)  # Lhotse mixes cuts of one rate
        if not isinstance(own, MonoCut | MixedCut) or getattr(own, "transforms", None):
            raise DataError(f"cut {cut.id} cannot be joined with others")
        if isinstance(own, MixedCut):
            tracks += [replace(track, offset=round(start + track.offset, 8)) for track in own.tracks]
        else:  # stored features are of single cuts: the joined one's are computed from its wave
            tracks.append(MixTrack(replace(own, features=None), offset=round(start, 8)))
        start += cut.duration + gap
    return MixedCut(cuts[0].id, tracks)
