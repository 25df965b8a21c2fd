"""Fan-out: every item exactly once, whatever happens to the workers."""

import os
import signal
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
