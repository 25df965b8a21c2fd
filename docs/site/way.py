#!/usr/bin/env python3
"""Draw the way of the data: docs/way.svg, the picture of the README and of the first page.

    python docs/site/way.py

In: the boxes below. Out: an SVG without fonts or scripts of its own, legible on light and dark pages.
"""

from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

PLACE = Path(__file__).resolve().parents[1] / "way.svg"
HEAD = "One command each; killed anywhere, it goes on where it was."
WIDTH, HEIGHT = 960, 300
STYLE = """
.ground { fill: #ffffff; }
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1b2b2b; }
.head { font-size: 15px; font-weight: 600; } .line { font-size: 12.5px; fill: #4a5c5c; }
.command { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 12px; fill: #00695c; }
.box { fill: #f3f8f8; stroke: #8fb3b0; stroke-width: 1.2; } .side { fill: #fffaf0; stroke: #c9b27c; }
.way { stroke: #5b8a86; stroke-width: 1.6; fill: none; } .head-of { fill: #5b8a86; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #141b1b; }
  text { fill: #e6efee; } .line { fill: #b4c6c4; } .command { fill: #7fd6c8; }
  .box { fill: #1c2a2a; stroke: #4f7773; } .side { fill: #2a2618; stroke: #8a7a4b; }
  .way { stroke: #7fa9a5; } .head-of { fill: #7fa9a5; }
}"""


class Box(NamedTuple):
    """A place of the data's way."""

    x: int
    y: int
    width: int
    head: str
    lines: tuple[str, ...]
    kind: str = "box"

    @property
    def height(self) -> int:
        """Pixels."""
        return 38 + 19 * len(self.lines)


TOP = 56
BOXES = (
    Box(
        16, TOP, 168, "Your recordings", ("wav.scp  text  utt2lang", "folders, hub sets, Shar", "subtitles of the web")
    ),
    Box(270, TOP, 168, "Cuts", ("JSON lines, one a cut", "log-mel, where stored", "a ledger of every skip")),
    Box(524, TOP, 168, "Run folder", ("config.yaml, log", "sealed checkpoints", "final/ for any program")),
    Box(778, TOP, 166, "Result", ("WER or CER, interval", "every error, aligned", "a page to listen to")),
    Box(270, 222, 168, "Teacher's text", ("label, filter, pack",), "side"),
    Box(524, 222, 168, "Adapter", ("LoRA, DoRA, AdaLoRA",), "side"),
    Box(778, 222, 166, "Other programs", ("CTranslate2, ONNX",), "side"),
)
STEPS = ((184, 270, "prepare.sh"), (438, 524, "train"), (692, 778, "eval"))


def draw() -> str:
    """Return the picture."""
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    parts += ["<title>The way of the data: recordings, cuts, run folder, result</title>", f"<style>{STYLE}</style>"]
    parts.append(f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="10"/>')
    for box in BOXES:
        parts.append(
            f'<rect class="box {box.kind}" x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="8"/>'
        )
        parts.append(f'<text class="head" x="{box.x + 14}" y="{box.y + 25}">{escape(box.head)}</text>')
        for number, line in enumerate(box.lines):
            place = f'x="{box.x + 14}" y="{box.y + 47 + 19 * number}"'
            parts.append(f'<text class="line" {place}>{escape(line)}</text>')
    middle = TOP + BOXES[0].height // 2
    for begin, end, name in STEPS:
        parts += arrow(begin + 5, middle, end - 5, middle)
        parts.append(
            f'<text class="command" x="{(begin + end) // 2}" y="{middle - 11}" text-anchor="middle">{name}</text>'
        )
    bottom = TOP + BOXES[1].height
    for box, name in zip(BOXES[4:], ("distil", "merge", "export"), strict=True):
        x = box.x + 60
        both = box.head != "Other programs"
        parts += arrow(x, bottom + 5, x, box.y - 5)
        parts += arrow(x + 30, box.y - 5, x + 30, bottom + 5) if both else []
        parts.append(
            f'<text class="command" x="{x + (40 if both else 12)}" y="{(bottom + box.y) // 2 + 4}">{name}</text>'
        )
    parts.append(f'<text class="line" x="16" y="30">{escape(HEAD)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def arrow(x: int, y: int, to_x: int, to_y: int) -> list[str]:
    """Return a line with a head, along an axis."""
    dx, dy = (to_x > x) - (to_x < x), (to_y > y) - (to_y < y)
    x_back, y_back = to_x - 8 * dx, to_y - 8 * dy
    tip = f"{to_x},{to_y} {x_back - 4 * dy},{y_back - 4 * dx} {x_back + 4 * dy},{y_back + 4 * dx}"
    line = f'<path class="way" d="M{x} {y} L{to_x - 6 * dx} {to_y - 6 * dy}"/>'
    return [line, f'<polygon class="head-of" points="{tip}"/>']


if __name__ == "__main__":
    PLACE.write_text(draw(), encoding="utf-8")
