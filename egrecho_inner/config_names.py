"""Values of the form NAME=PATH: which manifest or folder is meant, and under what name it is reported.

In: words of a command line or strings of YAML. Out: names and paths.
"""

from collections.abc import Sequence
from pathlib import Path

from egrecho_inner.errors import ConfigError


def manifest_name(path: str | Path) -> str:
    """Return a manifest's file name without its endings."""
    return Path(path).name.removesuffix(".gz").removesuffix(".jsonl")


def split_name(word: str) -> tuple[str, str] | None:
    """Split NAME=PATH; None where there is no name. An equals sign behind a slash belongs to the path."""
    name, sign, path = word.partition("=")
    return (name, path) if sign and "/" not in name else None


def parse_named(word: str, key: str, form: str = "NAME=PATH") -> tuple[str, str]:
    """Split NAME=PATH where the name is required.

    Args:
        word: What was given.
        key: The option, for the message.
        form: What was expected, for the message.

    Raises:
        ConfigError: Name or path is missing.
    """
    found = split_name(word)
    if found is None or not all(found):
        raise ConfigError(f"{key}: '{word}'; expected {form}")
    return found


def name_manifests(words: Sequence[str] | str, key: str = "cuts") -> dict[str, str]:
    """Return manifests by name: the one given as NAME=PATH, else that of the file.

    Args:
        words: One manifest or several.
        key: The option, for the message.

    Raises:
        ConfigError: There is no manifest, two have one name, or a name cannot be that of a folder.
    """
    found: dict[str, str] = {}
    for word in [words] if isinstance(words, str) else words:
        name, path = split_name(word) or (manifest_name(word), word)
        if not name or name.startswith("."):
            raise ConfigError(f"{key}: '{word}' gives no name for a folder; write NAME=PATH")
        if name in found:
            raise ConfigError(f"{key}: two sets are called {name}; write NAME=PATH to separate them")
        found[name] = path
    if not found:
        raise ConfigError(f"{key} is empty; give a manifest, or a list of them, each NAME=PATH or a file")
    return found
