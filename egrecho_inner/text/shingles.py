"""What of a text is compared with other texts: its words without case and punctuation, and runs of n of them.

In: a text. Out: tokens, 64-bit hashes of n-grams. Where words have no spaces between them, every letter is a token.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence

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
    count = len(hashes) - size + 1
    if count < 1:
        return np.empty(0, dtype=np.uint64)
    with np.errstate(over="ignore"):
        found = np.full(count, size, dtype=np.uint64)
        for place in range(size):
            found = (found ^ hashes[place : place + count]) * PRIME
            found ^= found >> np.uint64(29)
    return found


def _hash(token: str) -> int:
    known = _CACHE.get(token)
    if known is None:
        if len(_CACHE) > 1_000_000:
            _CACHE.clear()
        known = _CACHE[token] = int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest(), "little")
    return known


_CACHE: dict[str, int] = {}
