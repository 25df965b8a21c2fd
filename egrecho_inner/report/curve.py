"""The curve of error rates over the weight of a tuned model: a table, a picture, the best weight.

In: rates by set and weight. Out: Markdown, an SVG, a number.
"""

from collections.abc import Mapping
from html import escape

Rates = Mapping[str, Mapping[float, float | None]]
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 320, 56, 40, 24
COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2")


def mean_rate(rates: Rates, weight: float) -> float | None:
    """Return the mean over the sets at one weight; None where a set has no rate."""
    found = [of_set[weight] for of_set in rates.values()]
    known = [rate for rate in found if rate is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None


def best_weight(rates: Rates) -> float:
    """Return the weight with the lowest mean over the sets; of equal ones the nearest to the base."""
    weights = sorted(next(iter(rates.values())))
    means = {weight: mean_rate(rates, weight) for weight in weights}
    return min(weights, key=lambda weight: (means[weight] is None, means[weight] or 0.0, weight))


def curve_table(rates: Rates) -> str:
    """Return a row for each weight, a column for each set, in per cent."""
    weights = sorted(next(iter(rates.values())))
    lines = ["| weight of the tuned model | " + " | ".join([*rates, "mean"]) + " |", "|---" * (len(rates) + 2) + "|"]
    for weight in weights:
        cells = [*(of_set[weight] for of_set in rates.values()), mean_rate(rates, weight)]
        lines.append(f"| {weight:g} | " + " | ".join("" if c is None else f"{100 * c:.2f}" for c in cells) + " |")
    return "\n".join(lines)


def curve_svg(rates: Rates, best: float) -> str:
    """Return the curves as a picture, the best weight marked."""
    known = [rate for of_set in rates.values() for rate in of_set.values() if rate is not None]
    top = max([*known, 1e-6])

    def place(weight: float, rate: float) -> tuple[float, float]:
        x = LEFT + weight * (WIDTH - LEFT - 150)
        return round(x, 1), round(HEIGHT - BOTTOM - rate / top * (HEIGHT - BOTTOM - TOP), 1)

    style = 'font-family="sans-serif" font-size="12"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {style}>']
    parts.append(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>')
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        (x, y), (_, level) = place(share, 0.0), place(0.0, share * top)
        parts.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{share:g}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{level + 4}" text-anchor="end">{100 * share * top:.1f}</text>')
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 150}" y1="{level}" y2="{level}" stroke="#ddd"/>')
    (x, low), (_, high) = place(best, 0.0), place(best, top)
    parts.append(f'<line x1="{x}" x2="{x}" y1="{low}" y2="{high}" stroke="#888" stroke-dasharray="4 3"/>')
    for number, (name, of_set) in enumerate(rates.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [place(weight, rate) for weight, rate in sorted(of_set.items()) if rate is not None]
        if not points:
            continue
        path = " ".join(f"{x},{y}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{points[-1][0] + 8}" y="{points[-1][1] + 4}" fill="{colour}">{escape(name)}</text>')
    parts.append(
        f'<text x="{LEFT}" y="{HEIGHT - 6}">weight of the tuned model; error rate in per cent; best {best:g}</text>'
    )
    return "\n".join([*parts, "</svg>\n"])
