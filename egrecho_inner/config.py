"""From a typed function to a command line: the signature is the options, the help and the YAML schema.

In: a function, `sys.argv`, YAML files. Out: the function called with typed values, or one line on stderr and an exit
code. `-c FILE` may be repeated; later files win over earlier ones and the command line wins over all files, wherever
it stands. Left out on purpose: class paths in YAML, `config:` inside a config (jsonargparse loses values there).
"""

import argparse
import contextlib
import dataclasses
import errno
import inspect
import json
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser

from egrecho_inner.config_help import help_text
from egrecho_inner.config_keys import (
    Given,
    Key,
    check_options,
    check_yaml,
    legal_keys,
    missing,
    read_yaml,
    rename_keys,
    rename_options,
)
from egrecho_inner.config_types import PositiveInt, accepts, checked, choices_of, describe
from egrecho_inner.errors import ConfigError, MachineError, UserError
from egrecho_inner.runtime import progress
from egrecho_inner.runtime.terminal import closable_stdout, setup_logging

SPARE_BYTES = 16 * 2**20
"""A file system with less left is full for our purposes."""
SINGLE = {str, int, PositiveInt}
"""A type that is a list or one of these takes a single word as it is."""
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)


def run(function: Callable[..., Any], argv: list[str] | None = None, prog: str | None = None) -> None:
    """Call a program with the arguments of its command line and leave with its exit code.

    Args:
        function: The program. An attribute `positional` may name required parameters that need no `--name`, and
            `command_line_only` those that name code to run, which no YAML file may give.
        argv: The arguments without the program's name; `sys.argv[1:]` if None.
        prog: The name to show in the help.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug, quiet = "--debug" in argv, "--quiet" in argv
    argv = [arg for arg in argv if arg not in ("--debug", "--quiet")]
    setup_logging(debug, quiet)
    try:
        with closable_stdout():
            function(**parse(function, argv, prog))
    except KeyboardInterrupt:
        progress.close()
        sys.exit(stopped())
    except Exception as error:
        progress.close()
        if debug:
            traceback.print_exc()
        message, code = explain(error)
        if first_to_know(code):
            print(f"error: {message}", file=sys.stderr)
        sys.exit(code)


def stopped() -> int:
    """Print the one line of a Ctrl-C and return its exit code; files that were not finished are not there."""
    print("stopped by Ctrl-C; the same command starts again, and goes on where it can", file=sys.stderr)
    return 130


def first_to_know(code: int) -> bool:
    """Note the exit code in the file that local/launch.py names; return whether no other process has done so.

    The processes that only see another one leave fail with a code of 1; what they would print is not the reason.
    """
    path = os.environ.get("EGRECHO_EXIT_FILE")
    if not path:
        return True
    if code == 1:
        return not os.path.exists(path)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(str(code))
    except FileExistsError:
        return False
    return True


def explain(error: Exception) -> tuple[str, int]:
    """Return the one-line message and the exit code that an exception deserves."""
    if isinstance(error, UserError):
        return str(error), error.exit_code
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        name = error.filename or " or ".join(full_folders()) or "a file that the error does not name"
        return f"{name}: {error.strerror}; free space or choose another folder, then repeat", MachineError.exit_code
    if os.strerror(errno.ENOSPC) in text:  # safetensors and torch have exceptions of their own for a full disk
        return f"{text}; free space or choose another folder, then repeat", MachineError.exit_code
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, not imported here
        return "out of memory; use fewer jobs or smaller batches, then repeat", MachineError.exit_code
    return f"{type(error).__name__}: {text}; this looks like a fault of ours, --debug shows where", 1


def full_folders() -> list[str]:
    """Return the folders of this command line, and the one for temporary files, that have no space left."""
    words = [word.split("=", 1)[-1] for word in sys.argv[1:]]
    found = {}
    for path in map(Path, [*words, tempfile.gettempdir(), "."]):
        with contextlib.suppress(OSError):  # not a path, or not there
            folder = path if path.is_dir() else path.parent
            if folder.is_dir() and shutil.disk_usage(folder).free < SPARE_BYTES:
                found[str(folder.resolve())] = None
    return list(found)


def parse(function: Callable[..., Any], argv: list[str], prog: str | None = None) -> dict[str, Any]:
    """Turn a command line into the keyword arguments of a function.

    Raises:
        ConfigError: An unknown key (with the nearest legal one), a value of a wrong type or outside its range, a
            missing value, a bad YAML file.
        SystemExit: The help was asked for, or the configuration (`--print_config`).
    """
    keys = legal_keys(function)
    argv = configs_first(argv)
    if "-h" in argv or "--help" in argv:
        print(help_text(function, keys, prog or Path(sys.argv[0]).name))
        sys.exit(0)
    files = config_files(argv)
    options = spell_out(function, place_positionals(function, argv[2 * len(files) :]))
    options = join_lists(rename_options(options, keys), keys)
    given = [each for path in files for each in check_yaml(path, keys)] + check_options(options, keys)
    for each in given:
        if each.place and each.key in getattr(function, "command_line_only", []) and each.value:
            raise ConfigError(f"{each.place}: {each.key} names code that is run; give it on the command line only")
    configs = [word for path in files if (text := config_text(path, keys)) for word in ("--config", text)]
    parser = build_parser(function)
    try:
        instantiated = vars(parser.instantiate(parser.parse_args(configs + options)))
        return {name: checked(name, instantiated[name], key.hint) for name, key in keys.items() if "." not in name}
    except (argparse.ArgumentError, ConfigError, ValueError) as error:  # ValueError around a ConfigError of a group
        raise ConfigError(reason(error, keys, given)) from error


def config_text(path: str, keys: dict[str, Key]) -> str | None:
    """Return what to give to jsonargparse for a YAML file: its path, its content where keys have former names.

    A file of comments only is None: it is a legal delta, which jsonargparse would refuse.
    """
    content = read_yaml(path)
    if content is None:
        return None
    renamed = rename_keys(content, keys)
    return path if list(renamed) == list(content) else to_yaml(renamed)


def build_parser(function: Callable[..., Any]) -> ArgumentParser:
    """Build the parser of a program from its signature."""
    parser = ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_argument("--config", action="config")
    # types, not names of types: to find out what a name means, jsonargparse runs the module's TYPE_CHECKING block,
    # and that imports torch
    function.__annotations__ = get_type_hints(function)
    parser.add_function_arguments(function, as_group=False)
    return parser


def reason(error: BaseException, keys: dict[str, Key], given: list[Given]) -> str:
    """Return why a command line was refused, in one line that begins with the place it comes from."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConfigError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        named = re.match(r"[\w.]+", str(cause))
        places = [each.place for each in given if named and each.key == named[0] and each.place]
        return f"{places[-1]}: {cause}" if places else str(cause)
    for each in reversed(given):
        key = keys[each.key]
        if key.kind == "value" and not accepts(key.hint, each.value):
            place = f"{each.place}: " if each.place else ""
            return f"{place}{each.key} is {str(each.value)!r}, expected {describe(key.hint)}"
    if absent := missing(keys, given):
        options = " ".join(f"--{name} VALUE" for name in absent)
        return f"missing {', '.join(absent)}; give {options}, or a file that has it to -c"
    message = " ".join(str(error).split())
    if words := re.search(r"unrecognized arguments: (.*)", message, re.IGNORECASE):
        return f"unexpected '{words[1]}'; options are --name VALUE, -h lists them"
    return message


def place_positionals(function: Callable[..., Any], argv: list[str]) -> list[str]:
    """Turn leading bare words into `--name word` for the parameters a program lists in `positional`.

    A parameter that is a list takes all the bare words that follow.
    """
    placed: list[str] = []
    rest = list(argv)
    parameters = inspect.signature(function).parameters
    for name in getattr(function, "positional", []):
        if not rest or is_option(rest[0]):
            break
        if "list[" in str(parameters[name].annotation):
            words = list(takewhile(lambda word: not is_option(word), rest))
            placed += [f"--{name}", *words]
            del rest[: len(words)]
        else:
            placed += [f"--{name}", rest.pop(0)]
    return placed + rest


def is_option(word: str) -> bool:
    """Tell whether a word is an option's name; - alone stands for standard input."""
    return word.startswith("-") and word != "-"


def spell_out(function: Callable[..., Any], argv: list[str]) -> list[str]:
    """Write `--max-skip-ratio` as `--max_skip_ratio`, and a bare flag such as `--json` as `--json true`."""
    flags = {
        f"--{name}" for name, p in inspect.signature(function).parameters.items() if p.annotation in (bool, "bool")
    }
    spelt: list[str] = []
    for word, following in zip(argv, [*argv[1:], "--"], strict=False):
        option, equals, value = word.partition("=")
        if option.startswith("--"):
            word = option.replace("-", "_").replace("__", "--", 1) + equals + value
        spelt.append(word)
        if word in flags and following.startswith("-"):
            spelt.append("true")
    return spelt


def join_lists(argv: list[str], keys: dict[str, Key]) -> list[str]:
    """Write `--cuts A B` as `--cuts '["A", "B"]'` where the option takes a list; `[A,B]` and `null` stay."""
    joined: list[str] = []
    rest = list(argv)
    while rest:
        joined.append(rest.pop(0))
        key = keys.get(joined[-1].removeprefix("--"))
        choices = choices_of(key.hint) if key and joined[-1].startswith("--") else ()
        kind = next((each for each in choices if get_origin(each) is list), None)
        words = list(takewhile(lambda word: not is_option(word), rest)) if kind else []
        del rest[: len(words)]
        if len(words) == 1 and (words[0].startswith(("[", "{")) or words[0] == "null" or len(set(choices) & SINGLE)):
            joined += words
        elif words:
            joined.append(json.dumps(words, ensure_ascii=False) if str in get_args(kind) else f"[{', '.join(words)}]")
    return joined


def configs_first(argv: list[str]) -> list[str]:
    """Move every `-c FILE`, however written, to the front, so that the command line wins wherever it stands."""
    configs: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word in ("-c", "--config"):
            configs += ["--config", next(words, "")]
        elif word.startswith("--config="):
            configs += ["--config", word.split("=", 1)[1]]
        elif word.startswith("-c"):
            configs += ["--config", word[2:].removeprefix("=")]
        else:
            rest.append(word)
    return configs + rest


def config_files(argv: list[str]) -> list[str]:
    """Return the YAML files a command line (configs first) names."""
    return [path for word, path in pairwise(argv) if word == "--config"]


class Dumper(yaml.SafeDumper):
    """Quote strings that YAML 1.2, and so jsonargparse, reads as numbers: 1e5 is one there, not in PyYAML's 1.1."""

    def quoted(self, text: str) -> yaml.ScalarNode:
        with contextlib.suppress(ValueError):
            float(text)
            return self.represent_scalar("tag:yaml.org,2002:str", text, style="'")
        return self.represent_str(text)


Dumper.add_representer(str, Dumper.quoted)


def to_yaml(values: Mapping[str, Any]) -> str:
    """Render the arguments of a program as the YAML that `-c` reads back."""
    return yaml.dump(plain(dict(values)), Dumper=Dumper, sort_keys=False, allow_unicode=True)


def plain(value: Any) -> Any:
    """Turn dataclasses, paths and tuples into what YAML and JSON know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
