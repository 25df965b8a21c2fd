"""Signs that a decoder is caught in a loop: the text compresses too well, or its tokens go round.

In: a text, its tokens. Out: a ratio, yes or no. Real speech has loops too ("no no no no"): flagged texts are counted
and shown, never changed.
"""

import zlib
from collections.abc import Sequence

from egrecho_inner.text.constants import LOOP_RATIO

CYCLES, CYCLE_TOKENS = 4, 12
"""A cycle of tokens counts when it comes so often in a row, and takes so many tokens at least."""


def compression_ratio(text: str) -> float:
    """Return how many times zlib makes a text smaller: about 1 for speech, more for repetitions; 0 for no text."""
    data = text.encode(errors="replace")
    return len(data) / len(zlib.compress(data)) if data else 0.0


def is_loop(tokens: Sequence[int], text: str) -> bool:
    """Tell whether a text repeats itself."""
    if compression_ratio(text) > LOOP_RATIO:
        return True
    for cycle in range(1, len(tokens) // CYCLES + 1):
        run = 0  # tokens in a row that equal the one a cycle before
        for token, before in zip(tokens[cycle:], tokens, strict=False):
            run = run + 1 if token == before else 0
            if run >= (CYCLES - 1) * cycle and run + cycle >= CYCLE_TOKENS:
                return True
    return False
