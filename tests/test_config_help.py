"""The help lists what the command line takes, nothing else, and how it is written."""

import sys

import pytest
from test_config import Augment, Noise, Train, program

from egrecho_inner.config import run


def help_of(function, capsys: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit) as left:
        run(function, ["--help"], prog="egrecho train")
    assert left.value.code == 0
    return capsys.readouterr().out


def test_options_of_groups_that_may_be_null_are_listed_and_groups_themselves_are_not(capsys) -> None:
    text = help_of(program, capsys)
    assert "  --augment.noise.probability  float, default 0.5\n      Share.\n" in text
    assert "augment: What is done to audio. Off unless one of these is given.\n" in text
    assert not [line for line in text.splitlines() if line.startswith(("  --train ", "  --augment "))]
    assert ".help" not in text and "CONFIG" not in text and "Namespace" not in text


def test_leading_words_are_shown(capsys) -> None:
    text = help_of(program, capsys)
    assert "usage: egrecho train DATA_DIR OUTDIR [-c FILE]" in text
    assert "  --data_dir  str, or word 1 of the command\n      Where from.\n" in text


def test_defaults_are_those_of_the_program(capsys) -> None:
    def other(train: Train = Train(epochs=9), augment: Augment | None = Augment(Noise(0.25))) -> None:
        """Train.

        Args:
            train: How.
            augment: What.
        """

    text = help_of(other, capsys)
    assert "--train.epochs  int, default 9" in text and "--augment.noise.probability  float, default 0.25" in text
    assert "Args" not in text and "example" not in text


def test_the_examples_are_the_indented_lines_of_the_modules_docstring(capsys, monkeypatch) -> None:
    monkeypatch.setattr(
        sys.modules[program.__module__], "__doc__", "Train.\n\n    egrecho train \\\n      --x 3\n\nIn: nothing.\n"
    )
    assert "\n\nexample:\n  egrecho train \\\n    --x 3\n\n" in help_of(program, capsys)
