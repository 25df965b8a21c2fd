"""The size of the code: files that one reads in a sitting, functions that fit a screen, nothing written twice.

`python tests/test_sizes.py` prints the figures.
"""

import ast
import re
import statistics
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "egrecho_inner"
MEDIAN, LONGEST, FUNCTION = 150, 330, 60  # lines
WINDOW, SHARE = 6, 0.01  # equal lines in a row; their share of all


def sources() -> dict[str, list[str]]:
    """Return the lines of every module."""
    return {
        str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8").splitlines()
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def functions() -> dict[str, int]:
    """Return the lines of every function, without signature and docstring: those of a program are its help."""
    found = {}
    for name, lines in sources().items():
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                found[f"{name}:{node.name}"] = body[-1].end_lineno - body[0].lineno + 1 if body else 0
    return found


def repeated() -> float:
    """Return the share of code lines that stand in six equal lines in a row, in two files or more.

    Blank lines, comments, imports and lone brackets do not count; white space is folded.
    """
    places: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    total = 0
    for name, lines in sources().items():
        kept = [" ".join(line.split()) for line in lines]
        kept = [line for line in kept if re.search(r"\w", line) and not line.startswith(("#", "import ", "from "))]
        total += len(kept)
        for at in range(len(kept) - WINDOW + 1):
            places[tuple(kept[at : at + WINDOW])].append((name, at))
    twice = {
        (name, at + line)
        for found in places.values()
        if len({name for name, _ in found}) > 1
        for name, at in found
        for line in range(WINDOW)
    }
    return len(twice) / total


def test_files_are_short() -> None:
    lengths = {name: len(lines) for name, lines in sources().items()}
    assert statistics.median(lengths.values()) <= MEDIAN
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}


def test_functions_fit_a_screen() -> None:
    assert {name: lines for name, lines in functions().items() if lines > FUNCTION} == {}


def test_nothing_is_written_twice() -> None:
    assert repeated() <= SHARE


if __name__ == "__main__":
    sizes = sorted(len(lines) for lines in sources().values())
    code = sum(bool(line.strip()) for lines in sources().values() for line in lines)
    print(
        f"{len(sizes)} files, median {statistics.median(sizes):g} lines, longest {sizes[-1]}; {code:,} lines not blank"
    )
    print(f"longest function {max(functions().values())} lines; {100 * repeated():.2f} % of the lines stand twice")
