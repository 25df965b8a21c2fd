"""The data page: what a corpus is made of, what was left out of it, and which utterances deserve an ear.

In: a `Survey`, its findings, skip ledgers, clips of the suspicious cuts. Out: one HTML page. What needs attention comes
first, then the shape of the data, then each suspicion with its worst utterances.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np

from egrecho_inner.config_names import manifest_name
from egrecho_inner.data.cuts.statistics import clock
from egrecho_inner.report.charts import Mark, histogram, shares
from egrecho_inner.report.clips import Clip
from egrecho_inner.report.page import Child, Html, page, player, section, table, tag, text, tiles
from egrecho_inner.report.survey import UNKNOWN, Survey
from egrecho_inner.report.suspects import Finding, Suspect
from egrecho_inner.runtime.ledger import Skip
from egrecho_inner.text.constants import MAX_TOKENS

MOST_ROWS = 20  # of a table; the rest is summed up in one row
MOST_TEXT = 600  # characters of a transcript that are shown
SHARED = "Evaluation speakers that are also in training data"
NO_FINDING = "Nothing suspicious was found by the checks that were made."


@dataclass(frozen=True)
class Shown:
    """What the page shows of one cut."""

    id: str
    text: str
    clip: Clip | None = None
    fault: str = ""
    """Why there is no clip, if one was tried."""


@dataclass(frozen=True)
class DataReport:
    """Everything that goes on the page."""

    survey: Survey
    findings: list[Finding]
    shown: Mapping[int, Shown]
    """The cuts of the findings, by row."""
    checked: int
    """Cuts whose audio was checked."""
    skips: Mapping[str, list[Skip]] = field(default_factory=dict)
    """Ledgers by their path."""
    speakers: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Speakers that are in training and in other data, with seconds in each."""
    unchecked: Sequence[str] = ()
    """Checks that could not be made."""


def data_page(report: DataReport) -> Html:
    """Make the page."""
    survey = report.survey
    played: set[int] = set()
    return page(
        "Data report",
        " · ".join(f"{name}: {path}" for name, path in survey.paths.items()),
        _figures(report),
        _overview(report),
        section("Hours", _split_table(survey), note=_copies(survey)),
        section(
            "Distributions",
            _charts(survey),
            note="How many utterances (height) have which value (axis): a strip for each split, each in its own scale. "
            "Point at a bar for its figures; the last bar, in another colour, holds everything beyond the axis.",
        ),
        section("Languages, speakers, sampling rates", _categories(survey)),
        _ledgers(report.skips) if report.skips else None,
        _speakers(report.speakers) if report.speakers else None,
        *(_finding(finding, report, played) for finding in report.findings),
        window=_common_name(survey),
    )


def _common_name(survey: Survey) -> str:
    """Return what the names of the manifests begin with: the corpus."""
    names = [manifest_name(path) for path in survey.paths.values()]
    parts = zip(*(name.split("_") for name in names), strict=False)
    return "_".join(part[0] for part in takewhile(lambda part: len(set(part)) == 1, parts)) or ", ".join(names)


def _figures(report: DataReport) -> Html:
    survey = report.survey
    worries = {kind: sum(f.severity == kind for f in report.findings) for kind in ("error", "warning")}
    spoken = [name for name in survey.speakers if name != UNKNOWN]
    used = [survey.languages[number] for number in np.unique(survey.language)]
    return tiles(
        [
            ("Audio", _long(survey.duration.sum()), _utterances(len(survey))),
            ("Utterance", f"{np.median(survey.duration):.1f} s", f"median; longest {survey.duration.max():.1f} s"),
            ("Speakers", f"{len(spoken):,}" if spoken else "–", "as the manifests name them"),
            ("Languages", f"{len(used):,}", ", ".join(used[:4]) + (", …" if len(used) > 4 else "")),
            ("To fix", f"{worries['error']}", f"and {worries['warning'] + bool(report.speakers)} to check"),
        ]
    )


def _overview(report: DataReport) -> Html:
    """List the suspicions with links."""
    rows: list[list[Child]] = [
        [_chip(each.severity), _link(each.kind, each.title), f"{each.count:,}", _hours(each.seconds)]
        for each in report.findings
    ]
    if report.speakers:
        seconds = sum(outside for _, outside in report.speakers.values())
        row = [_chip("warning"), _link("speakers", SHARED)]
        rows.insert(sum(each.severity != "hint" for each in report.findings), [*row, "", _hours(seconds)])
    checked = (
        f"Every transcript and length was checked; of the audio, {report.checked:,} of {len(report.survey):,} cuts."
    )
    body = (
        table(["", "What", "Utterances", "Audio"], rows, numbers=(2, 3), cls="chips") if rows else tag("p", NO_FINDING)
    )
    missing = tag("p", f"Not checked: {'; '.join(report.unchecked)}.") if report.unchecked else None
    return section("What to look at", tag("div", body, missing, cls="panel"), note=checked)


def _copies(survey: Survey) -> str:
    """Describe what the figures leave out."""
    parts = [f"{name} {count:,} ({_long(seconds)})" for name, (count, seconds) in survey.copies.items()]
    return f"Copies at another speed, for training, are counted nowhere here: {', '.join(parts)}." if parts else ""


def _split_table(survey: Survey) -> Html:
    rows = []
    for number, (name, training) in enumerate(zip(survey.splits, _training_splits(survey), strict=True)):
        here = survey.split == number
        seconds = survey.duration[here]
        row = [tag("strong", name), "training" if training else "evaluation", f"{here.sum():,}", _hours(seconds.sum())]
        speakers = {survey.speakers[speaker] for speaker in np.unique(survey.speaker[here])} - {UNKNOWN}
        row += [f"{seconds.mean():.2f} s", f"{seconds.min():.2f} s", f"{seconds.max():.2f} s", f"{len(speakers):,}"]
        rows.append([*row, f"{survey.characters[here].sum():,}"])
    head = ["Split", "Taken for", "Utterances", "Audio", "Mean", "Shortest", "Longest", "Speakers", "Characters"]
    return tag("div", table(head, rows, numbers=range(2, 9)), cls="panel")


def _training_splits(survey: Survey) -> list[bool]:
    return [bool(survey.training[survey.split == number].any()) for number in range(len(survey.splits))]


def _charts(survey: Survey) -> Html:
    spoken = survey.characters > 0
    pace = survey.characters / np.maximum(survey.duration, 1e-3)
    charts = [
        _panel("Duration", histogram(_by_split(survey, survey.duration), "seconds", Mark(30, "Whisper's window"))),
        _panel("Characters per second", histogram(_by_split(survey, pace, spoken), "characters per second")),
    ]
    if survey.tokens.any():
        counted = survey.tokens > 0
        tokens = histogram(
            _by_split(survey, survey.tokens, counted), "label tokens", Mark(MAX_TOKENS, f"{MAX_TOKENS} fit"), whole=True
        )
        charts.append(_panel("Label tokens", tokens))
    characters = histogram(_by_split(survey, survey.characters, spoken), "characters", whole=True)
    charts.append(_panel("Characters of a transcript", characters))
    return tag("div", *charts, cls="grid")


def _by_split(survey: Survey, values: np.ndarray, kept: np.ndarray | None = None) -> dict[str, np.ndarray]:
    keep = np.ones(len(survey), dtype=bool) if kept is None else kept
    return {name: values[keep & (survey.split == number)] for number, name in enumerate(survey.splits)}


def _categories(survey: Survey) -> Html:
    rates, positions = np.unique(survey.rate, return_inverse=True)
    names = [f"{rate:,}\u00a0Hz" if rate else "no audio file" for rate in rates]
    return tag(
        "div",
        _panel("Languages", _amounts(survey, "Language", survey.languages, survey.language)),
        _panel("Speakers", _amounts(survey, "Speaker", survey.speakers, survey.speaker)),
        _panel("Sampling rates of the files", _amounts(survey, "Rate", names, positions)),
        cls="grid",
    )


def _amounts(survey: Survey, what: str, names: Sequence[str], numbers: np.ndarray) -> Html:
    """Show the hours of each value in each split, most first."""
    size, count = len(names), np.bincount(numbers, minlength=len(names))
    seconds = np.bincount(numbers, survey.duration, minlength=size)
    by_split = [
        np.bincount(numbers[survey.split == split], survey.duration[survey.split == split], minlength=size)
        for split in range(len(survey.splits))
    ]
    order = [number for number in np.argsort(-seconds, kind="stable") if count[number]]
    rows = [
        (text(names[number]), seconds[number], [*(_hours(part[number]) for part in by_split), f"{count[number]:,}"])
        for number in order[:MOST_ROWS]
    ]
    if rest := order[MOST_ROWS:]:
        mean = float(seconds[rest].mean())  # the bar of one of them: their sum would dwarf all others
        rows.append(
            (f"{len(rest):,} others", mean, [*(_hours(p[rest].sum()) for p in by_split), f"{count[rest].sum():,}"])
        )
    return shares([what, *survey.splits, "Utterances"], rows)


def _ledgers(ledgers: Mapping[str, list[Skip]]) -> Html:
    groups: dict[tuple[str, str], list[Skip]] = {}
    for skip in (skip for skips in ledgers.values() for skip in skips):
        groups.setdefault((skip.stage, skip.reason), []).append(skip)
    ranked = sorted(groups.items(), key=lambda item: (-sum(s.seconds for s in item[1]), -len(item[1]), item[0]))
    rows = [
        [
            *(stage, reason, f"{len(skips):,}", _hours(sum(skip.seconds for skip in skips))),
            tag("span", ", ".join(_example(skip) for skip in skips[:3]), cls="id"),
        ]
        for (stage, reason), skips in ranked
    ]
    total = sum(map(len, ledgers.values()))
    seconds = sum(skip.seconds for skips in ledgers.values() for skip in skips)
    note = f"{total:,} items, {_long(seconds)} of audio, by {', '.join(ledgers)}."
    body = table(["Stage", "Reason", "Items", "Audio", "First"], rows, numbers=(2, 3)) if rows else tag("p", "Nothing.")
    return section("Left out by earlier stages", tag("div", body, cls="panel"), note=note)


def _example(skip: Skip) -> str:
    return f"{skip.id} ({str(skip.value)[:60]})" if skip.value != "" else skip.id


def _speakers(speakers: Mapping[str, tuple[float, float]]) -> Html:
    rows = [[text(name), _hours(inside), _hours(out)] for name, (inside, out) in list(speakers.items())[:MOST_ROWS]]
    if len(speakers) > MOST_ROWS:
        rows.append([f"{len(speakers) - MOST_ROWS:,} others", "", ""])
    return section(
        SHARED,
        tag("div", table(["Speaker", "In training data", "In evaluation data"], rows, numbers=(1, 2)), cls="panel"),
        note="Right where the model is for these speakers; for unknown ones the error rate will look too low.",
        anchor="speakers",
    )


def _finding(finding: Finding, report: DataReport, played: set[int]) -> Html:
    head = tag("span", _chip(finding.severity), f" {_utterances(finding.count)}, {_long(finding.seconds)}. ")
    more = f"The {len(finding.worst)} worst are shown. " if len(finding.worst) < finding.count else ""
    cards = [_card(suspect, report, played) for suspect in finding.worst]
    about = tag("p", head, more, finding.advice, cls="note")
    return section(finding.title, about, *cards, anchor=finding.kind)


def _card(suspect: Suspect, report: DataReport, played: set[int]) -> Html:
    rows = [row for row in (suspect.row, suspect.other) if row is not None and row in report.shown]
    cuts = [_cut(row, report, played, suspect.why) for row in rows]
    return tag("div", tag("div", suspect.why, cls="why"), tag("div", *cuts, cls="cuts"), cls="card")


def _cut(row: int, report: DataReport, played: set[int], why: str) -> Html:
    """Show a cut; its sound is in the page once, further cards point there."""
    shown = report.shown[row]
    sound: Child = player(shown.clip, shown.fault if shown.fault != why else "")
    anchor = f"cut{row}" if shown.clip and row not in played else None
    if shown.clip and row in played:
        sound = tag("a", "listen above", href=f"#cut{row}", cls="about")
    elif shown.clip:
        played.add(row)
    top = tag("div", tag("span", shown.id, cls="id"), _facts(report.survey, row), cls="top")
    return tag("div", top, tag("div", _text(shown.text), sound, cls="row"), cls="cut", id=anchor)


def _text(content: str) -> Html | None:
    short = content if len(content) <= MOST_TEXT else f"{content[:MOST_TEXT]} … ({len(content):,} characters)"
    return text(short, cls="said") if content else None


def _facts(survey: Survey, row: int) -> Html:
    seconds, characters = survey.duration[row], survey.characters[row]
    facts = [_place(survey, row), survey.languages[survey.language[row]], f"{seconds:.2f} s"]
    facts += [f"{characters / max(seconds, 1e-3):.1f} characters per second"] if characters else []
    facts += [speaker] if (speaker := survey.speakers[survey.speaker[row]]) != UNKNOWN else []
    return tag("span", " · ".join(facts), cls="facts")


def _place(survey: Survey, row: int) -> str:
    return f"{survey.splits[survey.split[row]]} line {survey.line[row] + 1:,}"


def _panel(title: str, *children: Child) -> Html:
    return tag("div", tag("h3", title), *children, cls="panel")


def _chip(severity: str) -> Html:
    return tag("span", {"error": "fix", "warning": "check", "hint": "note"}[severity], cls=f"chip {severity}")


def _link(anchor: str, title: str) -> Html:
    return tag("a", title, href=f"#{anchor}")


def _hours(seconds: float) -> str:
    """Write an amount of audio as hh:mm:ss, so that a column of them lines up."""
    return clock(float(seconds)) if seconds > 0 else "–"


def _long(seconds: float) -> str:
    """Write an amount of audio in the unit that suits it."""
    if seconds >= 3600:
        return f"{seconds / 3600:,.2f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def _utterances(count: int) -> str:
    return f"{count:,} utterance{'' if count == 1 else 's'}"
