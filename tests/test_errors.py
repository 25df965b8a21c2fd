"""What a fault becomes on the command line: one line and the exit code of the manual."""

import errno
import sys
from types import SimpleNamespace

import pytest

from egrecho_inner.config import run
from egrecho_inner.errors import ConfigError, DataError, Interrupted, MachineError, ModelError, UserError


@pytest.mark.parametrize("kind", [UserError, ConfigError, DataError, ModelError, MachineError, Interrupted])
def test_a_fault_of_the_user_is_one_line_and_its_exit_code(kind: type[UserError], capsys) -> None:
    def fail() -> None:
        """Fail."""
        raise kind("x.jsonl:3: no text; add one")

    with pytest.raises(SystemExit) as left:
        run(fail, [])
    assert left.value.code == kind.exit_code
    assert capsys.readouterr().err == "error: x.jsonl:3: no text; add one\n"


def test_exit_codes_are_those_of_the_manual() -> None:
    codes = {ConfigError: 2, DataError: 3, ModelError: 4, MachineError: 5, Interrupted: 75}
    assert {kind: kind.exit_code for kind in codes} == codes


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "big.bin"),
            5,
            "big.bin: No space left on device; free",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 5, "/x: Permission denied"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 5, "free space"),  # safetensors' own
        (MemoryError(), 5, "out of memory"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate"), 5, "smaller batches"),
        (KeyError("a\nb"), 1, "fault of ours"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C; the same command starts again"),
    ],
)
def test_other_exceptions_are_one_line_and_a_code_too(error: BaseException, code: int, words: str, capsys) -> None:
    def fail() -> None:
        """Fail."""
        raise error

    with pytest.raises(SystemExit) as left:
        run(fail, [])
    err = capsys.readouterr().err
    assert left.value.code == code
    assert words in err and err.count("\n") == bool(words) and "Traceback" not in err


def test_a_full_disk_is_named_where_the_error_names_no_file(monkeypatch, tmp_path, capsys) -> None:
    def fail(outdir: str = "") -> None:
        """Fail."""
        raise OSError(errno.ENOSPC, "No space left on device")

    spare = {str(tmp_path): 0}
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=spare.get(str(path), 1e12)))
    monkeypatch.setattr(sys, "argv", ["x", "--outdir", str(tmp_path / "new")])
    with pytest.raises(SystemExit):
        run(fail, sys.argv[1:])
    assert f"error: {tmp_path}: No space left on device; free space" in capsys.readouterr().err
    spare.clear()
    with pytest.raises(SystemExit):
        run(fail, sys.argv[1:])
    assert "error: a file that the error does not name: No space" in capsys.readouterr().err
