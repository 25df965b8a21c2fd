"""The help of a program: every option it takes, each by the name, type and default that the command line knows.

In: a program and its keys. Out: text. jsonargparse's own help shows neither the options of groups that may be null nor
positional words, and lists some that are refused here.
"""

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import docstring_parser
import yaml

from egrecho_inner.config_keys import REQUIRED, Key
from egrecho_inner.config_types import describe

GENERAL = {
    "-c FILE": "YAML file with values; may be repeated, later wins, the command line wins over all files",
    "--print_config": "print the values as YAML that -c reads, and end",
    "--quiet": "no progress and no log lines but warnings and errors",
    "--debug": "show where an error comes from",
    "-h, --help": "show this and end",
}


def help_text(function: Callable[..., Any], keys: dict[str, Key], prog: str) -> str:
    """Return the help of a program."""
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    words = " ".join(name.upper() for name in getattr(function, "positional", []))
    parsed = docstring_parser.parse(function.__doc__ or "")
    explained = {each.arg_name: each.description or "" for each in parsed.params}
    lines = [f"usage: {prog} {words + ' ' if words else ''}[-c FILE] [--OPTION VALUE] ...", ""]
    lines += [*textwrap.wrap(parsed.short_description or "", width), ""]
    if parsed.long_description:
        lines += [*textwrap.wrap(" ".join(parsed.long_description.split()), width), ""]
    if examples := examples_of(function):
        lines += ["example:", *(f"  {line}" for line in examples), ""]
    plain = [name for name, key in keys.items() if "." not in name and key.kind == "value"]
    required = [name for name in plain if keys[name].default is REQUIRED]
    for head, names in (("required", required), ("options", [name for name in plain if name not in required])):
        if names:
            lines.append(f"{head}:")
            for name in names:
                lines += option(name, keys[name], explained.get(name, ""), width, getattr(function, "positional", []))
    for name, key in keys.items():
        if key.kind != "value":
            lines += group(name, key, keys, explained.get(name, ""), width)
    lines += ["", "always:"]
    lines += [f"  {name:16}{text}" for name, text in GENERAL.items()]
    return "\n".join(lines)


def examples_of(function: Callable[..., Any]) -> list[str]:
    """Return the command lines that stand, indented, in the docstring of a program's module."""
    text = sys.modules[function.__module__].__doc__ or ""
    return [line[4:] for line in text.splitlines() if line.startswith("    ")]


def group(name: str, key: Key, keys: dict[str, Key], text: str, width: int) -> Iterator[str]:
    """Yield the lines of a group of options."""
    kind = key.hint if key.kind == "group" else next(each for each in key.hint.__args__ if each is not type(None))
    documented = docstring_parser.parse_from_object(kind)
    explained = {each.arg_name: each.description or "" for each in documented.params}
    note = (
        "" if key.kind == "group" else " Off unless one of these is given." if key.default is None else " null is off."
    )
    yield ""
    yield from textwrap.wrap(f"{name}: {text or documented.short_description or ''}{note}", width)
    for each, inner in keys.items():
        if each.rpartition(".")[0] == name and inner.kind == "value":
            yield from option(each, inner, explained.get(each.rpartition(".")[2], ""), width)


def option(name: str, key: Key, text: str, width: int, words: list[str] | tuple[()] = ()) -> Iterator[str]:
    """Yield the lines of one option."""
    default = "" if key.default is REQUIRED else f", default {shown(key.default)}"
    place = f", or word {words.index(name) + 1} of the command" if name in words else ""
    yield f"  --{name}  {describe(key.hint)}{default}{place}"
    yield from textwrap.wrap(" ".join(text.split()), width, initial_indent=" " * 6, subsequent_indent=" " * 6)


def shown(value: Any) -> str:
    """Write a default as YAML does."""
    value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(value, default_flow_style=True, width=1000).split("\n")[0]
