"""What tests of HTML pages need: a hostile text, a parser, and the assertion that a page is inert."""

from html.parser import HTMLParser

HOSTILE = """<script>alert(1)</script></script><img src=x onerror=alert(1)>" onmouseover="alert(1)' &amp; \x00\x1b"""


class Outline(HTMLParser):
    """Every element with its attributes, and the text, as a browser would see them."""

    def __init__(self, content: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(content)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))
        if name not in ("meta", "input"):
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def check_inert(content: str, scripts: int) -> Outline:
    """Assert that nothing of the data became markup and nothing is loaded from anywhere."""
    outline = Outline(content)
    assert outline.open == []
    names = [name for name, _ in outline.elements]
    assert names.count("script") == scripts and "img" not in names and "link" not in names
    for _, attributes in outline.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:audio/"))
    assert "@import" not in content and "url(" not in content
    return outline
