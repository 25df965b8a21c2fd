"""Audio longer than the model takes at once: where to cut it, and how its parts become one text.

Two ways. `silences` works with every model: the recording is cut at its quietest places into parts that are no longer
than what the model learned, and the parts go through the model in batches like any utterance; where nobody pauses, both
parts get the audio around the cut, and what both recognised there is kept once. `timestamps` is OpenAI's way
(`sequential.py`): 30 s windows, each beginning where the last timestamp of the one before says.

T frames of 10 ms, F mel bins.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from egrecho_inner.text.constants import WHISPER_FRAMES

TARGET_FRAMES = 2800  # a part is about as long at most, so that there is room to look for a silence
SEARCHED_FRAMES = 400  # how far on both sides of the target a silence is looked for
QUIET_FRAMES = 30  # energy is averaged over as much: a pause between words, not a stop consonant
PAUSE_FRAMES = 50  # the same between utterances, where parts are to be as long as those
SHORTEST_AVERAGE = 8
DISTANCE_COST = 0.3  # of a place at twice the typical length, in shares of the way from a recording's quiet to its loud
SPEECH_FRAMES = 20  # energy is averaged over as much to tell speech from pauses
SPEECH_RANGE = 0.25  # in Whisper's scale, 10 dB: what has less between quiet and loud is noise, or nothing
QUANTILES = (0.05, 0.95)  # of a recording's energy: its quiet places and its loud ones
PAUSE_LEVEL = 0.5  # of the way from quiet to loud; a cut above it goes through speech
OVERLAP_FRAMES = 80  # on both sides of a cut through speech: a long word
MERGE_MARGIN = 1.5  # how much faster than the rest of its part an overlap may be spoken
FRAMES_PER_POSITION = 2  # timestamps count encoder positions


def smooth_energy(feats: np.ndarray, frames: int) -> np.ndarray:
    """Return the mean log-mel around each frame, (T,) from (T, F); of the logarithm, so that a click hides no pause."""
    sums = np.concatenate([[0.0], np.cumsum(feats.mean(axis=1), dtype=np.float64)])
    at = np.arange(len(feats))
    low, high = np.maximum(at - frames // 2, 0), np.minimum(at + frames // 2 + 1, len(feats))
    return (sums[high] - sums[low]) / (high - low)


def speech_frames(feats: np.ndarray) -> int:
    """Count the frames (T, F) that are nearer to the loud places than to the quiet ones; 0 where nothing stands out."""
    if not len(feats):
        return 0
    smooth = smooth_energy(feats, SPEECH_FRAMES)
    low, high = np.quantile(smooth, QUANTILES)
    return int((smooth > low + PAUSE_LEVEL * (high - low)).sum()) if high - low > SPEECH_RANGE else 0


class Lengths(NamedTuple):
    """How long parts are, in frames."""

    typical: int = WHISPER_FRAMES
    """A part is about as long."""
    longest: int = WHISPER_FRAMES
    """A part is never longer."""
    undivided: int = WHISPER_FRAMES
    """Audio of this length is not cut."""


def split_at_silences(feats: np.ndarray) -> list[int]:
    """Return the edges of nearly equal parts of at most 30 s, 0 and T among them.

    Args:
        feats: (T, F) log-mel.
    """
    smooth = smooth_energy(feats, QUIET_FRAMES)
    edges = [0]
    while (rest := len(feats) - edges[-1]) > WHISPER_FRAMES:
        target = edges[-1] + rest // -(-rest // TARGET_FRAMES)
        first = target - SEARCHED_FRAMES
        last = min(target + SEARCHED_FRAMES, edges[-1] + WHISPER_FRAMES)
        edges.append(first + int(smooth[first : last + 1].argmin()))
    return [*edges, len(feats)]


def split_as_learned(feats: np.ndarray, lengths: Lengths) -> list[int]:
    """Return the edges of parts as long as what a model learned, 0 and T among them.

    Each ends at the quietest place between half the typical length and the longest, the nearer to typical the better.

    Args:
        feats: (T, F) log-mel.
        lengths: Of the parts.
    """
    energy = smooth_energy(feats, min(PAUSE_FRAMES, averaged(lengths)))
    low, high = np.quantile(energy, QUANTILES)
    loudness = (energy - low) / max(high - low, 1e-6)
    edges = [0]
    while len(feats) - edges[-1] > lengths.longest:
        at = edges[-1] + np.arange(lengths.typical // 2, lengths.longest + 1)
        cost = loudness[at] + DISTANCE_COST * np.abs(at - edges[-1] - lengths.typical) / lengths.typical
        edges.append(int(at[cost.argmin()]))
    return [*edges, len(feats)]


def averaged(lengths: Lengths) -> int:
    """Return the frames that energy is averaged over: single words are shorter than a pause between sentences."""
    return max(lengths.typical // 4, SHORTEST_AVERAGE)


def parts_of(feats: np.ndarray, lengths: Lengths) -> list[tuple[int, int, int]]:
    """Return the parts of a recording: begin, end, and how many frames at its beginning the part before has too.

    Args:
        feats: (T, F) log-mel.
        lengths: Of the parts.
    """
    edges = split_at_silences(feats) if lengths == Lengths() else split_as_learned(feats, lengths)
    begins, ends = edges[:-1], edges[1:]
    smooth = smooth_energy(feats, min(QUIET_FRAMES, averaged(lengths)))
    level = np.quantile(smooth, QUANTILES) @ [1 - PAUSE_LEVEL, PAUSE_LEVEL]
    for place, edge in enumerate(edges[1:-1]):
        if smooth[edge] <= level:
            continue
        room = [lengths.longest - (end - begin) for begin, end in ((begins[place], edge), (edge, ends[place + 1]))]
        ends[place] = edge + max(min(OVERLAP_FRAMES, room[0]), 0)
        begins[place + 1] = edge - max(min(OVERLAP_FRAMES, room[1]), 0)
    overlaps = [0, *(max(end - begin, 0) for end, begin in zip(ends[:-1], begins[1:], strict=True))]
    return list(zip(begins, ends, overlaps, strict=True))


def merge_overlaps(parts: Sequence[list[int]], lengths: Sequence[int], overlaps: Sequence[int]) -> list[list[int]]:
    """Take what two neighbouring parts both recognised out of one of them.

    The longest run of tokens that is in the end of the first and the beginning of the second joins them: the first ends
    with it, the second goes on behind it. Without such a run nothing is taken away.

    Args:
        parts: Text tokens of each part.
        lengths: Frames of each part.
        overlaps: Frames that each part shares with the one before it.
    """
    kept = [list(tokens) for tokens in parts]
    for left, right in pairwise(range(len(kept))):
        if not overlaps[right]:
            continue
        # tokens that the shared audio may have in each, at the part's own pace
        pace = [MERGE_MARGIN * len(parts[at]) / lengths[at] * overlaps[right] + 2 for at in (left, right)]
        tail, head = kept[left][-int(pace[0]) :], kept[right][: int(pace[1])]
        found = SequenceMatcher(None, tail, head, autojunk=False).find_longest_match()
        if found.size:
            kept[left] = kept[left][: len(kept[left]) - len(tail) + found.a + found.size]
            kept[right] = kept[right][found.b + found.size :]
    return kept


def complete_part(tokens: list[int], first_timestamp: int, frames: int) -> tuple[list[int], int]:
    """Return the tokens of the segments that ended in this window, and how many frames they took.

    Two timestamps in a row end one segment and begin the next; what follows the last pair is decoded again in the next
    window. One timestamp at the very end means that nothing follows it. A pair at 0.00 would not get on: then all
    of the window is taken.

    Args:
        tokens: Of one window.
        first_timestamp: Id of `<|0.00|>`.
        frames: T of the window.
    """
    is_time = [token >= first_timestamp for token in tokens]
    pairs = [place for place in range(1, len(tokens)) if is_time[place - 1] and is_time[place]]
    if not pairs or is_time[-2:] == [False, True]:
        return tokens, frames
    advance = (tokens[pairs[-1] - 1] - first_timestamp) * FRAMES_PER_POSITION
    return (tokens[: pairs[-1]], min(advance, frames)) if advance > 0 else (tokens, frames)
