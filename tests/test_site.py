"""The documentation site: built strictly, without a network, with a page for every command; what it quotes is there."""

import ast
import html
import importlib.util
import logging
import os
import re
from itertools import chain
from pathlib import Path

import pytest
from needs import extra

from egrecho_inner.cli import COMMANDS
from egrecho_inner.config_keys import legal_keys

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "egrecho_inner"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `mkdocs build --strict` makes it."""
    os.environ["NO_MKDOCS_2_WARNING"] = "1"
    extra("docs", "material")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    place = tmp_path_factory.mktemp("site")
    logged: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(record.getMessage())

    handler = Collector(logging.WARNING)
    logging.getLogger("mkdocs").addHandler(handler)
    try:
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(place), strict=False))
    finally:
        logging.getLogger("mkdocs").removeHandler(handler)
    assert not logged, "\n".join(logged)
    return place


def test_every_command_has_a_page_with_all_its_options(site: Path) -> None:
    for name in COMMANDS:
        text = html.unescape((site / "commands" / f"{name}.html").read_text(encoding="utf-8"))
        module, function = COMMANDS[name][0].split(":")
        keys = legal_keys(getattr(importlib.import_module(module), function))
        shown = set(re.findall(r"<td><code>--([\w.]+)</code></td>", text))
        assert shown == {key for key, each in keys.items() if each.kind == "value"}, name


def test_recipes_and_exit_codes_are_pages(site: Path) -> None:
    assert {path.parent.name for path in ROOT.glob("egs/*/README.md")} <= {
        path.stem for path in (site / "recipes").glob("*.html")
    }
    text = (site / "troubleshooting.html").read_text(encoding="utf-8")
    assert all(f"<td>{code}</td>" in text for code in (0, 1, 2, 3, 4, 5, 75, 130))
    assert "<!-- exit codes -->" not in text


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Fonts, scripts, pictures and styles are the site's own: it works offline."""
    pages = [*site.rglob("*.html")]
    assert len(pages) > 40
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|iframe|source)[^>]*\ssrc="(?:https?:)?//[^"]+', text)
        fetched += re.findall(r'<link[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href="(?:https?:)?//[^"]+', text)
        assert not fetched, (page, fetched)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def constants() -> list[str]:
    """Return the texts of the package, those with places in them as the parts around the places."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("…".join(part.value if isinstance(part, ast.Constant) else "" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_every_quoted_message_is_one_of_the_programs() -> None:
    text, whole = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8"), "\n".join(constants())
    quoted = [each.strip("` ") for each in re.findall(r"^### (.+)$", text, re.M)]
    assert len(quoted) > 25
    absent = [part for each in quoted for part in re.split("…", each) if part.strip("'\" ?;") and part not in whole]
    assert not absent, absent


def test_every_option_of_the_tables_is_one() -> None:
    """In `docs/from_other_recipes.md`, right column, and in tables of options elsewhere."""
    programs = chain.from_iterable(
        legal_keys(getattr(importlib.import_module(place.split(":")[0]), place.split(":")[1]))
        for place, _ in COMMANDS.values()
    )
    known = {key for each in programs for key in (each, each.rpartition(".")[2])}
    known |= {"standalone", "nproc_per_node", "nproc", "is_lora", "model_name"}  # of torchrun and finetune.sh
    rows = (ROOT / "docs/from_other_recipes.md").read_text(encoding="utf-8").splitlines()
    options = {
        option for row in rows if row.startswith("| ") for option in re.findall(r"--([\w.]+)", row.split("|")[2])
    }
    assert len(options) > 30 and options <= known, options - known


def test_the_picture_is_the_scripts() -> None:
    spec = importlib.util.spec_from_file_location("way", ROOT / "docs/site/way.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs/way.svg").read_text(encoding="utf-8") == module.draw()
