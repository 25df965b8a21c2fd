"""The score page: how good a result is and how sure that is, where the errors lie, and every bad utterance to look at.

In: a scored result folder, perhaps a second one to compare with, clips of the worst utterances. Out: one HTML page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from egrecho_inner.report.breakdown import confusions, group_tables
from egrecho_inner.report.charts import bar
from egrecho_inner.report.clips import Clip
from egrecho_inner.report.page import Child, Html, page, read_part, section, table, tag, tiles
from egrecho_inner.report.utterances import legend, utterance_cards
from egrecho_inner.results.comparison import Comparison
from egrecho_inner.results.flags import FLAGS
from egrecho_inner.results.rescored import Rescored
from egrecho_inner.text.scoring import INS, REF, percent

ABOUT_GROUPS = (
    "The whisker is the 95 % interval: where it is long, the group is too small to show it. Bars end at {} %."
)


@dataclass(frozen=True)
class ScoreReport:
    """Everything that goes on the page."""

    scored: Rescored
    interval: tuple[float, float] | None
    cards: Sequence[int]
    """Utterances to show, worst first."""
    clips: Mapping[str, Clip | str] = field(default_factory=dict)
    """By id: the sound, or why there is none."""
    comparison: Comparison | None = None
    room: int = 1_500_000
    """Bytes of all utterances together, without their sound."""


def score_page(report: ScoreReport) -> Html:
    """Make the page."""
    scored = report.scored
    groups, end = group_tables(scored)
    return page(
        "Score report",
        scored.folder,
        _figures(report),
        _split_of_errors(report),
        _warnings(scored),
        _comparison(report.comparison) if report.comparison else None,
        _strange(report),
        section("Where the errors are", groups, note=f"{scored.rate} in %. {ABOUT_GROUPS.format(f'{100 * end:g}')}"),
        section("Most frequent errors", confusions(scored)),
        _utterances(report),
        section("How this was made", tag("div", _facts(scored), cls="panel")),
        script=read_part("score_page.js"),
        window=scored.folder,
    )


def _figures(report: ScoreReport) -> Html:
    scored, low_high = report.scored, report.interval
    sure = f"95 % interval {percent(low_high[0])} to {percent(low_high[1])}" if low_high else "no reference"
    seconds = sum(each or 0 for each in scored.column("duration"))
    about_rate = f"errors per 100 reference {scored.unit}, after the normaliser"
    figures: list[tuple[str, Child, Child]] = [
        (f"{scored.rate}, {scored.normalizer}", _percent(scored.score.error_rate), f"{about_rate}; {sure}"),
        (f"{scored.rate} raw", _percent(scored.raw.error_rate), "as written, case and punctuation counted"),
        ("Utterances", f"{scored.score.utterances:,}", f"{scored.score.wrong_utterances:,} with an error"),
        (f"Reference {scored.unit}", f"{scored.score.total:,}", f"{scored.score.errors:,} errors"),
    ]
    if seconds:
        speed = scored.summary.get("RTFx")
        about = f"decoded {speed:,.1f} times faster than real time" if speed else "audio"
        figures.append(("Audio", f"{seconds / 3600:,.2f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min", about))
    return tiles(figures)


def _split_of_errors(report: ScoreReport) -> Html:
    """Show correct, substituted, deleted and inserted tokens as one line."""
    part = report.scored.score
    shares = [
        ("ok", "correct", part.correct),
        ("su", "substituted", part.subs),
        ("de", "deleted", part.dels),
        ("in", "inserted", part.ins),
    ]
    tokens = max(sum(count for *_, count in shares), 1)
    line = [tag("span", cls=cls, style=f"width:{100 * count / tokens:.2f}%") for cls, _, count in shares if count]
    counts = " · ".join(f"{count:,} {name} ({percent(_share(count, part.total))} %)" for _, name, count in shares)
    return tag("div", tag("div", *line, cls="split"), tag("div", counts, cls="facts"))


def _warnings(scored: Rescored) -> Html | None:
    """Show where the stored numbers are not those of the stored texts."""
    notes = []
    if scored.stored_rate is not None:
        rate = percent(scored.score.error_rate)
        notes.append(f"results.json says {percent(scored.stored_rate)} %, its texts score {rate} % here.")
    normalizer = scored.summary.get("normalizer")
    version = normalizer.get("version") if isinstance(normalizer, dict) else None
    if version and version != scored.version and normalizer.get("name") == scored.normalizer:
        notes.append(f"It was scored with {version}, here it is {scored.version}.")
    return tag("p", tag("span", "check", cls="chip warning"), " ", " ".join(notes)) if notes else None


def _comparison(comparison: Comparison) -> Html:
    """Show the verdict on this result against the other, and count wins and losses."""
    difference, utterances = comparison.difference, max(len(comparison.change), 1)
    color = {"better": "good", "worse": "error"}.get(comparison.verdict, "hint")
    figures = "There is no reference to score against."
    if difference:
        low, high = (f"{100 * bound:+.2f}" for bound in (difference.low, difference.high))
        figures = (
            f"{100 * difference.delta:+.2f} points against {percent(comparison.a.score.error_rate)} % "
            f"(95 % interval {low} to {high}, paired bootstrap)."
        )
    names = [("fewer errors than the other", "good"), ("as many", "even"), ("more errors", "bad")]
    rows = [
        (name, bar(count / utterances, cls=cls), f"{count:,}", f"{100 * count / utterances:.1f} %")
        for (name, cls), count in zip(names, comparison.wins, strict=True)
    ]
    head = tag("p", tag("span", comparison.verdict, cls=f"chip {color}"), " ", figures)
    counts = table(["Utterances with", "", "", ""], rows, numbers=(2, 3), cls="shares")
    return section(f"Against {comparison.a.folder}", tag("div", head, counts, cls="panel"))


def _strange(report: ScoreReport) -> Html:
    """Count empty, looped and invented outputs."""
    scored = report.scored
    rows = []
    for name, (meaning, _) in FLAGS.items():
        count = sum(name in flags for flags in scored.flags)
        share = f"{100 * count / len(scored.rows):.1f} %"
        rows.append([tag("strong", name), tag("span", meaning, cls="note"), f"{count:,}", share if count else "–"])
    silent = scored.score.counts[:, REF] == 0
    seconds = sum(row.get("duration") or 0 for row, is_silent in zip(scored.rows, silent, strict=True) if is_silent)
    note = "No utterance has an empty reference, so output on silence was not measured."
    if seconds:
        words = int(scored.score.counts[silent, INS].sum())
        note = (
            f"On {int(silent.sum()):,} utterances with an empty reference ({seconds / 60:.1f} min), "
            f"{words:,} {scored.unit} were put out: {3600 * words / seconds:,.0f} per hour of silence."
        )
    body = table(["Output", "Meaning", "Utterances", "Share"], rows, numbers=(2, 3))
    return section("Signs of failed decoding", tag("div", body, cls="panel"), note=note)


def _utterances(report: ScoreReport) -> Html:
    """Show the utterances with what is needed to find some of them."""
    scored = report.scored
    cards, shown = utterance_cards(
        report.scored, report.cards, report.clips, report.comparison and report.comparison.a, report.room
    )
    flags = [name for name in FLAGS if any(name in report.scored.flags[row] for row in report.cards[:shown])]
    kinds = [("", "all shown"), ("sub", "with substitutions"), ("del", "with deletions"), ("ins", "with insertions")]
    orders = [("errors", "most errors first"), ("rate", f"highest {scored.rate} first"), ("seconds", "longest first")]
    if report.comparison:
        kinds += [("win", "better than the other"), ("loss", "worse than the other")]
        orders += [("change", "largest change first")]
    kinds += [(f"flag-{name.replace(' ', '-')}", name) for name in flags]
    controls = tag(
        "div",
        tag("input", type="search", id="find", placeholder="find an id or a word", aria_label="find"),
        _select("kind", "show", kinds),
        _select("order", "order", orders),
        tag("span", id="count", cls="facts", aria_live="polite"),
        cls="controls",
        id="controls",
        hidden=True,  # the script shows them: without it they would do nothing
    )
    note = f"{shown:,} of {report.scored.score.utterances:,} utterances, the worst first."
    more = legend(bool(report.comparison))
    return section("Utterances", more, controls, tag("div", *cards, id="cards"), note=note, anchor="utterances")


def _select(name: str, label: str, options: Sequence[tuple[str, str]]) -> Html:
    return tag("select", *(tag("option", label, value=value) for value, label in options), id=name, aria_label=label)


def _facts(scored: Rescored) -> Html:
    """List what the numbers rest on."""
    results = scored.summary
    model, data, decode = (_table(results.get(key)) for key in ("model", "data", "decode"))
    versions = _table(results.get("versions"))
    facts = {
        "Normaliser": f"{scored.normalizer} ({scored.version})",
        "Interval": results.get("interval_definition") or "95 %, percentile bootstrap over utterances",
        "Model": model.get("path"),
        "Parameters": f"{model['parameters']:,}" if isinstance(model.get("parameters"), int) else None,
        "Cuts": data.get("path"),
        "Decoding": ", ".join(f"{key} {value}" for key, value in decode.items() if value is not None),
        "RTF": f"{results.get('RTF')}: {results.get('RTF_definition', '')}" if results.get("RTF") else None,
        "Machine": ", ".join(str(results[key]) for key in ("device", "dtype") if results.get(key)),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return tag("dl", *([tag("dt", name), tag("dd", str(value))] for name, value in facts.items() if value))


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _percent(rate: float | None) -> Child:
    return "n/a" if rate is None else [percent(rate), tag("small", " %")]


def _share(count: int, total: int) -> float | None:
    return count / total if total else None
