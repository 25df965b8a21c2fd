"""OpenAI's way through long audio (Radford et al. 2022, 4.5): window after window, by the model's own timestamps.

In: recordings. Out: their windows. Each window begins where the last complete segment of the one before ended. Several
recordings go through the model side by side, each at its own place. With `previous_text` a window is prompted with what
came before it, forgotten after a window that took a temperature above 0.5, as in OpenAI's program.

T frames of 10 ms, F mel bins.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from lhotse.cut import Cut

from egrecho_inner.data.cuts.fields import cut_language
from egrecho_inner.decoding.fallback import is_silence
from egrecho_inner.decoding.long_form import complete_part
from egrecho_inner.decoding.pieces import Piece, load_features
from egrecho_inner.decoding.recognize import Found, Recognizer
from egrecho_inner.text.constants import FRAMES_PER_SECOND, WHISPER_FRAMES

if TYPE_CHECKING:
    from egrecho_inner.decoding.transcribe import Transcriber

FORGET_ABOVE = 0.5  # temperature; a text that was drawn is no good context


class DecodedPiece(NamedTuple):
    """A piece with what was recognised in it and the seconds that took."""

    piece: Piece
    found: Found
    seconds: float


@dataclass
class FollowedRecording:
    """A recording on its way."""

    position: int
    id: str
    feats: np.ndarray
    """(T + tail, F)."""
    length: int
    """T."""
    language: str | None
    previous: list[int]
    """Tokens that the next window is prompted with."""
    seek: int = 0
    """Frame at which the next window begins."""
    windows: list[DecodedPiece] = field(default_factory=list)

    def piece(self) -> Piece:
        """Return the next window."""
        end = min(self.seek + WHISPER_FRAMES, self.length)
        feats = self.feats[self.seek : end]
        part = len(self.windows)
        return Piece(self.id, self.position, part, 0, feats, end - self.seek, self.language, self.seek)


def follow(
    transcriber: "Transcriber", recognizer: Recognizer, recordings: Iterable[tuple[int, Cut]], most: int
) -> Iterator[tuple[int, list[DecodedPiece]]]:
    """Yield position and windows of each recording as it is finished.

    Args:
        transcriber: Recognises batches.
        recognizer: With timestamps.
        recordings: Positions and cuts.
        most: Recordings on their way at a time.
    """
    waiting, active = iter(recordings), []
    while True:
        begin = time.perf_counter()
        while len(active) < most and (following := next(waiting, None)) is not None:
            active.append(start(transcriber, *following))
        if not active:
            return
        pieces = [recording.piece() for recording in active]
        found = transcriber.recognise(pieces, recognizer, [recording.previous for recording in active])
        share = (time.perf_counter() - begin) / len(pieces)
        for recording, piece, each in zip(active, pieces, found, strict=True):
            before = recording.seek
            go_on(transcriber, recording, piece, each, share)
            transcriber.advance((recording.seek - before) / FRAMES_PER_SECOND)
        yield from ((each.position, each.windows) for each in active if each.seek >= each.length)
        active = [each for each in active if each.seek < each.length]


def start(transcriber: "Transcriber", position: int, cut: Cut) -> FollowedRecording:
    """Load a recording."""
    feats, length = load_features(cut, transcriber.model.config.num_mel_bins)
    return FollowedRecording(position, cut.id, feats, length, cut_language(cut), list(transcriber.initial))


def go_on(transcriber: "Transcriber", recording: FollowedRecording, piece: Piece, found: Found, seconds: float) -> None:
    """Take over what was recognised in a window, and move to the next."""
    recording.language = found.language
    if is_silence(found, transcriber.options):
        recording.windows.append(DecodedPiece(piece, replace(found, tokens=[]), seconds))
        recording.seek += piece.length
        return
    tokens, advance = complete_part(found.tokens, transcriber.labels.id("<|0.00|>"), piece.length)
    recording.windows.append(DecodedPiece(piece, replace(found, tokens=tokens), seconds))
    recording.seek += advance
    keep = transcriber.options.previous_text and found.temperature <= FORGET_ABOVE
    recording.previous = [*recording.previous, *tokens] if keep else []
