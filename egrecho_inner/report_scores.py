#!/usr/bin/env python
"""`egrecho report-scores`: a result folder in, one HTML page out that shows the errors, utterance by utterance.

    egrecho report-scores exp/mine/eval --compare exp/base/eval --out scores.html

Everything is scored again from the texts in the folder, with the normaliser and metric that its results.json names.
The page holds its own sound and needs no network.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from egrecho_inner.config import run
from egrecho_inner.config_types import NonNegativeFloat, NonNegativeInt, PositiveInt
from egrecho_inner.errors import DataError
from egrecho_inner.results.comparison import Comparison, compare_scored, in_order_of
from egrecho_inner.results.folder import read_result
from egrecho_inner.results.rescored import Rescored, rescore
from egrecho_inner.text.bootstrap import bootstrap_interval
from egrecho_inner.text.normalize import load_normalizer
from egrecho_inner.text.scoring import REF, percent

if TYPE_CHECKING:
    from egrecho_inner.report.clips import Clip

logger = logging.getLogger(__name__)


def report_scores(
    result: str,
    out: str | None = None,
    compare: str | None = None,
    cuts: str | None = None,
    utterances: PositiveInt = 300,
    audio: NonNegativeInt = 40,
    audio_mb: NonNegativeFloat = 1.2,
    normalizer_file: str = "",
) -> None:
    """Show the errors of a result on one HTML page, the worst utterances first, with their sound.

    Args:
        result: Folder that `egrecho eval` wrote (results.json, hyps.jsonl).
        out: The page; report.html in the folder by default.
        compare: Folder of another result on the same utterances; shows wins and losses against it.
        cuts: Manifest with the audio; by default the one that results.json names.
        utterances: To show at most.
        audio: Players at most.
        audio_mb: Megabytes of all players together.
        normalizer_file: The Python file that the result was scored with, if it was; on the command line only.
    """
    if normalizer_file:
        load_normalizer(normalizer_file)
    from egrecho_inner.report.page import write_page
    from egrecho_inner.report.score_page import ScoreReport, score_page

    scored = rescore(read_result(result))
    comparison = compare_with(scored, compare) if compare else None
    rows = choose_rows(scored, comparison, utterances)
    ids = [scored.score.ids[row] for row in rows[:audio]]
    clips = find_clips(cuts or scored.source.manifest, ids, audio_mb * 1e6, named=cuts is not None)
    interval = comparison.intervals[1] if comparison else bootstrap_interval(scored.score.counts)
    report = ScoreReport(scored, interval, rows, clips, comparison)
    path = Path(out) if out else Path(result) / "report.html"
    write_page(path, score_page(report))
    print(f"{scored.rate} {percent(scored.score.error_rate)} ({scored.normalizer})")
    if comparison:
        print(f"{comparison.verdict} against {compare} ({percent(comparison.a.score.error_rate)})")
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


report_scores.positional = ["result"]
report_scores.command_line_only = ["normalizer_file"]


def compare_with(scored: Rescored, folder: str) -> Comparison:
    """Compare a result with another one, the baseline, scored alike and in the order of this one's utterances.

    Raises:
        DataError: The other result has other utterances or references.
    """
    other = rescore(read_result(folder), scored.normalizer, scored.score.metric)
    return compare_scored(in_order_of(scored, other), scored)


def choose_rows(scored: Rescored, comparison: Comparison | None, most: int) -> list[int]:
    """Return the utterances to show, most errors first; those that changed most are among them."""
    errors = scored.score.utterance_errors
    rate = errors / np.maximum(scored.score.counts[:, REF], 1)
    worst = np.lexsort((-rate, -errors))
    chosen = list(worst[errors[worst] > 0])
    chosen += [row for row in worst if errors[row] == 0 and scored.flags[row]]
    if comparison:
        chosen = comparison.most_changed[: most // 2] + chosen
    kept = set([int(row) for row in dict.fromkeys(chosen)][:most])
    return [int(row) for row in worst if int(row) in kept]


def find_clips(path: str | None, ids: list[str], room: float, named: bool) -> dict[str, Clip | str]:
    """Encode the audio of some cuts, in this order, as long as there is room.

    Args:
        path: Their manifest.
        ids: Of the cuts.
        room: Bytes at most.
        named: Whether the user named the manifest, and so wants to know that it is not there.
    """
    from egrecho_inner.data.audio.load import load_audio
    from egrecho_inner.report.clips import encode_clip, find_cuts

    if not ids or path is None or (not named and not Path(path).is_file()):
        if ids:
            logger.warning(
                "no audio on the page: %s; --cuts names the manifest", f"{path} is not there" if path else "none"
            )
        return {}
    cuts = find_cuts(path, ids)
    clips: dict[str, Clip | str] = {}
    for key in ids:
        if key in cuts and cuts[key].has_recording and room > 0:
            try:
                clips[key] = clip = encode_clip(load_audio(cuts[key]))
                room -= len(clip.data)
            except DataError as error:
                clips[key] = str(error)
    return clips


if __name__ == "__main__":
    run(report_scores)
