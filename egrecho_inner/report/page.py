"""The skeleton of a report: one HTML file that works from a disk, in light and dark, on a phone, without a network.

In: a title, a body of `Html`. Out: the file's text. Everything is escaped because of how it is made: `tag` escapes each
child and attribute that is not `Html` itself, so a `<script>` in a transcript stays text. A content security policy
lets the browser run the page's own script and load nothing from anywhere, should something slip through all the same.
"""

import base64
import hashlib
import html
import importlib.resources
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from egrecho_inner import __version__
from egrecho_inner.report.clips import Clip
from egrecho_inner.runtime.files import write_text

# Control characters have no place in HTML; a lone half of a surrogate pair cannot be written as UTF-8.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_VOID = {"meta", "input", "br"}


class Html(str):
    """Text that is HTML already."""


Child = str | int | float | None | Iterable["Child"]


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """Make an element; children that are not `Html` are escaped.

    Args:
        name: Of the element.
        children: Texts, numbers, elements, or lists of these; None is nothing.
        attributes: `cls` is `class`, `_` in a name is `-`; None and False leave one out, True gives it no value.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    return Html(f"<{name}{written}>" if name in _VOID else f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Html:
    """Put children one after the other."""
    return Html("".join(map(_written, children)))


def escape(text: str) -> Html:
    """Escape a text for element content and quoted attributes."""
    return Html(html.escape(_FORBIDDEN.sub("\ufffd", text), quote=True))


def text(content: str, cls: str | None = None) -> Html:
    """Show a text of the user's, in the direction of its own script."""
    return tag("span", content, dir="auto", cls=cls)


def section(title: str, *children: Child, note: str = "", anchor: str | None = None) -> Html:
    """Make a part of the page with its heading."""
    about = tag("p", note, cls="note") if note else None
    return tag("section", tag("h2", title), about, *children, id=anchor)


def tiles(figures: Sequence[tuple[str, Child, Child]]) -> Html:
    """Make the row of large figures: (name, figure, what it stands on)."""
    cells = [
        tag("div", tag("div", name, cls="name"), tag("div", figure, cls="figure"), tag("div", about, cls="about"))
        for name, figure, about in figures
    ]
    return tag("div", *cells, cls="tiles")


def table(head: Sequence[str], rows: Iterable[Sequence[Child]], numbers: Sequence[int] = (), cls: str = "") -> Html:
    """Make a table; it scrolls by itself where the screen is narrow.

    Args:
        head: Of the columns.
        rows: Cells.
        numbers: Columns of numbers, which stand on the right.
        cls: Class of the table.
    """
    kinds = ["num" if column in numbers else None for column in range(len(head))]
    top = tag("tr", *(tag("th", name, cls=kind, scope="col") for name, kind in zip(head, kinds, strict=True)))
    body = [tag("tr", *(tag("td", cell, cls=kind) for cell, kind in zip(row, kinds, strict=True))) for row in rows]
    return tag("div", tag("table", tag("thead", top), tag("tbody", *body), cls=cls or None), cls="scroll")


def player(clip: Clip | None, missing: str = "") -> Html | None:
    """Make an audio player that holds its sound itself."""
    if clip is None:
        return tag("span", missing, cls="about") if missing else None
    source = f"data:{clip.mime};base64,{base64.b64encode(clip.data).decode()}"
    rest = tag("span", f"first {clip.seconds:.0f} s", cls="about") if clip.cut_off else None
    return tag("div", tag("audio", controls=True, preload="none", src=source), rest, cls="player")


def page(title: str, subtitle: Child, *body: Child, script: str = "", window: str = "") -> Html:
    """Make the whole document.

    Args:
        title: Of the page.
        subtitle: What it is about, under the title.
        body: Sections.
        script: JavaScript of ours, put in as it is; never from data.
        window: What tells this page from others of its kind; in the window's title, it stands before the page's.
    """
    # the policy lets exactly this script run; </script> inside would end it
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; script-src 'sha256-{digest}'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy + "; base-uri 'none'; form-action 'none'"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{window} · {title}" if window else title),
        tag("style", Html(read_part("page.css"))),
    )
    header = tag("header", tag("h1", title), tag("p", subtitle, cls="note"))
    footer = tag("footer", f"egrecho {__version__} · one file, nothing is loaded from anywhere")
    end = tag("script", Html(script)) if script else None
    content = tag("html", head, tag("body", tag("main", header, *body, footer), end), lang="en")
    return Html(f"<!doctype html>\n{content}\n")


def write_page(path: str | Path, content: Html) -> None:
    """Write a page, replacing an old one only when complete."""
    write_text(path, content)


def read_part(name: str) -> str:
    """Read a style sheet or script that lies beside this module."""
    return importlib.resources.files("egrecho_inner.report").joinpath(name).read_text(encoding="utf-8")


def _written(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return escape(child)
    return str(child) if isinstance(child, (int, float)) else join(child)


def _attribute(name: str, value: str | int | float | bool) -> str:
    name = "class" if name == "cls" else name.replace("_", "-")
    if value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
