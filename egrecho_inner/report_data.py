#!/usr/bin/env python
"""`egrecho report-data`: cut manifests in, one HTML page out that shows what is in them and what is wrong with them.

    egrecho report-data data/fbank_whisper80/mine_cuts_train.jsonl.gz data/fbank_whisper80/mine_cuts_test.jsonl.gz \\
      --out data.html

The manifests are read once for their numbers and once more for the cuts that are shown; the audio of a limited number
of cuts is checked. The page holds its own sound and needs no network.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from egrecho_inner.config import run
from egrecho_inner.config_names import name_manifests
from egrecho_inner.config_types import NonNegativeFloat, NonNegativeInt, PositiveInt
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.ledger import read_ledger

if TYPE_CHECKING:
    from egrecho_inner.report.data_page import Shown
    from egrecho_inner.report.survey import Survey
    from egrecho_inner.report.suspects import Finding

logger = logging.getLogger(__name__)


def report_data(
    cuts: dict[str, str] | list[str] | str,
    out: str = "data_report.html",
    processor: str | None = None,
    skipped: list[str] | str | None = None,
    audio_checks: NonNegativeInt | Literal["all"] = 2000,
    top: PositiveInt = 10,
    audio: NonNegativeInt = 60,
    audio_mb: NonNegativeFloat = 1.5,
) -> None:
    """Show what is in cut manifests, and the utterances that look wrong, on one HTML page.

    Args:
        cuts: Manifests by split, `{train: A.jsonl.gz, test: B.jsonl.gz}`, or NAME=PATH words; splits whose name
            begins with `train` (or else the first one) are training data, all others are compared with them.
        out: The page.
        processor: Whisper model folder whose tokenizer counts label tokens, of which 448 fit.
        skipped: Ledgers of what earlier stages left out (`skipped.jsonl`).
        audio_checks: Cuts whose audio is checked for copies, silence and clipping, likely copies first; or `all`.
        top: Utterances to show for each suspicion.
        audio: Players at most.
        audio_mb: Megabytes of all players together.
    """
    from egrecho_inner.model.loading import load_processor
    from egrecho_inner.report.data_page import DataReport, data_page
    from egrecho_inner.report.listening import choose_cuts, listen
    from egrecho_inner.report.page import write_page
    from egrecho_inner.report.survey import survey_cuts
    from egrecho_inner.report.suspects import find_suspects, shared_speakers, unchecked
    from egrecho_inner.text.labels import LabelEncoder

    paths = cuts if isinstance(cuts, dict) and cuts else name_manifests(cuts)
    ledgers = {path: read_existing(path) for path in ([skipped] if isinstance(skipped, str) else skipped or [])}
    encoder = LabelEncoder(load_processor(processor).tokenizer) if processor else None
    survey = survey_cuts(paths, encoder)
    rows = choose_cuts(survey, None if audio_checks == "all" else audio_checks)
    logger.info("%s utterances read, checking the audio of %s", f"{len(survey):,}", f"{len(rows):,}")
    checked = list(listen(survey, rows))
    findings = find_suspects(survey, checked, top)
    shown = show(survey, findings, audio, audio_mb * 1e6)
    missing = unchecked(survey)
    report = DataReport(survey, findings, shown, len(checked), ledgers, shared_speakers(survey), missing)
    write_page(out, data_page(report))
    for finding in findings:
        print(f"{finding.severity:8}{finding.count:>9,}  {finding.title}")
    for check in missing:
        print(f"not checked: {check}")
    print(f"{out}: {Path(out).stat().st_size / 1e6:.1f} MB")


report_data.positional = ["cuts"]


def read_existing(path: str) -> list:
    """Read a ledger that was asked for, and so must be there."""
    if not Path(path).is_file():
        raise DataError(f"{path}: no such ledger; expected the skipped.jsonl of an earlier stage")
    return read_ledger(path)


def show(survey: Survey, findings: Iterable[Finding], players: int, room: float) -> dict[int, Shown]:
    """Read the cuts of the findings again, and encode the audio of as many as there is room for, worst first.

    Args:
        survey: Of all cuts.
        findings: Whose cuts are shown.
        players: At most.
        room: Bytes of audio at most.
    """
    from egrecho_inner.data.audio.load import load_audio
    from egrecho_inner.report.clips import encode_clip
    from egrecho_inner.report.data_page import Shown

    lists = [
        [row for each in finding.worst for row in (each.row, each.other) if row is not None] for finding in findings
    ]
    order = list(
        dict.fromkeys(row for depth in range(max(map(len, lists), default=0)) for row in at_depth(lists, depth))
    )
    cuts = dict(survey.read(order))
    shown = {}
    for place, row in enumerate(order):
        cut, clip, fault = cuts[row], None, ""
        if place < players and room > 0 and cut.has_recording:
            try:
                clip = encode_clip(load_audio(cut))
                room -= len(clip.data)
            except DataError as error:
                fault = str(error)
        content = " ".join(each.text for each in sorted(cut.supervisions, key=lambda each: each.start) if each.text)
        shown[row] = Shown(cut.id, content, clip, fault)
    return shown


def at_depth(lists: list[list[int]], depth: int) -> list[int]:
    """Return the element of each list at one position, where there is one."""
    return [each[depth] for each in lists if depth < len(each)]


if __name__ == "__main__":
    run(report_data)
