"""How many more recordings? Error rates of models trained on parts of the recordings, and what more of them promise.

In: the training cuts. Out: nested parts of them; from the points (recordings, error rate) a power law
`a n^-b`, the usual shape of learning curves (Hestness et al. 2017, arXiv:1712.00409), and its value further on.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from egrecho_inner.runtime.files import read_lines, write_jsonl

MORE = (50, 100, 200)


def write_parts(train: Path, fractions: Sequence[float], outdir: Path) -> dict[float, Path]:
    """Write nested parts of a manifest: each holds the smaller ones."""
    lines = sorted(read_lines(train), key=lambda line: hashlib.sha256(json.loads(line)["id"].encode()).digest())
    parts = {}
    for fraction in sorted(fractions):
        parts[fraction] = outdir / f"cuts_part{round(100 * fraction)}.jsonl.gz"
        write_jsonl(parts[fraction], sorted(lines[: max(2, round(fraction * len(lines)))]))
    return parts


def extrapolate(points: Sequence[tuple[int, float]], words: int) -> dict[str, Any]:
    """Fit a power law to points (recordings, error rate) and read it further on.

    Args:
        points: At least two.
        words: Of the test set; an error rate of nothing counts as half an error.

    Returns:
        `exponent` and `expected` error rates by the number of additional recordings; no expectation where more
        recordings did not help.
    """
    xs = [math.log(count) for count, _ in points]
    ys = [math.log(max(rate, 0.5 / max(words, 1))) for _, rate in points]
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - middle_x) ** 2 for x in xs)
    slope = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0
    if slope >= 0:
        return {"exponent": -slope, "expected": {}}
    most = max(count for count, _ in points)
    expected = {more: math.exp(middle_y + slope * (math.log(most + more) - middle_x)) for more in MORE}
    return {"exponent": -slope, "expected": expected}
