"""Fan-out: every item exactly once, whatever happens to the workers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import needs
import pytest

from egrecho_inner.errors import ConfigError, DataError, MachineError
from egrecho_inner.runtime.executor import map_unordered


def square(item: int) -> int:
    return item * item


def die_once(item: tuple[int, str]) -> int:
    """Kill the worker at item 13, the first time."""
    number, marker = item
    if number == 13 and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.005)
    return number


def die_always(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def refuse(item: int) -> int:
    raise DataError(f"item {item} is bad")


@pytest.mark.parametrize(("jobs", "chunk"), [(1, 1), (1, 7), (2, 1), (2, 7)])
def test_every_item_comes_back_once(jobs: int, chunk: int) -> None:
    pairs = list(map_unordered(square, iter(range(50)), jobs, chunk=chunk))
    assert sorted(pairs) == [(item, item * item) for item in range(50)]


def test_nothing_is_lost_with_a_killed_worker(tmp_path: Path) -> None:
    items = [(number, str(tmp_path / "died")) for number in range(40)]
    results = [result for _, result in map_unordered(die_once, items, jobs=2, chunk=2)]
    assert (tmp_path / "died").exists() and sorted(results) == list(range(40))


def test_an_item_that_always_kills_is_named() -> None:
    with pytest.raises(MachineError, match="died again and again at 3;"):
        list(map_unordered(die_always, range(5), jobs=2))


def test_faults_of_the_function_come_through() -> None:
    with pytest.raises(DataError, match="is bad"):
        list(map_unordered(refuse, range(5), jobs=2))


def test_an_unknown_executor_is_named() -> None:
    with pytest.raises(ConfigError, match="executor 'ray' is unknown"):
        list(map_unordered(square, range(5), executor="ray"))


def test_a_dask_cluster_loses_nothing_with_a_killed_worker(tmp_path: Path) -> None:
    needs.extra("dask", "distributed")
    items = [(number, str(tmp_path / "died")) for number in range(40)]
    results = [result for _, result in map_unordered(die_once, items, jobs=2, executor="local", chunk=2)]
    assert (tmp_path / "died").exists() and sorted(results) == list(range(40))


INTERRUPTED = """
import signal, time
from egrecho_inner.config import run
from egrecho_inner.runtime.executor import map_unordered

def program() -> None:
    for _ in map_unordered(time.sleep, [0.1, 60, 60, 60, 60], 2, {executor!r}):
        print("one", flush=True)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    run(program, [])
"""


@pytest.mark.parametrize("executor", ["processes", "local"])
def test_ctrl_c_is_one_line_and_ends_the_workers_at_once(tmp_path: Path, executor: str) -> None:
    if executor == "local":
        needs.extra("dask", "distributed")
    (tmp_path / "program.py").write_text(INTERRUPTED.format(executor=executor))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen([sys.executable, str(tmp_path / "program.py")], **pipes)
    assert process.stdout.readline() == "one\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (
        130,
        "stopped by Ctrl-C; the same command starts again, and goes on where it can\n",
    )
    for _ in range(50):  # nobody of the group is left
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("a worker is still there")
