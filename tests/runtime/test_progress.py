"""Progress: a bar in a terminal, a line now and then elsewhere, nothing with --quiet; no item is lost."""

import io
import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from egrecho_inner.runtime import progress
from egrecho_inner.runtime.progress import clock, line, watched

PROGRAM = """
import logging, time
from egrecho_inner.config import run
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.progress import watched
def work(fail: bool = False) -> None:
    '''Work.'''
    logger = logging.getLogger("egrecho_inner.work")
    for item in watched(range(40), what="counting", unit="cuts"):
        for inner in watched(range(2), what="inner"):
            time.sleep(0.02)
        if item == 20:
            logger.info("half way")
            if fail:
                raise DataError("utterance u1: broken")
run(work)
"""


def in_terminal(*words: str) -> tuple[int, str]:
    """Run PROGRAM with a terminal of 100 columns as its standard error; its exit code and what the terminal got."""
    reading, writing = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "20"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=subprocess.DEVNULL, stderr=writing, env=environment
    )
    os.close(writing)
    got = b""
    while True:
        try:
            block = os.read(reading, 65536)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        got += block
    os.close(reading)
    return process.wait(60), got.decode()


def test_a_bar_that_leaves_nothing_but_the_log() -> None:
    code, got = in_terminal()
    assert code == 0 and "counting" in got and re.search(r"\d+/40", got) and "cuts" in got and "inner" not in got
    assert "half way\r\n" in got
    assert got.rfind("\x1b[?25h") > got.rfind("\x1b[?25l")  # the cursor is back
    assert got.rstrip().endswith(("\x1b[2K", "\x1b[?25h")), repr(got[-80:])


def test_a_fault_stands_alone_with_the_cursor_back() -> None:
    code, got = in_terminal("--fail", "true")
    end = got[got.rfind("\x1b[?25h") :]
    assert code == 3 and "error: utterance u1: broken" in end and "/40" not in end


def test_quiet_shows_nothing() -> None:
    assert in_terminal("--quiet") == (0, "")


def test_a_line_now_and_then_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = iter(range(0, 10_000, 7))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO, "egrecho_inner"):
        assert list(watched(range(10), what="features", unit="cuts")) == list(range(10))
    assert [each.getMessage() for each in caplog.records] == [
        "features: 5 of 10 cuts (50 %), 7.0 s each, 0:35 left",
        "features: 10 of 10 cuts (100 %), 7.0 s each, 0:00 left",
    ]


def test_words_of_a_line() -> None:
    assert line("decoding", 1200, None, 60, "cuts") == "decoding: 1,200 cuts, 20.0 a second"
    assert line("decoding", 1, 4, 7200) == "decoding: 1 of 4 (25 %), 7,200.0 s each, 6:00:00 left"
    assert clock(59.6) == "1:00" and clock(3599) == "59:59"


def test_every_pass_shows_its_progress() -> None:
    """Loops over what a corpus holds go through `watched`: each place that maps over workers does."""
    package = Path(progress.__file__).resolve().parents[1]
    for path in package.rglob("*.py"):
        for number, text in enumerate(path.read_text().splitlines(), 1):
            if "map_unordered(" in text and "def " not in text:
                assert "watched(" in path.read_text(), f"{path}:{number}"


def test_a_set_that_has_no_length_yet_is_passed_on() -> None:
    from lhotse import CutSet

    assert list(progress.watched(CutSet(iter([])), what="cuts")) == []
