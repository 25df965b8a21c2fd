"""Utterances as cards: reference and hypothesis aligned, errors marked by colour, line and place.

In: a scored result, the rows to show. Out: `Html` cards, as many as there is room for. The upper line reads as the
reference; below an error stands what was recognised in its place. Figures for finding and ordering are attributes that
the page's script reads.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

from egrecho_inner.report.clips import Clip
from egrecho_inner.report.page import Child, Html, player, tag, text
from egrecho_inner.results.rescored import Rescored
from egrecho_inner.text.alignment import Alignment, align, tokenize
from egrecho_inner.text.scoring import DEL, INS, REF, SUB, percent

MOST_TOKENS = 400  # of an utterance: an hour of speech has its place in errs.txt
MOST_CHARACTERS = 12  # in one box, which cannot be broken over two lines


def utterance_cards(
    scored: Rescored, rows: Sequence[int], clips: Mapping[str, Clip | str], other: Rescored | None, room: int
) -> tuple[list[Html], int]:
    """Make the cards of some utterances until there is no room; return them and how many.

    Args:
        scored: The result.
        rows: Worst first.
        clips: By id: the sound, or why there is none.
        other: A result to compare with, in the same order.
        room: Bytes of all cards, sound not counted.
    """
    cards: list[Html] = []
    for row in rows:
        body = _body(scored, row, other)
        written = _as_written(scored, row)
        room -= len(body.encode()) + len(written.encode())
        if room < 0 and cards:
            break
        found = clips.get(scored.score.ids[row])
        sound = player(found) if isinstance(found, Clip) else player(None, found or "")
        cards.append(tag("article", body, sound, written, cls="card", **_marks(scored, row, other)))
    return cards, len(cards)


def aligned(alignment: Alignment, metric: str) -> Html:
    """Show an alignment: what is right as it is, each error as a column of reference over hypothesis."""
    glue = "" if metric == "cer" else " "
    kept, parts = alignment[:MOST_TOKENS], []
    for kind, group in groupby(kept, key=_kind):
        if kind:
            errors = list(group)
            size = 1 if glue else MOST_CHARACTERS
            parts += [_pair(kind, errors[at : at + size]) for at in range(0, len(errors), size)]
        else:
            parts.append(glue.join(ref or "" for ref, _ in group))
    if len(kept) < len(alignment):
        parts.append(f"… and {len(alignment) - len(kept):,} more; errs.txt has them all")
    spaced = [each for part in parts for each in (part, glue)][:-1]
    return tag("div", *spaced, cls="aligned", dir="auto")


def legend(compared: bool) -> Html:
    """Explain the colours."""
    samples = [
        ("recognised as another", [("cat", "hat")]),
        ("left out", [("sat", None)]),
        ("put in", [(None, "oh")]),
    ]
    shown = [tag("span", aligned(pairs, "wer"), f" {meaning}") for meaning, pairs in samples]
    more = "; the other result's below" if compared else ""
    return tag(
        "div", tag("span", f"Upper line: the reference. Lower line: what was recognised{more}."), *shown, cls="legend"
    )


def _body(scored: Rescored, row: int, other: Rescored | None) -> Html:
    parts: list[Child] = [_head(scored, row, other), _alignment(scored, row)]
    if other is not None and other.pairs[row][2] != scored.pairs[row][2]:
        errors = int(other.score.utterance_errors[row])
        parts.append(tag("div", f"the other result, {errors:,} error{'' if errors == 1 else 's'}:", cls="facts"))
        parts.append(_alignment(other, row))
    return tag("div", *parts)


def _alignment(scored: Rescored, row: int) -> Html:
    _, ref, hyp = scored.pairs[row]
    metric = scored.score.metric
    if not ref and not hyp:
        return tag("p", "empty reference, nothing recognised", cls="note")
    return aligned(align(tokenize(ref, metric), tokenize(hyp, metric)), metric)


def _head(scored: Rescored, row: int, other: Rescored | None) -> Html:
    fields, counts = scored.rows[row], scored.score.counts[row]
    rate = counts[:REF].sum() / counts[REF] if counts[REF] else None
    facts = [f"{scored.score.metric.upper()} {percent(rate)}{' %' if rate is not None else ''}"]
    facts.append(f"{counts[SUB]} sub · {counts[DEL]} del · {counts[INS]} ins")
    facts += [f"{fields['duration']:.1f} s"] if isinstance(fields.get("duration"), (int, float)) else []
    facts += [str(fields[key]) for key in ("speaker", "language") if fields.get(key)]
    chips = [tag("span", name, cls="chip warning") for name in scored.flags[row]]
    if other is not None and (change := int(scored.score.utterance_errors[row] - other.score.utterance_errors[row])):
        count = f"{abs(change):,} {'fewer' if change < 0 else 'more'}"
        chips.append(tag("span", count, cls=f"chip {'good' if change < 0 else 'error'}"))
    facts_line = tag("span", [[tag("bdi", fact), " · "] for fact in facts[:-1]], tag("bdi", facts[-1]), cls="facts")
    return tag("div", tag("bdi", fields["id"], cls="id"), facts_line, *chips, cls="top")


def _as_written(scored: Rescored, row: int) -> Html:
    fields = scored.rows[row]
    pairs = [("Reference", fields["ref"]), ("Recognised", fields["hyp"])]
    lines = [[tag("dt", name), tag("dd", text(each[: 20 * MOST_TOKENS] or "(nothing)"))] for name, each in pairs]
    return tag("details", tag("summary", "as written, before normalisation"), tag("dl", *lines))


def _marks(scored: Rescored, row: int, other: Rescored | None) -> dict[str, str]:
    """Return what the script finds and orders by."""
    counts, fields = scored.score.counts[row], scored.rows[row]
    errors = int(counts[:REF].sum())
    kinds = [name for name, column in (("sub", SUB), ("del", DEL), ("ins", INS)) if counts[column]]
    kinds += [f"flag-{name.replace(' ', '-')}" for name in scored.flags[row]]
    change = 0 if other is None else errors - int(other.score.utterance_errors[row])
    kinds += ["win"] if change < 0 else ["loss"] if change > 0 else []
    return {
        "data_kinds": " ".join(kinds),
        "data_errors": str(errors),
        "data_rate": f"{errors / max(int(counts[REF]), 1):.4f}",
        "data_seconds": str(fields.get("duration") or 0),
        "data_change": str(abs(change)),
    }


def _kind(pair: tuple[str | None, str | None]) -> str:
    ref, hyp = pair
    return "" if ref == hyp else "i" if ref is None else "d" if hyp is None else "s"


def _pair(kind: str, errors: Alignment) -> Html:
    """Stack the reference over what was recognised: a word, or neighbouring characters."""
    refs, hyps = ([token for token in side if token is not None] for side in zip(*errors, strict=True))
    upper = tag("del", *map(_visible, refs)) if refs else tag("span")
    lower = tag("ins", *map(_visible, hyps)) if hyps else tag("span")
    return tag("span", upper, lower, cls=f"pair {kind}")


def _visible(token: str) -> str:
    return "␣" if token == " " else token
