"""Command lines as documents print them: in Markdown, head comments of scripts and docstrings of programs; not run."""

import ast
import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SHELL_WORDS = {"do", "then", "else", "!", "exec", "sudo", "nice"}
OPERATORS = ("&&", "||", ";", "|", "&")


class Command(NamedTuple):
    """One command of a document."""

    place: str
    words: list[str]
    complete: bool
    """It stands in a block, to be copied; in running text it may be a part of one."""


def documents() -> list[Path]:
    """Return every document for people."""
    patterns = ("*.md", "docs/*.md", "egs/*/*.md", "egs/*/*/README.md", "benchmarks/*.md")
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def scripts() -> list[Path]:
    """Return every shell script, whose head comment is its help."""
    return sorted(path for pattern in ("*.sh", "local/*.sh", "egs/*/*.sh", "tests/*.sh") for path in ROOT.glob(pattern))


def programs() -> list[Path]:
    """Return every program of the package, whose module's docstring has the examples of its help."""
    return [
        path
        for path in sorted((ROOT / "egrecho_inner").glob("*.py"))
        if re.search(r"^    run\(\w+\)", path.read_text(), re.M)
    ]


def commands(path: Path) -> Iterator[Command]:
    """Find the commands in a document, in the head of a script or in the docstring of a program."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix == ".py":
        lines = (ast.get_docstring(ast.parse(path.read_text()), clean=False) or "").splitlines()
    elif path.suffix == ".sh":
        head = next(number for number, line in enumerate(lines) if number and not line.startswith("#"))
        lines = [line[1:].removeprefix(" ") for line in lines[:head]]
    text, fence = "\n".join(lines), ""
    for number, line in enumerate(joined(lines), 1):
        place = f"{path.relative_to(ROOT)}:{number}"
        if line.startswith("```"):
            fence = "" if fence else line
        elif fence == "```bash" or (not fence and re.match(r" {2,4}\S", line)):
            yield from (Command(place, words, True) for words in split(line))
    if path.suffix != ".sh":
        text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for span in re.findall(r"`([^`]+)`", text):
            yield from (Command(str(path.relative_to(ROOT)), words, False) for words in split(" ".join(span.split())))


def joined(lines: list[str]) -> Iterator[str]:
    """Join lines that end in a backslash; a line that went into another leaves an empty one."""
    held, empty = "", 0
    for line in lines:
        if line.endswith("\\"):
            held, empty = held + line[:-1], empty + 1
            continue
        yield held + line.lstrip() if held else line
        yield from [""] * empty
        held, empty = "", 0


def split(line: str) -> list[list[str]]:
    """Split a line of shell into its simple commands, without variables before and redirections after them."""
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        tokens = list(lexer)
    except ValueError:  # an apostrophe in prose
        return []
    found: list[list[str]] = [[]]
    skip = False
    for token in tokens:
        if token in OPERATORS:
            found.append([])
        elif set(token) <= set("<>&"):
            skip = True
        elif skip:
            skip = False
        elif found[-1] or not (token in SHELL_WORDS or re.fullmatch(r"[A-Z_]+=.*", token)):
            found[-1].append(token)
    return [words for words in found if words]


def program(module: str) -> Callable[..., Any]:
    """Return the function that a program of the package or a script of local/ runs."""
    path = ROOT / f"{module.replace('.', '/')}.py"
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    (name,) = {call.args[0].id for call in calls if getattr(call.func, "id", "") == "run" and call.args}
    return getattr(importlib.import_module(module), name)


def known_options(script: Path) -> set[str]:
    """Return the options of a shell script, by the rule of local/shell.sh."""
    head = re.split(r"^parse_options", script.read_text(), flags=re.MULTILINE)[0]
    return set(re.findall(r"^([a-z][a-z0-9_]*)=", head, re.MULTILINE))
