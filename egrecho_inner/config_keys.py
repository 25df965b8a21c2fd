"""What a YAML config and a command line may hold: the keys of a program, each once, checked before they are used.

In: a program's signature, YAML files, a command line. Out: the legal keys, what the user gives for them, and where it
stands, for messages that name file and line. jsonargparse alone keeps the last of two equal keys, and names no line.
"""

import dataclasses
import difflib
import inspect
import os
from collections.abc import Callable, Hashable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import yaml

from egrecho_inner.errors import ConfigError

Kind = Literal["value", "group", "group or null"]
REQUIRED = inspect.Parameter.empty
FORMER = {"model_path": "model", "outdir": "out"}
"""Other names of options that every program takes: those of the specification, and of configurations of old runs."""


class Key(NamedTuple):
    """A key of a program."""

    kind: Kind
    hint: Any
    """Its type."""
    default: Any
    """REQUIRED where there is none."""


class Given(NamedTuple):
    """A value that a user gave."""

    key: str
    value: Any
    """A string from the command line, anything from YAML."""
    place: str = ""
    """`FILE:LINE` of a YAML file."""


def legal_keys(owner: Callable[..., Any], prefix: str = "", values: Any = None) -> dict[str, Key]:
    """Return every key of a program, dotted: values, groups of further keys, and groups that may be null.

    Args:
        owner: A program, or a group of options.
        prefix: What the keys begin with.
        values: A group as the program gives it by default; its own defaults if None.
    """
    hints = get_type_hints(owner)
    keys: dict[str, Key] = {}
    for name, default in defaults_of(owner).items():
        hint = hints[name]
        default = default if values is None else getattr(values, name)
        choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        groups = [choice for choice in choices if dataclasses.is_dataclass(choice)]
        kind: Kind = "value" if not groups else "group" if len(choices) == 1 else "group or null"
        keys[prefix + name] = Key(kind, hint, default)
        for group in groups:
            keys |= legal_keys(group, f"{prefix}{name}.", default if isinstance(default, group) else None)
    return keys


def defaults_of(owner: Callable[..., Any]) -> dict[str, Any]:
    """Return the default of each parameter or field, REQUIRED where there is none."""
    if not dataclasses.is_dataclass(owner):
        return {name: parameter.default for name, parameter in inspect.signature(owner).parameters.items()}
    found = {}
    for field in dataclasses.fields(owner):
        made = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        found[field.name] = REQUIRED if made is dataclasses.MISSING else made
    return found


def current_name(name: str, keys: dict[str, Key]) -> str:
    """Return the legal key that a name stands for, or the name where there is none.

    A group with a path takes its path for all of it: `--model X` is `--model.path X` where the model has options.
    """
    name = name if name in keys else FORMER.get(name, name)
    return f"{name}.path" if name in keys and keys[name].kind != "value" and f"{name}.path" in keys else name


def rename_options(argv: list[str], keys: dict[str, Key]) -> list[str]:
    """Write the options of a command line by their current names; a group that is given as a mapping stays one."""
    renamed = []
    for word, following in zip(argv, [*argv[1:], ""], strict=False):
        option, equals, value = word.partition("=")
        name = option.removeprefix("--")
        given = (value if equals else following).strip()
        mapping = given.startswith("{") or given == "null"
        if option.startswith("--") and not (name in keys and mapping):
            word = f"--{current_name(name, keys)}{equals}{value}"
        renamed.append(word)
    return renamed


def rename_keys(content: Any, keys: dict[str, Key]) -> Any:
    """Write the top keys of a YAML file's content by their current names."""
    if not isinstance(content, dict):
        return content
    return {FORMER.get(name, name) if name not in keys else name: value for name, value in content.items()}


def check_yaml(path: str, keys: dict[str, Key]) -> list[Given]:
    """Return what a YAML file gives, and refuse what jsonargparse would read wrongly in silence."""
    content = read_yaml(path)
    if content is None:
        return []
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; expected `key: value` lines")
    if "config" in content:
        raise ConfigError(f"{path}: `config:` inside a config loses values; repeat -c on the command line instead")
    given: dict[str, Given] = {}

    def walk(node: yaml.MappingNode, content: dict[str, Any], prefix: str) -> None:
        for key_node, value in node.value:
            place = f"{path}:{key_node.start_mark.line + 1}"
            name = f"{prefix}{key_node.value}"
            name = FORMER.get(name, name) if name not in keys else name
            if name not in keys:
                raise ConfigError(f"{place}: {unknown(name, keys)}")
            if name in given:
                earlier = given[name].place
                raise ConfigError(f"key '{name}' twice in {path}, at {earlier} and {place}; keep the one you mean")
            given[name] = Given(name, content[key_node.value], place)
            if keys[name].kind == "value":
                continue
            if isinstance(value, yaml.MappingNode):
                walk(value, content[key_node.value], f"{name}.")
            elif keys[name].kind == "group" or content[key_node.value] is not None:
                raise ConfigError(f"{place}: {name} is a group; expected indented `key: value` lines below it")

    walk(yaml.compose(Path(path).read_text(encoding="utf-8"), yaml.SafeLoader), content, "")
    return list(given.values())


def check_options(argv: list[str], keys: dict[str, Key]) -> list[Given]:
    """Return what a command line without its configs gives; refuse unknown options, and files as values of groups."""
    given: list[Given] = []
    for word, following in zip(argv, [*argv[1:], None], strict=False):
        if not word.startswith("--"):
            continue
        option, equals, value = word[2:].partition("=")
        name = option.removesuffix("+")  # --freeze+ encoder adds to a list
        if name not in keys and name != "print_config":
            raise ConfigError(unknown(name, keys))
        value = value if equals else following
        if value is None or (value.startswith("--") and not equals):
            continue
        if name in keys and keys[name].kind != "value" and not value.strip().startswith("{") and value != "null":
            raise ConfigError(f"--{name} is a group of options; write --{name}.KEY VALUE, or give a file to -c")
        if name in keys and keys[name].kind != "value":
            given += spread(name, value, keys)
        elif name in keys:
            added = option != name and not value.startswith("[")
            given.append(Given(name, f"[{value}]" if added else value))
    return given


def spread(name: str, value: str, keys: dict[str, Key]) -> list[Given]:
    """Return what `--GROUP '{KEY: VALUE}'` gives, by keys."""
    try:
        content = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--{name} is not plain YAML: {' '.join(str(error).split())}") from error
    given: list[Given] = []
    for key, inner in content.items() if isinstance(content, dict) else ():
        key = f"{name}.{key}"
        if key not in keys:
            raise ConfigError(unknown(key, keys))
        nested = keys[key].kind != "value" and isinstance(inner, dict)
        given += spread(key, yaml.safe_dump(inner), keys) if nested else [Given(key, inner)]
    return given


def missing(keys: dict[str, Key], given: list[Given]) -> list[str]:
    """Return the required keys that nobody gives; those of a group that may be null, if anything of it is given."""
    names = {each.key for each in given}
    needed = []
    for name, key in keys.items():
        outer = [each for each in keys if name.startswith(f"{each}.") and keys[each].kind == "group or null"]
        asked = all(each in names or any(one.startswith(f"{each}.") for one in names) for each in outer)
        if key.default is REQUIRED and key.kind == "value" and asked and name not in names:
            needed.append(name)
    return needed


def unknown(wrong: str, keys: dict[str, Key]) -> str:
    """Return the message about an unknown key, with the nearest legal one: in its group, or by its last part."""
    group, _, last = wrong.rpartition(".")
    if group in keys:
        candidates = {key[len(group) + 1 :]: key for key in keys if key.startswith(f"{group}.")}
        near = difflib.get_close_matches(last, candidates, n=1, cutoff=0.5)
    else:
        candidates = {key.split(".")[-1]: key for key in reversed(keys)} | {key: key for key in keys}
        near = difflib.get_close_matches(wrong, keys, n=1) or difflib.get_close_matches(last, candidates, n=1)
    legal = [key for key in candidates.values() if key.rpartition(".")[0] == (group if group in keys else "")]
    hint = f"did you mean '{candidates[near[0]]}'?" if near else f"legal are {', '.join(sorted(set(legal)))};"
    return f"unknown key '{wrong}'; {hint} -h explains them"


class UniqueKeyLoader(yaml.SafeLoader):
    """A safe YAML loader that refuses a key given twice: plain YAML keeps the last without a word."""

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
        raise ConfigError(f"config file '{path}' does not exist; give an existing YAML file to -c")
    try:
        loader = UniqueKeyLoader(Path(path).read_text(encoding="utf-8"))
        loader.name = str(path)
        return loader.get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not plain YAML: {' '.join(str(error).split())}") from error
