"""Audio of more than 30 s: where to cut it, how its parts become one text, and Whisper's own way through it.

Two ways. `silences` works with every model: the recording is cut into nearly equal parts at its quietest places, the
parts go through the model in batches like any utterance. `timestamps` is OpenAI's way (Radford et al. 2022, 4.5): 30 s
windows, each beginning where the last timestamp of the one before says; it needs a model that says timestamps, and
goes through a recording window by window.
Left out: conditioning on the previous text, and the fallback to higher temperatures.

T frames of 10 ms, F mel bins.
"""

import numpy as np

from egrecho_inner.text.constants import WHISPER_FRAMES

TARGET_FRAMES = 2800  # a part is about as long at most, so that there is room to look for a silence
SEARCHED_FRAMES = 400  # how far on both sides of the target a silence is looked for
QUIET_FRAMES = 30  # energy is averaged over as much: a pause between words, not a stop consonant
FRAMES_PER_POSITION = 2  # timestamps count encoder positions


def split_at_silences(feats: np.ndarray) -> list[int]:
    """Return the edges of parts of at most 30 s, 0 and T among them.

    Args:
        feats: (T, F) log-mel.
    """
    energy = feats.mean(axis=1)  # (T,) of the logarithm, so that a click does not hide a pause
    sums = np.concatenate([[0.0], np.cumsum(energy, dtype=np.float64)])
    at = np.arange(len(feats))
    low, high = np.maximum(at - QUIET_FRAMES // 2, 0), np.minimum(at + QUIET_FRAMES // 2 + 1, len(feats))
    smooth = (sums[high] - sums[low]) / (high - low)
    edges = [0]
    while (rest := len(feats) - edges[-1]) > WHISPER_FRAMES:
        target = edges[-1] + rest // -(-rest // TARGET_FRAMES)
        first = target - SEARCHED_FRAMES
        last = min(target + SEARCHED_FRAMES, edges[-1] + WHISPER_FRAMES)
        edges.append(first + int(smooth[first : last + 1].argmin()))
    return [*edges, len(feats)]


def complete_part(tokens: list[int], first_timestamp: int, frames: int) -> tuple[list[int], int]:
    """Return the tokens of the segments that ended in this window, and how many frames they took.

    Two timestamps in a row end one segment and begin the next; what follows the last pair is said again in the next
    window. One timestamp at the very end says that nothing follows it. A pair at 0.00 would not get on: then the window
    is taken whole.

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
