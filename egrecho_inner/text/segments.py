"""From generated tokens with timestamps to timed segments, the reverse of what `LabelEncoder.encode` does with them.

In: token ids without prefix and end, as a search gives them. Out: `Segment`s in seconds from the window's beginning.
A beginning without an end (a text cut off by a limit, or by the window) ends with the window.
"""

from collections.abc import Iterable, Iterator, Sequence

from egrecho_inner.text.constants import TIMESTAMP_STEP
from egrecho_inner.text.labels import LabelEncoder, Segment


def timed_tokens(tokens: Iterable[int], first: int, duration: float) -> Iterator[tuple[float, float, list[int]]]:
    """Yield beginning, end and text tokens of each timed part of a window.

    Args:
        tokens: Generated ids.
        first: Id of `<|0.00|>`.
        duration: Seconds of the window; no part reaches further.
    """
    begin, words = 0.0, []
    for token in tokens:
        if token < first:
            words.append(token)
            continue
        now = min((token - first) * TIMESTAMP_STEP, duration)
        if words:
            yield round(begin, 2), round(now, 2), words
        begin, words = now, []
    if words:
        yield round(begin, 2), round(duration, 2), words


def segments_of(tokens: Iterable[int], labels: LabelEncoder, duration: float) -> list[Segment]:
    """Return the timed parts of a window.

    Args:
        tokens: Generated ids, `<|0.00|>` and later ones among the text.
        labels: Knows the ids.
        duration: Seconds of the window; no segment reaches further.
    """
    parts = timed_tokens(tokens, labels.id("<|0.00|>"), duration)
    found = [Segment(begin, end, labels.decode(words)) for begin, end, words in parts]
    return [segment for segment in found if segment.text]


def as_rows(segments: Sequence[Segment]) -> list[list[float | str | None]]:
    """Return segments as JSON holds them: [start, end, text]."""
    return [[segment.start, segment.end, segment.text] for segment in segments]


def from_rows(rows: Iterable[Sequence[float | str | None]]) -> list[Segment]:
    """Return the segments of JSON rows."""
    return [Segment(float(start), None if end is None else float(end), str(text)) for start, end, text in rows]
