"""What of a text is compared with other texts: its words without case and punctuation, and runs of n of them.

In: a text. Out: tokens, 64-bit hashes of n-grams. Where words have no spaces between them, every letter is a token.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

TOKEN = re.compile(
    r"[぀-ヿ㐀-䶿一-鿿฀-໿က-႟ក-៿ༀ-࿿]"  # kana, Han, Thai, Lao, Burmese, Khmer, Tibetan: a letter each
    r"|(?:(?![぀-ヿ㐀-䶿一-鿿฀-໿က-႟ក-៿ༀ-࿿])[^\W_])+(?:['’][^\W_]+)*"
)
PRIME = np.uint64(0x9E3779B97F4A7C15)
"""An odd constant (2^64 divided by the golden ratio) that spreads bits, Knuth's multiplicative hashing."""


def tokens_of(text: str) -> list[str]:
    """Return the words of a text, folded; letters where words have no spaces."""
    return TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


def hash_tokens(tokens: Sequence[str]) -> np.ndarray:
    """Return a hash of each token (N,) uint64; the same in every process and on every machine."""
    return np.array([_hash(token) for token in tokens], dtype=np.uint64)


def hash_ngrams(hashes: np.ndarray, size: int) -> np.ndarray:
    """Return a hash of each run of tokens (N - size + 1,) uint64; none where there are fewer tokens."""
    if len(hashes) < size:
        return np.empty(0, dtype=np.uint64)
    return fold(np.lib.stride_tricks.sliding_window_view(hashes, size))


def fold(rows: np.ndarray) -> np.ndarray:
    """Return a hash of each row of hashes (N, K) uint64 -> (N,)."""
    found = np.full(len(rows), rows.shape[1], dtype=np.uint64)
    for column in rows.T:  # arrays of uint64 wrap around without a warning
        found = (found ^ column) * PRIME
        found ^= found >> np.uint64(29)
    return found


@lru_cache(maxsize=200_000)
def _hash(token: str) -> int:
    return int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest(), "little")
