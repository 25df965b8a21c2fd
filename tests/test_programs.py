"""Every program: each option that `-h` lists is accepted, each number has a range, and what is outside is refused."""

import importlib
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest

from egrecho_inner.config import parse, run
from egrecho_inner.config_keys import REQUIRED, Key, legal_keys
from egrecho_inner.config_types import RANGES, Options, fits
from egrecho_inner.errors import ConfigError

PACKAGE = Path(__file__).resolve().parents[1] / "egrecho_inner"
RUN = re.compile(r"^    run\((\w+)\)", re.M)
PROGRAMS = {path.stem: found[1] for path in sorted(PACKAGE.glob("*.py")) if (found := RUN.search(path.read_text()))}
ANY_NUMBER = {"length_penalty", "snr", "decibels", "weights"}
"""Numbers that may be anything finite."""
PLAUSIBLE = {
    "language": "en",
    "languages": "[en]",
    "template": "{audio} text:",
    "conditions": "[{tag: word, equals: word}]",
    "factors": "[0.9, 1.1]",
    "snr": "[5, 10]",
    "decibels": "[-6, 6]",
    "folds": "5",
    "curve": "[0.5]",
    "learning_rate": "0.1",
    "max_duration": "30",
    "save_steps": "1",
}
APART = {"batch.batch_size": ["--batch.max_duration", "null"]}
"""Options that exclude others, and what they want with them."""


@cache
def program(name: str) -> Callable[..., None]:
    return getattr(importlib.import_module(f"egrecho_inner.{name}"), PROGRAMS[name])


def choices(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def plausible(name: str, hint: Any) -> str:
    """Return a value that a type takes."""
    first, inner = choices(hint)[0], get_args(choices(hint)[0])
    if name.rpartition(".")[2] in PLAUSIBLE:
        return PLAUSIBLE[name.rpartition(".")[2]]
    if first in RANGES:
        return str(next(number for number in (1, 0.1, 0, -4) if fits(number, first)))
    if get_origin(first) is Literal:
        return str(inner[0])
    if get_origin(first) is dict:
        return f"{{name: {plausible('', inner[1])}}}"
    if get_origin(first) in (list, tuple):
        count = len(inner) if get_origin(first) is tuple and ... not in inner else 1
        return f"[{', '.join([plausible('', inner[0])] * count)}]"
    return {bool: "true", int: "1", float: "0.5", str: "word"}[first]


def required(keys: dict[str, Key]) -> list[str]:
    """Return the options that a program wants, groups that may be null apart."""
    optional = tuple(f"{name}." for name, key in keys.items() if key.kind == "group or null")
    wanted = [name for name, key in keys.items() if key.default is REQUIRED and key.kind == "value"]
    return [word for name in wanted if not name.startswith(optional) for word in given(name, keys)]


def given(name: str, keys: dict[str, Key]) -> list[str]:
    return [f"--{name}", plausible(name, keys[name].hint)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_option_of_the_help_is_accepted(name: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as left:
        run(program(name), ["-h"], prog=name)
    assert left.value.code == 0
    keys = legal_keys(program(name))
    listed = re.findall(r"^  --(?!print_config|quiet|debug)([\w.]+)", capsys.readouterr().out, re.M)
    assert listed and set(listed) == {each for each, key in keys.items() if key.kind == "value"}
    together = [word for each in listed if each not in APART for word in given(each, keys)]
    values = parse(program(name), together)
    assert values.keys() == {each for each in keys if "." not in each}
    for each in set(listed) & APART.keys():
        assert parse(program(name), [*required(keys), *APART[each], *given(each, keys)])


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_number_has_a_range_and_keeps_to_it(name: str) -> None:
    keys = legal_keys(program(name))
    for each, key in keys.items():
        inner = [one for choice in choices(key.hint) for one in (choice, *get_args(choice))]
        ranges = [one for one in inner if one in RANGES]
        if key.kind != "value":
            assert any(isinstance(one, type) and issubclass(one, Options) for one in inner), f"{name} --{each}"
        if {int, float} & set(inner):
            assert each.rpartition(".")[2] in ANY_NUMBER, (
                f"{name} --{each} takes any number: give it a type with a range"
            )
        if choices(key.hint)[0] in RANGES and "." not in each:
            outside = next(number for number in (-1, 2**40) if not any(fits(number, one) for one in ranges))
            with pytest.raises(ConfigError, match=rf"^{re.escape(each)} is '{outside}', expected .*number"):
                parse(program(name), [*required(keys), f"--{each}={outside}"])


ANSWER_ALL = f"""
import contextlib, importlib, io, sys
from egrecho_inner.config import parse
from egrecho_inner.errors import ConfigError
for name, function in {PROGRAMS}.items():
    program = getattr(importlib.import_module("egrecho_inner." + name), function)
    for words in (["-h"], ["--mistypd", "1"], ["--device"], []):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit, ConfigError):
            parse(program, words)
    heavy = {{"torch", "transformers", "lhotse", "peft", "scipy", "accelerate"}} & set(sys.modules)
    if heavy:
        sys.exit(f"{{name}} imports {{sorted(heavy)}}")
"""


def test_no_program_imports_a_heavy_library_to_answer_a_command_line() -> None:
    """So that `-h`, a mistyped option and a missing value are answered at once, not after seconds of torch."""
    done = subprocess.run([sys.executable, "-c", ANSWER_ALL], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "words", "code"),
    [
        ("full", ["-h"], 0),
        ("evaluation", ["-h"], 0),
        ("full", ["--train.learning_rat", "1", "--outdir", "x"], 2),
        ("full", ["--train.learning_rate", "-1", "--outdir", "x", "--model.path", "m", "--data.train", "[c]"], 2),
        ("evaluation", ["m", "--outdir", "x", "--cuts", "c", "--limit", "0"], 2),
        ("distil", ["-c", "config/train.yaml", "--train.max_steps", "-3", "--teacher", "t"], 2),
    ],
)
def test_a_command_line_is_answered_within_half_a_second_of_cpu(name: str, words: list[str], code: int) -> None:
    used = []
    for _ in range(3):  # the first may compile what it imports
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, f"egrecho_inner/{name}.py", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if used[-1] < 0.5:
            break
    assert done.returncode == code and "fault of ours" not in done.stderr, done.stderr
    assert min(used) < 0.5


OTHER_NAMES = {"outdir", "output", "out_dir", "output_dir", "save_dir", "model_path", "model_name", "model_id"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_name_for_one_option(name: str) -> None:
    # a model, what is written, the cuts, the language, the device: called the same in every program
    assert {key for key in legal_keys(program(name)) if "." not in key} & OTHER_NAMES == set()
