"""What a machine lacks is skipped with a reason, and the reasons are counted at the end."""

import os
import subprocess
import sys
from pathlib import Path

import needs
import pytest

HERE = Path(__file__).resolve().parent
TESTS = """
import needs, pytest

@pytest.mark.parametrize("number", range(3))
def test_extra(number):
    needs.extra("nowhere", "no_such_module")

def test_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(needs, "extra", lambda name, module: None)
    needs.deepspeed()

def test_that_runs():
    needs.extra("std", "json")
"""


@pytest.mark.parametrize("processes", [(), ("-n", "2")])
def test_skips_are_counted_by_reason(tmp_path: Path, processes: tuple[str, ...]) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text((HERE / "conftest.py").read_text())
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *processes, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    found = [line.strip() for line in done.stdout.split("not run on this machine")[1].splitlines()[1:3]]
    assert found == [
        "3  extra nowhere is not installed",
        "1  no C++ compiler (g++), which DeepSpeed needs on a CPU",
    ]


def test_a_compiler_is_looked_for_where_torch_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(needs, "extra", lambda name, module: None)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="compiler"):
        needs.deepspeed()
    (tmp_path / "c++").touch(mode=0o755)
    needs.deepspeed()
