"""From the windows of a recording to its transcript: text with times, of passages and of words.

In: windows in the order of time. Out: a `TimedTranscript`. Where the model gave timestamps they bound the
passages; where it did not, a passage is a window, and begins and ends with its first and last word if their times are
known.
"""

from collections.abc import Sequence

from egrecho_inner.decoding.sequential import DecodedPiece
from egrecho_inner.decoding.transcribe import Transcriber, drop_if_silent
from egrecho_inner.text.constants import FRAMES_PER_SECOND
from egrecho_inner.text.repetition import compression_ratio
from egrecho_inner.text.segments import timed_tokens
from egrecho_inner.text.transcripts import Passage, TimedTranscript, Word, shifted


def transcript_of(
    transcriber: Transcriber, windows: Sequence[DecodedPiece], duration: float, with_words: bool = False
) -> TimedTranscript:
    """Return the transcript of a recording.

    Args:
        transcriber: That recognised it.
        windows: In the order of time.
        duration: Seconds of the recording.
        with_words: Find the times of words.
    """
    windows = [window._replace(found=drop_if_silent(window.found, transcriber.options)) for window in windows]
    words: list[list[Word]] = [[] for _ in windows]
    if with_words:
        from egrecho_inner.decoding.word_times import word_times

        words = word_times(transcriber, windows)
    passages = [
        passage for window, own in zip(windows, words, strict=True) for passage in passages_of(transcriber, window, own)
    ]
    return TimedTranscript(passages, windows[0].found.language, round(duration, 3))


def passages_of(transcriber: Transcriber, window: DecodedPiece, words: Sequence[Word]) -> list[Passage]:
    """Return the passages of one window."""
    labels, found, piece = transcriber.labels, window.found, window.piece
    begin = piece.begin / FRAMES_PER_SECOND
    placed = [shifted(word, begin) for word in words]
    passages = []
    for start, end, tokens in timed_tokens(found.tokens, labels.id("<|0.00|>"), piece.seconds):
        own = take(placed, sum(token not in labels.not_text for token in tokens))
        text = labels.decode(tokens)
        if not text:
            continue
        timed = len(tokens) < len(found.tokens)  # else the window's own bounds, which words know better
        passages.append(
            Passage(
                start=round(begin + start, 2) if timed or not own else own[0].start,
                end=round(begin + end, 2) if timed or not own else own[-1].end,
                text=text,
                tokens=tuple(tokens),
                words=tuple(own),
                seek=piece.begin,
                avg_logprob=round(found.avg_logprob, 4),
                no_speech=round(found.no_speech, 4),
                compression_ratio=round(compression_ratio(text), 3),
                temperature=found.temperature,
            )
        )
    return passages


def take(words: list[Word], tokens: int) -> list[Word]:
    """Take the first words, of so many tokens together, off a list."""
    own: list[Word] = []
    while words and tokens > 0:
        own.append(words.pop(0))
        tokens -= own[-1].tokens
    return own
