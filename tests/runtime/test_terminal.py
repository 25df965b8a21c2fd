"""Output that a reader closes early ends a program quietly; another broken pipe is a fault like any other."""

import os
import subprocess
import sys

import pytest

LINES = "for _ in range(100_000): print('a line')"
PROGRAM = f"""
from egrecho_inner.config import run
def lines() -> None:
    '''Print.'''
    {LINES}
run(lines, [])
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "script", [PROGRAM, "import sys; sys.argv[1:] = ['-h']\nfrom egrecho_inner.cli import main; main()"]
)
def test_a_reader_that_goes_away_is_no_error(script: str, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=writing, stderr=subprocess.PIPE, text=True, env=environment
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_another_broken_pipe_is_a_fault() -> None:
    script = PROGRAM.replace(LINES, "raise BrokenPipeError('a socket')")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1 and "BrokenPipeError: a socket" in done.stderr
