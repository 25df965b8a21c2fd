"""One cut of an evaluation: what should be recognised in it, and what was."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Reference:
    """What should be recognised in a cut."""

    id: str
    text: str
    language: str | None
    """Code; None where the cut names none."""
    speaker: str | None
    duration: float


@dataclass(frozen=True)
class Hypothesis:
    """What was recognised in one cut."""

    id: str
    """Of the cut."""
    text: str
    language: str | None
    """As given or detected; None for English-only models."""
    tokens: list[int]
    """Without prefix and end."""
    avg_logprob: float
    """Mean log probability of the tokens, the end counted."""
    no_speech: float
    """Probability of <|nospeech|>; of the least silent part where there are several."""
    compression_ratio: float
    """Bytes of the text over its zlib-compressed bytes; 0 for no text."""
    truncated: bool
    """Whether the token limit came before the end."""
    looped: bool
    """Whether the text repeats itself as a decoder caught in a loop does."""
    parts: int
    """Windows it was recognised in; more than 1 for cuts over 30 s."""
    duration: float
    """Seconds of audio."""
    decode_seconds: float
    """The cut's share of its batch's wall time, waiting for audio and features included."""
    speech_seconds: float = 0.0
    """Of its audio, by loudness; 0 where nobody measured."""


def to_row(hypothesis: Hypothesis) -> dict[str, Any]:
    """Return a hypothesis as JSON's types, without its tokens."""
    row = asdict(hypothesis)
    del row["tokens"]
    return row


def from_row(row: dict[str, Any]) -> Hypothesis:
    """Make a hypothesis from what `to_row` gave."""
    return Hypothesis(**row, tokens=[])
