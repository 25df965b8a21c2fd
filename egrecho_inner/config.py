"""From a typed function to a command line: the signature is the options, the help and the YAML schema.

In: a function, `sys.argv`, YAML files. Out: the function called with typed values, or one line on stderr and an exit
code. `-c FILE` may be repeated; later files win over earlier ones and the command line wins over all files, wherever
it stands. Left out on purpose: class paths in YAML, `config:` inside a config (jsonargparse loses values there).
"""

import argparse
import dataclasses
import difflib
import errno
import inspect
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings

from egrecho_inner.errors import ConfigError, MachineError, UserError

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def run(function: Callable[..., Any], argv: list[str] | None = None, prog: str | None = None) -> None:
    """Call a program with the arguments of its command line and leave with its exit code.

    Args:
        function: The program. An attribute `positional` may name required parameters that need no `--name`.
        argv: The arguments without the program's name; `sys.argv[1:]` if None.
        prog: The name to show in the help.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    argv = [arg for arg in argv if arg != "--debug"]
    talk(debug)
    try:
        function(**parse(function, argv, prog))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, code = explain(error)
        print(f"error: {message}", file=sys.stderr)
        sys.exit(code)


def talk(debug: bool) -> None:
    """Send our log lines to stderr, from the first process only, and keep the libraries' chatter out of them."""
    level = logging.DEBUG if debug else logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    ours = logging.getLogger("egrecho_inner")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(level)
    if not debug:
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|transformers|peft|accelerate|lhotse)\b")


def explain(error: Exception) -> tuple[str, int]:
    """Return the one-line message and the exit code that an exception deserves."""
    if isinstance(error, UserError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EFBIG,
    ):
        name = error.filename or "output"
        return f"{name}: {error.strerror}; free space or choose another folder, then repeat", MachineError.exit_code
    if isinstance(error, MemoryError):
        return "out of memory; use fewer jobs or smaller batches", MachineError.exit_code
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}; this looks like a fault of ours, --debug shows where", 1


def parse(function: Callable[..., Any], argv: list[str], prog: str | None = None) -> dict[str, Any]:
    """Turn a command line into the keyword arguments of a function.

    Raises:
        ConfigError: An unknown key (with the nearest legal one), a wrong type, a missing value, a bad YAML file.
    """
    parser = build_parser(function, prog)
    argv = configs_first(spell_out(function, place_positionals(function, argv)))
    for path in config_files(argv):
        check_yaml(path)
    try:
        values = parser.parse_args(argv)
        instantiated = parser.instantiate(values)
    except argparse.ArgumentError as error:
        raise ConfigError(improve(str(error), known_keys(parser))) from error
    arguments = {key: value for key, value in vars(instantiated).items() if key not in ("config", "print_config")}
    return arguments


def build_parser(function: Callable[..., Any], prog: str | None = None) -> ArgumentParser:
    """Build the parser of a program from its signature and docstring."""
    parser = ArgumentParser(prog=prog, description=summary(function), exit_on_error=False, default_env=False)
    parser.add_argument("-c", "--config", action="config", help="YAML file with values; may be repeated, later wins")
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
    parser.add_function_arguments(function, as_group=False)
    return parser


def summary(function: Callable[..., Any]) -> str:
    """Return the docstring up to its first section."""
    lines = (function.__doc__ or "").strip().splitlines()
    end = next((i for i, line in enumerate(lines) if line.strip() in ("Args:", "Raises:", "Returns:")), len(lines))
    return "\n".join(line.strip() for line in lines[:end]).strip()


def place_positionals(function: Callable[..., Any], argv: list[str]) -> list[str]:
    """Turn leading bare words into `--name word` for the parameters a program lists in `positional`."""
    placed: list[str] = []
    rest = list(argv)
    for name in getattr(function, "positional", []):
        if not rest or rest[0].startswith("-"):
            break
        placed += [f"--{name}", rest.pop(0)]
    return placed + rest


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


def configs_first(argv: list[str]) -> list[str]:
    """Move every `-c FILE` to the front, in order, so that the command line wins wherever it stands."""
    configs: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word in ("-c", "--config"):
            configs += [word, next(words, "")]
        elif word.startswith(("-c=", "--config=")):
            configs.append(word)
        else:
            rest.append(word)
    return configs + rest


def config_files(argv: list[str]) -> list[str]:
    """Return the YAML files a command line (configs first) names."""
    files = []
    for position, word in enumerate(argv):
        following = argv[position + 1] if position + 1 < len(argv) else ""
        if word in ("-c", "--config"):
            files.append(following)
        elif word.startswith(("-c=", "--config=")):
            files.append(word.split("=", 1)[1])
    return files


class UniqueKeyLoader(yaml.SafeLoader):
    """A safe YAML loader that refuses a key given twice: plain YAML keeps the last and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if str(key) in seen:
                raise ConfigError(
                    f"key '{key}' twice in {self.name}, lines {seen[str(key)]} and {line}; keep the one you mean"
                )
            seen[str(key)] = line
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file: safe tags only, no duplicate keys.

    Raises:
        ConfigError: The file is missing, not YAML, or names a key twice.
    """
    if not os.path.isfile(path):
        raise ConfigError(f"config file {path} does not exist; give an existing YAML file to -c")
    with open(path, encoding="utf-8") as stream:
        loader = UniqueKeyLoader(stream)
        loader.name = str(path)
        try:
            return loader.get_single_data()
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not plain YAML: {' '.join(str(error).split())}") from error
        finally:
            loader.dispose()


def check_yaml(path: str) -> None:
    """Refuse what jsonargparse would read wrongly in silence: duplicate keys and `config:` inside a config."""
    content = read_yaml(path)
    if content is None:
        return
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; expected `key: value` lines")
    if "config" in content:
        raise ConfigError(f"{path}: `config:` inside a config loses values; repeat -c on the command line instead")


def known_keys(parser: ArgumentParser) -> list[str]:
    """Return every option of a parser as a dotted key."""
    keys = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    return [key[2:].removesuffix("+") for key in keys]


def improve(message: str, keys: list[str]) -> str:
    """Name the nearest legal key in a message about an unknown one."""
    message = " ".join(message.split())
    found = re.search(
        r"(?:does not accept (?:option|nested key)|nrecognized arguments?:|Key) ['\"]?-*([\w.]+)", message
    )
    if found is None:
        return message
    wrong = found.group(1)
    group = re.search(r"Group ['\"]?([\w.]+)['\"]? does not accept", message)
    full = f"{group.group(1)}.{wrong}" if group and not wrong.startswith(group.group(1)) else wrong
    near = difflib.get_close_matches(full, keys, n=1, cutoff=0.5)
    if not near:
        near = [key for key in keys if difflib.SequenceMatcher(None, key.split(".")[-1], wrong).ratio() > 0.7][:1]
    hint = f"did you mean '{near[0]}'?" if near else f"legal are {', '.join(sorted(set(keys) - {'help'}))};"
    return f"unknown key '{full}'; {hint} -h explains them"


def to_yaml(values: dict[str, Any]) -> str:
    """Render the arguments of a program as the YAML that `-c` reads back."""
    return yaml.safe_dump(plain(values), sort_keys=False, allow_unicode=True)


def plain(value: Any) -> Any:
    """Turn dataclasses, paths and tuples into what YAML and JSON know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
