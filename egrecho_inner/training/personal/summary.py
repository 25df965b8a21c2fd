"""The result of a personal run in figures for `report.json`, and in a few lines for people."""

from collections.abc import Mapping
from typing import Any

from egrecho_inner.text.scoring import percent
from egrecho_inner.training.personal.assess import Assessed, about


def scores(sets: Mapping[str, Assessed], decisive: list[str]) -> dict[str, Any]:
    """Return the figures of every set, and under `test` those of all sets that decide."""
    found = {name: about([part]) for name, part in sets.items()}
    return found | {"test": about([sets[name] for name in decisive])}


def summary(report: dict[str, Any]) -> str:
    """Write in a few lines what a run found."""
    metric, lines = report["metric"].upper(), []
    for name in ("base", "tuned"):
        part = report[f"{name}_scores"]["test"]
        lines.append(
            f"{name:6} {metric} {percent(part['error_rate']):>6} %  (95 % interval {interval(part['interval'])}), "
            f"{part['utterances']} test recordings"
        )
    if guard := report["guard"]:
        lines.append(
            f"others' recordings: {100 * guard['forgotten']:+.2f} points with {guard['alpha']:g} of the tuned weights "
            f"(budget {100 * guard['budget']:g})"
        )
    if curve := report["curve"]:
        more = ", ".join(f"{percent(rate)} % with {count} more" for count, rate in curve["expected"].items())
        lines.append(f"more recordings: {more or 'no gain expected'}")
    if report["adopted"]:
        lines.append(f"better by {100 * -report['delta']:.2f} points: use final/")
    else:
        lines.append(f"{report['verdict']}: keep the base (final/ holds it); more recordings may help")
    return "\n".join(lines)


def interval(bounds: list[float] | None) -> str:
    """Write an interval in percent."""
    return "n/a" if bounds is None else f"{percent(bounds[0])} to {percent(bounds[1])}"
