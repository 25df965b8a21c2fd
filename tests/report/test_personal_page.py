"""The page of a personal run: what differs from the reference is marked, by classes that the style sheet knows."""

import re
from importlib.resources import files
from typing import Any

from egrecho_inner.report.personal_page import result_page

ROW = {
    "uid": "u0",
    "text": "one two three",
    "base": {"words": [["one", "nine"], ["two", None], ["three", "three"], [None, "four"]]},
    "tuned": {"words": [["one", "one"], ["two", "two"], ["three", "three"]]},
}


def report() -> dict[str, Any]:
    part = {"error_rate": 1.0, "interval": [0.5, 1.0]}
    scores = {"test": part}
    return {
        "verdict": "better", "metric": "wer", "base": "tiny", "normalizer": "none", "seconds": 3.0, "notes": [],
        "base_scores": scores, "tuned_scores": scores, "guard": {"alpha": 0.5, "forgotten": 0.01},
    }  # fmt: skip


def test_differing_words_are_marked_by_known_classes() -> None:
    shown = str(result_page(report(), [ROW], []))
    marks = re.findall(r'<span class="token (\w)" title="([^"]*)"[^>]*><(\w+)>(\w+)', shown)
    assert marks == [("s", "for one", "ins", "nine"), ("d", "left out", "del", "two"), ("i", "added", "ins", "four")]
    style = files("egrecho_inner.report").joinpath("page.css").read_text(encoding="utf-8")
    for mark, _, inner, _ in marks:
        assert f".{mark} {inner}" in style and re.search(rf"\.{mark} {{ background", style)
