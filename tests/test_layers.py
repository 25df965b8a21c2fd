"""The house of docs/architecture.md, kept by reading the imports: they only go down, and no name hides another."""

import ast
import importlib.metadata
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "egrecho_inner"
FLOORS = {
    "errors": 0,
    "__init__": 0,
    "runtime": 1,
    "text": 2,
    "config_keys": 1,
    "config_names": 1,
    "config_types": 1,
    "config_help": 2,
    "config": 3,
    "data": 4,
    "model": 4,
    "results": 5,
    "report": 6,
    "decoding": 6,
    "serve": 7,
    "training": 7,
    "program": 8,
    "cli": 9,
}
LIGHT = {*sys.stdlib_module_names, "egrecho_inner"}


def part_of(module: str) -> str:
    """Return the part of the house that `egrecho_inner.x.y` belongs to."""
    names = module.split(".")
    if len(names) == 1:
        return "__init__"
    return names[1] if names[1] in FLOORS else "program"


def imports_of(tree: ast.AST) -> list[tuple[int, str]]:
    """Return line and absolute name of every import, wherever it stands."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            deeper = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(node.lineno, name) for name in [*filter(is_module, deeper)] or [node.module]]
    return found


def is_module(name: str) -> bool:
    """Tell whether a dotted name is a module or package of ours, rather than something inside one."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def faults(module: str, source: str) -> list[str]:
    """Return every import of ours that does not go down."""
    here, wrong = part_of(module), []
    for line, name in imports_of(ast.parse(source)):
        if not name.startswith("egrecho_inner"):
            continue
        there = part_of(name)
        below = FLOORS[there] < FLOORS[here] or (there == here and here != "program")
        if not below:
            wrong.append(f"{module}:{line}: {here} imports {there} ({name})")
    return wrong


def modules() -> list[tuple[str, str]]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return [
        (".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"), p.read_text())
        for p in paths
    ]


def test_imports_only_go_down() -> None:
    assert [fault for name, source in modules() for fault in faults(name, source)] == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("egrecho_inner.data.cuts.make", "from egrecho_inner.model.whisper import Whisper"),
        ("egrecho_inner.model.whisper", "import egrecho_inner.data.audio.load"),
        ("egrecho_inner.text.labels", "from egrecho_inner.config import run"),
        ("egrecho_inner.full", "from egrecho_inner import lora"),
        ("egrecho_inner.model.whisper", "from egrecho_inner import data"),
        ("egrecho_inner.decoding.transcribe", "def f():\n    from egrecho_inner.training.fit import fit"),
        ("egrecho_inner.errors", "from egrecho_inner.config import run"),
        ("egrecho_inner.runtime.files", "from egrecho_inner.text.labels import Labels"),
        ("egrecho_inner.training.fit", "from egrecho_inner.evaluation import evaluate"),
    ],
)
def test_the_reader_sees_an_import_that_goes_up_or_aside(module: str, line: str) -> None:
    assert len(faults(module, line)) == 1


def test_the_cli_imports_nothing_heavy_before_a_program_is_chosen() -> None:
    tree = ast.parse((PACKAGE / "cli.py").read_text())
    heavy = [
        name for node in tree.body for _, name in imports_of(node) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert {name.split(".")[0] for name in heavy} <= LIGHT
    assert {name.split(".")[0] for _, name in imports_of(ast.parse((PACKAGE / "__init__.py").read_text()))} <= LIGHT


def test_no_name_of_ours_hides_a_standard_or_installed_module() -> None:
    # `python egrecho_inner/full.py` puts that folder first on sys.path: a config.py there would be anyone's `config`
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    assert names & taken == set()


def test_test_files_have_names_of_their_own() -> None:
    # pytest imports them by their base names: of two that are equal only one is collected
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_no_class_name_has_two_meanings() -> None:
    homes: dict[str, list[str]] = {}
    for module, source in modules():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(module)
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}
