"""Two pages of a personal model, one file each: its recordings with their splits, and what training made of them.

In: manifests of a folder's cuts, a ledger; or a run's report and its comparison, word by word. Out: HTML with a player
for every recording, up to a number of megabytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.errors import DataError
from egrecho_inner.report.clips import Clip, encode_clip
from egrecho_inner.report.page import Child, Html, page, player, section, table, tag, text, tiles
from egrecho_inner.runtime.ledger import Skip
from egrecho_inner.text.scoring import percent

ROOM = 24e6
"""Bytes of all players together."""
VERDICTS = {
    "better": "Better: use the tuned model.",
    "within noise": "Keep the base: the difference is within noise. More recordings may help.",
    "worse": "Keep the base: the tuned model is worse.",
    "forgets": "Keep the base: the tuned model forgets others.",
    "undecided": "Undecided: there is no reference to score against.",
}


def recordings_page(name: str, manifests: Mapping[str, Path], skips: Sequence[Skip], notes: Sequence[str]) -> Html:
    """Show every recording of a folder with its split, text and sound.

    Args:
        name: Of the folder.
        manifests: Of each split or fold.
        skips: What was left out.
        notes: What a person should know.
    """
    rows, figures, room = [], [], ROOM
    for split, path in manifests.items():
        index = CutIndex(path)
        figures.append((split, len(index), f"{index.durations.sum() / 60:.1f} minutes"))
        for cut in index:
            clip, room = sound(cut, room)
            uid, reference = cut.recording.id, cut.supervisions[0].text
            rows.append(
                [text(uid, "id"), split, f"{cut.duration:.1f}", text(reference), player(clip, "no room for more")]
            )
    reasons = [[text(skip.id, "id"), skip.reason, text(str(skip.value))] for skip in skips]
    left = table(["recording", "reason", ""], reasons)
    return page(
        "Recordings",
        name,
        tiles(figures),
        section("Worth knowing", tag("ul", *(tag("li", note) for note in notes))) if notes else None,
        section("Left out", left, note=f"{len(skips)} files cannot be used.") if skips else None,
        section("All recordings", table(["recording", "split", "seconds", "text", "sound"], rows, numbers=[2])),
        window=name,
    )


def result_page(report: Mapping[str, Any], compared: Iterable[Mapping[str, Any]], manifests: Iterable[Path]) -> Html:
    """Show what training made of a folder.

    Args:
        report: Of the run.
        compared: Every test recording with what both models made of it.
        manifests: Of the test recordings, for their sound.
    """
    cuts = {cut.recording.id: cut for path in manifests for cut in CutIndex(path)}
    metric, rows, room = report["metric"].upper(), [], ROOM
    for row in compared:
        clip, room = sound(cuts[row["uid"]], room) if row["uid"] in cuts else (None, room)
        sides = [aligned(row[side]["words"], report["metric"]) for side in ("base", "tuned")]
        rows.append([text(row["uid"], "id"), text(row["text"]), *sides, player(clip, "no room for more")])
    figures = []
    for side in ("base", "tuned"):
        part = report[f"{side}_scores"]["test"]
        figures.append((f"{side}, {metric}", f"{percent(part['error_rate'])} %", bounds(part["interval"])))
    if guard := report.get("guard"):
        share = f"points; {guard['alpha']:g} of the tuned weights"
        figures.append(("others' voices", f"{100 * guard['forgotten']:+.2f}", share))
    notes = report["notes"]
    return page(
        VERDICTS.get(report["verdict"], report["verdict"]),
        f"base {report['base']}, normaliser {report['normalizer']}, {report['seconds']:.0f} s in all",
        tiles(figures),
        section("Worth knowing", tag("ul", *(tag("li", note) for note in notes))) if notes else None,
        section("More recordings", curve_table(report["curve"])) if report.get("curve") else None,
        section(
            "Test recordings",
            table(["recording", "reference", "base", "tuned", "sound"], rows),
            note="Neither learned nor used to choose the model; the base's worst first. Words that differ from the "
            "reference are marked: another word, an added one, one that is left out (struck through).",
        ),
    )  # fmt: skip


def curve_table(curve: Mapping[str, Any]) -> Html:
    """Show error rates by recordings, and what more of them promise."""
    rows: list[list[Child]] = []
    for part in curve["points"]:
        rows.append([part["recordings"], f"{percent(part['error_rate'])} %", bounds(part["interval"])])
    most = curve["points"][-1]["recordings"]
    rows += [[most + int(more), f"{percent(rate)} %", "expected"] for more, rate in curve["expected"].items()]
    return table(["recordings", "error rate", ""], rows, numbers=[0, 1])


def sound(cut: Any, room: float) -> tuple[Clip | None, float]:
    """Return a cut's sound, if there is room for it and it reads, and the room that is left."""
    if room <= 0:
        return None, room
    try:
        clip = encode_clip(load_audio(cut))
    except DataError:
        return None, room
    return clip, room - len(clip.data)


def aligned(words: Iterable[Sequence[str | None]], metric: str) -> Html:
    """Show a hypothesis, its errors in colour."""
    parts: list[Child] = []
    for wanted, got in words:
        if wanted == got:
            parts.append(text(got))
        elif got is None:
            parts.append(tag("span", tag("del", wanted), cls="token d", title="left out"))
        else:
            title = f"for {wanted}" if wanted else "added"
            parts.append(tag("span", tag("ins", got), cls=f"token {'s' if wanted else 'i'}", title=title, dir="auto"))
        if metric == "wer":
            parts.append(" ")
    return tag("span", *(parts or ["(nothing)"]), dir="auto")


def bounds(interval: Sequence[float] | None) -> str:
    """Write an interval."""
    return "" if interval is None else f"95 %: {percent(interval[0])} to {percent(interval[1])}"
