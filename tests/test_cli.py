"""The `egrecho` command: quick to answer, complete, and every program explains itself however it is started."""

import importlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from egrecho_inner import __version__
from egrecho_inner.cli import COMMANDS
from egrecho_inner.config import parse
from egrecho_inner.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
YAMLS = [path for folder in ("config", "egs") for path in sorted((ROOT / folder).rglob("*.yaml"))]
YAMLS.remove(ROOT / "config/fsdp.yaml")  # accelerate's, named by train.fsdp
YAMLS.remove(ROOT / "egs/personal/skypilot.yaml")  # SkyPilot's
ENVIRONMENT = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}


def start(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, timeout=300)


def egrecho(*argv: str) -> subprocess.CompletedProcess[str]:
    return start(sys.executable, "-m", "egrecho_inner.cli", *argv)


def programs() -> list[Callable[..., None]]:
    """Return every program: what a module of the package hands to `run` when it is started."""
    found = {
        p.stem: re.search(r"^    run\((\w+)\)", p.read_text(), re.M) for p in (ROOT / "egrecho_inner").glob("*.py")
    }
    return [getattr(importlib.import_module(f"egrecho_inner.{name}"), it[1]) for name, it in found.items() if it]


def program_of(command: str) -> Callable[..., None]:
    module, function = COMMANDS[command][0].split(":")
    return getattr(importlib.import_module(module), function)


def test_help_answers_within_half_a_second() -> None:
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        done = egrecho("-h")
        times.append(time.perf_counter() - begin)
    assert done.returncode == 0 and all(command in done.stdout for command in COMMANDS)
    assert min(times) < 0.5


def test_help_imports_nothing_that_is_installed() -> None:
    script = "import sys; sys.argv = ['egrecho', '-h']\nfrom egrecho_inner.cli import main\nmain()\n"
    script += (
        "heavy = {name.split('.')[0] for name in sys.modules} & {'torch', 'transformers', 'jsonargparse', 'yaml'}\n"
    )
    done = start(sys.executable, "-c", script + "sys.exit(bool(heavy))")
    assert done.returncode == 0, done.stderr


def test_the_installed_command_is_this_table() -> None:
    done = start("egrecho", "--version")
    assert done.returncode == 0 and done.stdout == f"egrecho {__version__}\n"


def test_every_command_is_a_typed_function_that_explains_itself() -> None:
    for name, (_, summary) in COMMANDS.items():
        program = program_of(name)
        assert summary and program.__doc__, name
        parameters = {key for key in program.__annotations__ if key != "return"}
        assert program.__code__.co_argcount == len(parameters), f"{name}: a parameter without a type"
        for parameter in parameters:
            assert f"{parameter}:" in program.__doc__, f"{name}: --{parameter} is not explained"


def test_an_unknown_command_names_the_nearest() -> None:
    done = egrecho("evla", "--x", "1")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: unknown command 'evla'; did you mean 'eval'?\n"
    assert "`egrecho -h` lists them" in egrecho("qqqqq").stderr


def test_a_command_hands_its_arguments_and_exit_code_on() -> None:
    done = egrecho("make-cuts", "--recordigns", "x")
    assert done.returncode == 2 and done.stderr.endswith("did you mean 'recordings'? -h explains them\n")


def test_training_scripts_explain_themselves_however_they_are_started(tmp_path) -> None:
    """As typed, under torchrun and under accelerate, all at once: each costs seconds of imports."""
    full, lora = ROOT / "egrecho_inner/full.py", ROOT / "egrecho_inner/lora.py"
    assert os.access(full, os.X_OK) and os.access(lora, os.X_OK)
    commands = [
        [full, "-h"],
        [BIN / "torchrun", "--nproc_per_node", "1", full, "-h"],
        [BIN / "accelerate", "launch", "--cpu", lora, "-h"],
    ]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([*map(str, each)], cwd=tmp_path, env=ENVIRONMENT, **quiet) for each in commands]
    for command, process in zip(commands, started, strict=True):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, (command, err)
        assert "usage: " in out and "--train.learning_rate" in out, command
        assert ("--lora.alpha" in out) == (lora in command)


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_yaml_of_the_repository_is_accepted_by_a_program(path: Path) -> None:
    told = []
    for program in programs():
        try:
            parse(program, ["-c", str(path)])
        except ConfigError as error:
            told.append(str(error))
        else:
            return
    # values are checked before what is missing
    assert any(message.startswith("missing ") for message in told), told[:2]
