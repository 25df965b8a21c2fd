"""From cuts to batches of features: longest first, no two passes over the audio, the next batch made while one is used.

In: cuts by position, their durations. Out: batches of `Piece`s. A cut of up to 30 s, or of what the model learned, is
one piece; a longer one is cut at its silences (`long_form.py`) into several, batched among themselves.

B utterances, F mel bins, T frames.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from lhotse.cut import Cut
from torch import Tensor

from egrecho_inner.data.audio.features import (
    FLOOR,
    TAIL_FRAMES,
    collate_features,
    log_mel,
    num_frames,
)
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.audio.store import check_stored, load_stored
from egrecho_inner.data.cuts.fields import cut_language
from egrecho_inner.decoding.long_form import Lengths, parts_of
from egrecho_inner.errors import DataError
from egrecho_inner.text.constants import FRAMES_PER_SECOND, WHISPER_FRAMES

In = TypeVar("In")
Out = TypeVar("Out")


class Cuts(Protocol):
    """A list of cuts read by position: `CutIndex`, or a plain list."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Cut: ...


@dataclass(frozen=True)
class Piece:
    """A cut, or a part of one, ready for the model."""

    id: str
    position: int
    """Of the cut in its list."""
    part: int
    parts: int
    feats: np.ndarray
    """(T + tail, F)."""
    length: int
    """T."""
    language: str | None
    """The cut's, as a code."""
    begin: int = 0
    """Frames of the cut before it."""
    overlap: int = 0
    """Frames at its beginning that the part before it has too."""

    @property
    def seconds(self) -> float:
        return self.length / FRAMES_PER_SECOND


def durations_of(cuts: Cuts) -> np.ndarray:
    """Return the seconds of all cuts, from the index where there is one (N,)."""
    known = getattr(cuts, "durations", None)
    return np.array([cut.duration for cut in cuts]) if known is None else np.asarray(known)


def longest_first(durations: np.ndarray, positions: Sequence[int] | None = None) -> np.ndarray:
    """Return positions by falling duration, so that what memory cannot hold shows at once."""
    order = np.argsort(-durations, kind="stable")
    return order if positions is None else order[np.isin(order, np.asarray(positions, dtype=np.int64))]


def batched_pieces(
    cuts: Cuts,
    order: np.ndarray,
    durations: np.ndarray,
    n_mels: int,
    seconds: float,
    most: int,
    window_seconds: float,
    lengths: Lengths = Lengths(),
) -> Iterator[list[Piece]]:
    """Yield batches, long cuts first.

    Args:
        cuts: The cuts.
        order: Positions, longest first.
        durations: Seconds of every cut.
        n_mels: Of the model.
        seconds: A batch's padded seconds at most.
        most: A batch's pieces at most.
        window_seconds: 30 where every piece is padded to 30 s, 0 where only to the batch's longest.
        lengths: Of the parts of a cut that is longer than a piece may be.
    """
    is_long = durations[order] * FRAMES_PER_SECOND > lengths.undivided + 0.5
    loaded = prefetched(
        lambda position: load_pieces(cuts[int(position)], int(position), n_mels, lengths), order[is_long], 1
    )
    waiting: list[Piece] = []
    for piece in (piece for pieces in loaded for piece in pieces):
        longest = max([window_seconds, piece.seconds, *(other.seconds for other in waiting)])
        if waiting and (longest * (len(waiting) + 1) > seconds or len(waiting) == most):
            yield waiting
            waiting = []
        waiting.append(piece)
    if waiting:
        yield waiting
    batches = plan(order[~is_long], durations, seconds, most, window_seconds)
    yield from prefetched(
        lambda batch: [piece for at in batch for piece in load_pieces(cuts[int(at)], int(at), n_mels, lengths)],
        batches,
    )


def plan(
    order: np.ndarray, durations: np.ndarray, seconds: float, most: int, window_seconds: float
) -> list[np.ndarray]:
    """Cut positions, longest first, into batches of bounded padded seconds."""
    batches = []
    while len(order):
        longest = max(float(durations[order[0]]), window_seconds, 1e-3)
        size = min(max(int(seconds / longest), 1), most)
        batches.append(order[:size])
        order = order[size:]
    return batches


def load_pieces(cut: Cut, position: int, n_mels: int, lengths: Lengths = Lengths()) -> list[Piece]:
    """Load or compute a cut's features, and part them where they are longer than a piece may be."""
    language = cut_language(cut)
    feats, length = load_features(cut, n_mels)
    if length <= lengths.undivided:
        return [Piece(cut.id, position, 0, 1, feats, length, language)]
    spans = parts_of(feats[:length], lengths)
    return [
        Piece(cut.id, position, part, len(spans), feats[begin:end], end - begin, language, begin, overlap)
        for part, (begin, end, overlap) in enumerate(spans)
    ]


def load_features(cut: Cut, n_mels: int) -> tuple[np.ndarray, int]:
    """Return a cut's features with their tail (T + tail, F), stored or computed, and T.

    Raises:
        DataError: The audio or the stored features are missing, broken, or do not fit the model.
    """
    length = max(num_frames(cut.num_samples), 1)
    if cut.has_features:
        check_stored(cut, n_mels)
        feats = load_stored(cut)
    elif cut.has_recording:
        feats = log_mel(load_audio(cut), n_mels, tail=TAIL_FRAMES)
    else:
        raise DataError(f"cut {cut.id} has neither a recording nor features; make the cuts again")
    if len(feats) < length:  # under half a frame of audio
        feats = np.concatenate([feats, np.full((length - len(feats), n_mels), FLOOR, dtype=np.float32)])
    return feats, length


def to_tensors(
    pieces: Sequence[Piece], padded: bool, device: torch.device, dtype: torch.dtype, zeros: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Make the model's input: features (B, F, T), and mask (B, T) unless every piece is padded to 30 s.

    Args:
        pieces: The batch.
        padded: To 30 s.
        device: Of the model.
        dtype: Of the model.
        zeros: Pad with zeros, which are no silence, as openai-whisper and faster-whisper do.
    """
    feats, lengths = [piece.feats for piece in pieces], [piece.length for piece in pieces]
    features, frames = collate_features(feats, lengths, WHISPER_FRAMES if padded else None)
    if padded and zeros:
        features *= torch.arange(WHISPER_FRAMES)[None, None] < frames[:, None, None]
    mask = None if padded else (torch.arange(features.shape[-1])[None] < frames[:, None]).long().to(device)
    return features.to(device, dtype), mask


def prefetched(make: Callable[[In], Out], items: Iterable[In], ahead: int = 2) -> Iterator[Out]:
    """Yield `make(item)` for each item in order, made in a thread up to `ahead` items before it is asked for."""
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="features") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
