"""Promises about the tree: no symlinks, YAML that parses, Python and weights only where they belong."""

import os
import subprocess
from collections.abc import Hashable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIG_ROOTS = ("config", "egs", ".github")


def tracked(*patterns: str) -> list[Path]:
    """Return the files git knows or would add, or all of them outside a git checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]
    return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses what plain YAML overwrites in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{node.start_mark}: twice: {twice}"
        return super().construct_mapping(node, deep)


def yaml_files() -> list[Path]:
    return sorted(path for path in tracked() if path.suffix in (".yaml", ".yml"))


@pytest.mark.parametrize("path", yaml_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_yaml_parses_without_duplicate_keys(path):
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    if path.relative_to(ROOT).parts[0] in ("config", "egs"):
        assert content is None or isinstance(content, dict), "a config is a mapping"
        assert "config" not in (content or {}), "a config: key inside a config silently loses values"


def test_no_symlinks():
    assert [str(path) for path in tracked() if path.is_symlink()] == []


def test_python_in_egs_lives_in_local():
    strays = [path for path in tracked("egs") if path.suffix == ".py" and path.parent.name != "local"]
    assert strays == []


def test_scripts_are_strict_and_explain_themselves():
    for path in tracked("*.sh"):
        text = path.read_text(encoding="utf-8")
        if "shellcheck shell=bash" in text.splitlines()[0]:  # sourced, never run
            continue
        assert text.startswith("#!/usr/bin/env bash\n#"), f"{path}: shebang, then the head comment that is --help"
        assert "set -euo pipefail" in text, path
        if '/path.sh"\n' in text:  # sourcing it leaves the folder; all paths are from the root
            assert '/path.sh"\ncd "$EGRECHO_ROOT"\n' in text, path


def test_what_begins_with_a_shebang_can_be_run():
    listed = [path for path in tracked() if path.suffix in ("", ".sh", ".py") and path.read_bytes()[:2] == b"#!"]
    assert len(listed) > 20
    assert [str(path.relative_to(ROOT)) for path in listed if not os.access(path, os.X_OK)] == []


def test_the_repository_stays_small():
    big = [(path.name, path.stat().st_size) for path in tracked() if path.stat().st_size > 8_500_000]
    assert big == [], "weights of a nano model are at most 8 MB; data and other models stay out"
