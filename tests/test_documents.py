"""Every command line that a document or a script's help prints is one that its program takes."""

import os
import re
from itertools import pairwise
from pathlib import Path

import pytest
from documents import ROOT, Command, commands, documents, known_options, program, programs, scripts

from egrecho_inner.cli import COMMANDS
from egrecho_inner.config import parse, place_positionals, spell_out
from egrecho_inner.config_keys import legal_keys
from egrecho_inner.errors import ConfigError

PLACEHOLDER = re.compile(r"\.\.\.|[$<{]|\bN\b")


def check(command: Command) -> None:
    """Refuse a command whose program or file is not there, or that has an option its program does not know.

    Raises:
        AssertionError, ConfigError: With the reason.
    """
    words = list(command.words)
    if words[0] in ("torchrun", "python", "python3", "bash", "sbatch"):
        launcher = words.pop(0)
        while words and not words[0].endswith((".py", ".sh")):  # of the launcher's own options, and their values
            if launcher == "bash" or words[0] in ("-c", "-m"):
                return
            words.pop(0)
        if not words:
            return
        if words[0] == "local/slurm.sh":
            words = [f"egrecho_inner/{words[1]}.py", *words[2:]]
    if words[0] == "egrecho":
        check_egrecho(command, words[1:])
    elif words[0] == "local/launch.py":
        check(Command(command.place, ["torchrun", *words[1:]], command.complete))
    elif re.fullmatch(r"(\./)?[\w./]+\.(py|sh)", words[0]):
        path = ROOT / words[0]
        if words == command.words and not command.complete and not (words[0].startswith("./") or path.is_file()):
            return  # running text names files by their last part, too
        assert path.is_file(), f"no file {words[0]}"
        if command.words[0] == words[0] and path.name != "path.sh" and (words[0].startswith("./") or len(words) > 1):
            assert os.access(path, os.X_OK), f"{words[0]} cannot be run"
        check_file(command, path, words[1:])


def check_egrecho(command: Command, words: list[str]) -> None:
    if not words or words[0].startswith("-") or PLACEHOLDER.search(words[0]) or words[0].isupper():
        return
    if words[0] == "launch":
        if len(words) == 1:
            return
        words = words[next((place for place, word in enumerate(words) if word in COMMANDS), 1) :]
    assert words[0] in COMMANDS, f"no command egrecho {words[0]}"
    check_program(command, COMMANDS[words[0]][0].split(":")[0], words[1:])


def check_file(command: Command, path: Path, words: list[str]) -> None:
    place = path.relative_to(ROOT)
    if place.parts[0] == "egrecho_inner":
        check_program(command, ".".join(place.with_suffix("").parts), words)
    elif path.suffix == ".sh" and "parse_options" in path.read_text():
        for option in (word for word in words if word.startswith("--") and word != "--help"):
            assert option[2:] in known_options(path), f"{place} has no option {option}"
    else:
        for option in re.findall(r"^--(\w+)", "\n".join(words), re.MULTILINE):
            assert re.search(rf"\b{option}\b", path.read_text()), f"{place} has no option --{option}"


def check_program(command: Command, module: str, words: list[str]) -> None:
    if "-h" in words or "--help" in words or not words:
        return
    function = program(module)
    if command.complete and not any(PLACEHOLDER.search(word) for word in words):
        try:
            parse(function, words)
        except SystemExit as left:  # --print_config
            assert not left.code
        return
    keys = legal_keys(function)
    files = [path for option, path in pairwise(words) if option in ("-c", "--config")]
    assert all(PLACEHOLDER.search(path) or path.isupper() or (ROOT / path).is_file() for path in files), files
    options = [word for word in spell_out(function, place_positionals(function, words)) if word.startswith("--")]
    unknown = {option[2:].partition("=")[0].removesuffix("+") for option in options} - {
        *keys,
        "config",
        "debug",
        "quiet",
    }
    assert not unknown, f"{module} has no option {unknown}"


@pytest.mark.parametrize("path", [*documents(), *scripts(), *programs()], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_printed_command_is_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    wrong = []
    for command in commands(path):
        try:
            check(command)
        except (AssertionError, ConfigError) as error:
            wrong.append(f"{command.place}: {' '.join(command.words)}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", programs(), ids=lambda path: path.stem)
def test_a_programs_help_begins_with_a_command_that_runs_it(path: Path, capsys: pytest.CaptureFixture) -> None:
    module = f"egrecho_inner.{path.stem}"
    name = next((name for name, (place, _) in COMMANDS.items() if place.startswith(f"{module}:")), None)
    start = ["egrecho", name] if name else [f"egrecho_inner/{path.name}"]
    examples = [command for command in commands(path) if command.complete]
    assert examples and examples[0].words[: len(start)] == start
    assert not any(PLACEHOLDER.search(word) for word in examples[0].words), "the first one can be copied"
    with pytest.raises(SystemExit):
        parse(program(module), ["-h"])
    assert f"\nexample:\n  {' '.join(start)}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        "egrecho evl --cuts x",
        "egrecho eval --model m --out o --cut x",
        "egrecho eval --model m --out o",
        "egrecho eval -c config/evl.yaml --model m --out o --cuts x",
        "bash finetune.sh --lora true",
        "torchrun --nproc_per_node 2 egrecho_inner/ful.py",
        "./finetun.sh",
        "./egs/mini/mini.yaml.sh",
        "./local/shell.sh",
        "egrecho launch --standalone --nproc_per_node 2 lroa --out x",
        "python egs/mini/local/make_corpus.py --sede 1",
    ],
)
def test_a_wrong_command_is_found(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises((AssertionError, ConfigError)):
        check(Command("here", line.split(), True))


def test_the_documents_have_commands() -> None:
    found = [command for path in documents() for command in commands(path)]
    assert sum(command.words[0] == "egrecho" for command in found) > 20
    assert sum(command.words[0] == "bash" and command.complete for command in found) > 15
    assert any(command.words[:3] == ["local/launch.py", "--nnodes", "2"] for command in found)


@pytest.mark.parametrize(
    "path",
    [path for path in scripts() if "\nparse_options" in path.read_text()],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_scripts_help_names_each_of_its_options(path: Path) -> None:
    head = "\n".join(line for line in path.read_text().splitlines()[1:] if line.startswith("#"))
    assert {name for name in known_options(path) if not re.search(rf"--{name}\b", head)} == set()
