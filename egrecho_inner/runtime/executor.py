"""One way to run a function over many items: in this process, on its cores, or on a Dask cluster.

In: a function of a module, items, an executor's name. Out: `(item, result)` pairs as they finish, every item exactly
once even when workers are killed: what they had is given to others. Items and results must pickle.
`executor` is `processes` (default), `local` (a Dask cluster on this machine) or the address of a Dask scheduler
(`tcp://host:8786`); Dask is the extra `dask`. Left out: ordering (the caller sorts) and shared state.
"""

import itertools
import logging
import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from egrecho_inner.errors import ConfigError, MachineError

Item = TypeVar("Item")
Result = TypeVar("Result")
Chunk = list[Any]

DEATHS = 3  # of workers at one chunk; then it is the item's fault (or the machine's), not bad luck
WAITING = 4  # chunks handed out per worker: enough to keep it busy, few enough to keep memory flat


def map_unordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    jobs: int = 1,
    executor: str = "processes",
    chunk: int = 1,
) -> Iterator[tuple[Item, Result]]:
    """Apply a function to every item and yield `(item, result)` as they finish.

    Args:
        function: of a module, so that workers can import it; what it raises is raised here.
        items: may be a generator; only a few are taken ahead.
        jobs: worker processes of this machine; 1 runs everything here. A running cluster has its own number.
        executor: `processes`, `local` or a Dask scheduler's address.
        chunk: items sent to a worker at a time; more than 1 pays when an item takes less than some 10 ms.

    Raises:
        MachineError: workers died again and again at the same items, or there is no such scheduler.
        ConfigError: an unknown executor, or Dask is not installed.
    """
    stream = iter(items)
    chunks = iter(lambda: list(itertools.islice(stream, chunk)), [])
    if executor == "processes" and jobs <= 1:
        finished = ((part, _apply(function, part)) for part in chunks)
    elif executor == "processes":
        finished = _with_processes(function, chunks, jobs)
    elif executor == "local" or "://" in executor:
        finished = _with_dask(function, chunks, jobs, executor)
    else:
        raise ConfigError(
            f"executor '{executor}' is unknown; legal are processes, local or a scheduler's tcp://HOST:PORT"
        )
    for part, results in finished:
        yield from zip(part, results, strict=True)


def _apply(function: Callable, part: Chunk) -> list[Any]:
    return [function(item) for item in part]


def _with_processes(function: Callable, chunks: Iterator[Chunk], jobs: int) -> Iterator[tuple[Chunk, list]]:
    """Feed a pool. A killed process takes its whole pool along: redo what was out, each alone, and start another."""
    while lost := (yield from _until_death(function, chunks, jobs)):
        for part in lost:
            yield part, _alone(function, part)


def _until_death(
    function: Callable, chunks: Iterator[Chunk], jobs: int
) -> Generator[tuple[Chunk, list], None, list[Chunk]]:
    """Yield results until all is done or the pool breaks; return the chunks that were out then."""
    out: dict[Any, Chunk] = {}
    pool = _pool(jobs)
    try:
        while True:
            for part in itertools.islice(chunks, jobs * WAITING - len(out)):
                try:
                    out[_submit(pool, function, part)] = part
                except BrokenProcessPool:
                    return [*out.values(), part]
            if not out:
                return []
            for future in wait(out, return_when=FIRST_COMPLETED).done:
                try:
                    results = future.result()
                except BrokenProcessPool:
                    return list(out.values())
                yield out.pop(future), results
    except BaseException:  # a fault, Ctrl-C, or a caller that wants no more: nobody waits for what is running
        _end_workers()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _alone(function: Callable, part: Chunk) -> list[Any]:
    """Run one chunk in a process of its own, so that a death is surely its doing."""
    for _ in range(DEATHS):
        pool = _pool(1)
        try:
            return _submit(pool, function, part).result()
        except BrokenProcessPool:
            continue
        except BaseException:
            _end_workers()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
    raise _killed(part)


def _pool(jobs: int) -> ProcessPoolExecutor:
    # spawned, not forked: the caller may have threads of torch or Dask running, and those do not survive a fork
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))


def _submit(pool: ProcessPoolExecutor, function: Callable, part: Chunk) -> Future:
    with _without_interrupts():
        return pool.submit(_apply, function, part)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start processes and threads that do not get the terminal's Ctrl-C: the caller gets it, and ends them."""
    resource_tracker.ensure_running()  # it unblocks SIGINT when it starts
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # what is started here inherits it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _end_workers() -> None:
    for worker in multiprocessing.active_children():
        worker.terminate()


def _with_dask(function: Callable, chunks: Iterator[Chunk], jobs: int, executor: str) -> Iterator[tuple[Chunk, list]]:
    """Feed a cluster, which reschedules by itself what a killed worker had."""
    try:
        from dask.distributed import Client, KilledWorker, LocalCluster, as_completed  # an extra, and 0.5 s
    except ImportError as error:
        raise ConfigError(f"executor '{executor}' needs Dask; install it with: pip install 'egrecho[dask]'") from error
    with ExitStack() as stack:
        address = executor
        if executor == "local":
            with _without_interrupts():
                quiet = {"dashboard_address": None, "silence_logs": logging.ERROR}  # of tasks that an end cancels
                cluster = LocalCluster(n_workers=jobs, threads_per_worker=1, **quiet)
            address = stack.enter_context(cluster)
        try:
            client = stack.enter_context(Client(address, timeout="10s"))
        except OSError as error:
            raise MachineError(f"no Dask scheduler answers at {executor}; start one with: dask scheduler") from error
        room = WAITING * max(jobs, len(client.scheduler_info(n_workers=-1)["workers"]))
        out, finished = {}, as_completed()
        while True:
            for part in itertools.islice(chunks, room - len(out)):
                future = client.submit(_apply, function, part, pure=False)
                out[future.key] = part
                finished.add(future)
            if not out:
                return
            future = next(finished)
            try:
                results = future.result()
            except KilledWorker as error:
                raise _killed(out[future.key]) from error
            yield out.pop(future.key), results


def _killed(part: Chunk) -> MachineError:
    return MachineError(f"workers died again and again at {str(part[0])[:200]}; out of memory? Use fewer jobs")
