"""local/launch.py: several processes end with one line and the exit code of the one that knew why."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = '''
import os, signal, sys, time
from egrecho_inner.config import run
from egrecho_inner.errors import DataError, Interrupted

def program(what: str) -> None:
    """Do what it is told."""
    rank, got = os.environ["RANK"], []
    signal.signal(signal.SIGINT, lambda *_: got.append(1))
    print(f"up {rank}", flush=True)
    if what == "data":
        raise DataError("utterance u1: broken")
    if what == "consequence":
        if rank == "0":
            raise DataError("utterance u1: broken")
        time.sleep(1)
        raise RuntimeError("Connection closed by peer")
    if what == "kill" and rank == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    while what in ("kill", "signal") and not got:
        time.sleep(0.02)
    if what == "signal":
        time.sleep(4)  # saving takes its time
        raise Interrupted(f"saved after {len(got)}")

run(program)
'''


@pytest.fixture
def launch(tmp_path: Path):
    """Start PROGRAM in two processes; its stdout and stderr go to files."""
    (tmp_path / "program.py").write_text(PROGRAM)
    started = []

    def start(what: str) -> subprocess.Popen:
        command = [sys.executable, str(ROOT / "local/launch.py"), "--standalone", "--nproc_per_node", "2"]
        # torchrun's own patience; what is ended by it has not saved
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "1"}
        with open(tmp_path / "out", "w") as out, open(tmp_path / "err", "w") as err:
            words = [*command, str(tmp_path / "program.py"), "--what", what]
            started.append(subprocess.Popen(words, stdout=out, stderr=err, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("what", ["data", "consequence"])
def test_the_reason_is_the_only_line_and_its_code_arrives(launch, tmp_path: Path, what: str) -> None:
    assert launch(what).wait(120) == 3
    lines = (tmp_path / "err").read_text().splitlines()
    assert lines[1:] == ["error: utterance u1: broken"] and "starting 2 process(es) of " in lines[0]


def test_success_is_silent(launch, tmp_path: Path) -> None:
    assert launch("nothing").wait(120) == 0
    assert (tmp_path / "err").read_text().count("\n") == 1


def test_a_killed_process_is_named(launch, tmp_path: Path) -> None:
    assert launch("kill").wait(120) == 137
    lines = (tmp_path / "err").read_text().splitlines()
    assert len(lines) == 2 and lines[1].startswith("error: process 1 was ended by SIGKILL"), lines


def test_ctrl_c_reaches_every_process_once_and_waits_until_they_have_saved(launch, tmp_path: Path) -> None:
    process = launch("signal")
    deadline = time.monotonic() + 100
    while (tmp_path / "out").read_text().count("up") < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 75
    assert (tmp_path / "err").read_text().splitlines()[1:] == ["error: saved after 1"]
