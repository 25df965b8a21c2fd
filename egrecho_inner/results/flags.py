"""Signs of a failed decoding: empty, looped, invented or truncated text.

In: a line of hyps.jsonl and its four counts. Out: names of `FLAGS`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from egrecho_inner.text.constants import LOOP_RATIO
from egrecho_inner.text.repetition import compression_ratio
from egrecho_inner.text.scoring import INS, REF

_REPEATED = re.compile(r"(?<!\w)(\w.{0,80}?)(?:\W+\1){3,}(?!\w)", re.DOTALL)  # up to some words, four times in a row
INVENTED = 5  # inserted tokens, and more than the reference has


def _is_empty(row: Mapping[str, Any], counts: Any) -> bool:
    return not row["hyp"].strip() and counts[REF] > 0


def _is_looped(row: Mapping[str, Any], counts: Any) -> bool:
    hyp = row["hyp"]
    if "looped" in row:
        return bool(row["looped"])
    return compression_ratio(hyp) > LOOP_RATIO or (bool(_REPEATED.search(hyp)) and not _REPEATED.search(row["ref"]))


def _is_on_silence(row: Mapping[str, Any], counts: Any) -> bool:
    return counts[REF] == 0 and counts[INS] > 0


def _is_invented(row: Mapping[str, Any], counts: Any) -> bool:
    return counts[REF] > 0 and counts[INS] >= max(INVENTED, counts[REF] + 1)


def _is_cut_off(row: Mapping[str, Any], counts: Any) -> bool:
    return bool(row.get("truncated"))


def _is_dropped(row: Mapping[str, Any], counts: Any) -> bool:
    return bool(row.get("dropped"))


def _is_long(row: Mapping[str, Any], counts: Any) -> bool:
    return (row.get("parts") or 1) > 1


Test = Callable[[Mapping[str, Any], Any], bool]
"""(line of hyps.jsonl, its four counts) -> whether it has the sign."""
FLAGS: dict[str, tuple[str, Test]] = {
    "empty": ("nothing was recognised where the reference has text", _is_empty),
    "looped": (
        f"the text repeats itself: it compresses by more than {LOOP_RATIO}, or its words come four times in a row",
        _is_looped,
    ),
    "on silence": ("text where the reference is empty", _is_on_silence),
    "invented": (f"more inserted than the reference has in all, {INVENTED} at least", _is_invented),
    "cut off": ("the limit of tokens came before the end", _is_cut_off),
    "dropped speech": ("far fewer words than its seconds of speech have elsewhere in the set", _is_dropped),
    "long form": ("over 30 s, recognised in several windows", _is_long),
}
