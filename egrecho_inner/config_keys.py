"""What a YAML config may hold: the keys of a program, each once, checked before anything is built from them.

In: a program's signature, YAML files. Out: the legal keys, and where each key of a file stands, for messages that name
file and line. jsonargparse alone keeps the last of two equal keys, and names no line.
"""

import dataclasses
import difflib
import inspect
import os
from collections.abc import Callable, Hashable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from egrecho_inner.errors import ConfigError

Kind = Literal["value", "group", "group or null"]


def legal_keys(owner: Callable[..., Any], prefix: str = "") -> dict[str, Kind]:
    """Return every key of a program, dotted: values, groups of further keys, and groups that may be null."""
    hints = get_type_hints(owner)
    dataclass = dataclasses.is_dataclass(owner)
    parameters = dataclasses.fields(owner) if dataclass else inspect.signature(owner).parameters.values()
    keys: dict[str, Kind] = {}
    for name in (parameter.name for parameter in parameters):
        hint = hints[name]
        choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        groups = [choice for choice in choices if dataclasses.is_dataclass(choice)]
        keys[prefix + name] = "value" if not groups else "group" if len(choices) == 1 else "group or null"
        for group in groups:
            keys |= legal_keys(group, f"{prefix}{name}.")
    return keys


def check_yaml(path: str, keys: dict[str, Kind]) -> dict[str, str]:
    """Refuse what jsonargparse would read wrongly in silence or name without its line.

    Returns:
        `FILE:LINE` of every KEY in the file, and of every KEY=VALUE: an earlier file's value may be the wrong one.
    """
    content = read_yaml(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; expected `key: value` lines")
    if "config" in content:
        raise ConfigError(f"{path}: `config:` inside a config loses values; repeat -c on the command line instead")
    places: dict[str, str] = {}

    def walk(node: yaml.MappingNode, prefix: str) -> None:
        for key_node, value in node.value:
            name, place = f"{prefix}{key_node.value}", f"{path}:{key_node.start_mark.line + 1}"
            if name not in keys:
                raise ConfigError(f"{place}: {unknown(name, keys)}")
            if name in places:
                raise ConfigError(f"key '{name}' twice in {path}, at {places[name]} and {place}; keep the one you mean")
            places[name] = places[f"{name}={value.value}"] = place
            if keys[name] == "value":
                continue
            if isinstance(value, yaml.MappingNode):
                walk(value, f"{name}.")
            elif keys[name] == "group" or value.value not in ("", "~", "null"):
                raise ConfigError(f"{place}: {name} is a group; expected indented `key: value` lines below it")

    walk(yaml.compose(Path(path).read_text(encoding="utf-8"), yaml.SafeLoader), "")
    return places


def unknown(wrong: str, keys: dict[str, Kind]) -> str:
    """Say that a key is unknown, and which legal one is nearest: in its group, as a whole, or in its last part."""
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
        raise ConfigError(f"config file '{path}' does not exist; give an existing YAML file to -c")
    try:
        loader = UniqueKeyLoader(Path(path).read_text(encoding="utf-8"))
        loader.name = str(path)
        return loader.get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not plain YAML: {' '.join(str(error).split())}") from error
