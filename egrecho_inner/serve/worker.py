"""The worker of one job: `python -m egrecho_inner.serve.worker JOBDIR`, the same on every engine.

In: a job folder with `job.json`. Out: `result.json` when the job has ended for good, nothing when it was interrupted
and can be continued. The worker holds the folder's lock: a second one for the same job ends at once. What it runs
is a process of its own with an allow-list of the environment, its own temporary folder, limits of memory and time, and
on Linux the worker's death as its own. SIGTERM is handed on; the training saves and ends with 75.
"""

import ctypes
import fcntl
import gzip
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from egrecho_inner.runtime.events import Events
from egrecho_inner.runtime.files import atomic_file
from egrecho_inner.serve.jobs import JobFolder, digest, tail

PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_", "TZ", "PYTHON", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"),
    *("OMP_", "MKL_", "TORCH", "CUDA_", "NVIDIA_", "DS_", "TOKENIZERS_", "HF_HOME", "HF_HUB_", "HF_ENDPOINT"),
)
"""Beginnings of the environment's names that a job may see; secrets of the server are not among them."""
GRACE = 60.0
"""Seconds that a job has to save and end after SIGTERM."""
CODES = {2: "config", 3: "data", 4: "model", 5: "machine"}
STOPPED = (75, 130, 143, -signal.SIGTERM, -signal.SIGINT, -signal.SIGKILL, 137)
BUSY = 76


def main() -> None:
    """Run the job whose folder the command line names."""
    sys.exit(work(JobFolder(Path(sys.argv[1]).resolve())))


def work(folder: JobFolder) -> int:
    """Run a job to its end, or until it is stopped.

    Returns:
        0 when `result.json` is there, 75 when the job was interrupted, 76 when another worker has it.
    """
    with locked(folder) as mine:
        if not mine:
            return BUSY
        if folder.result.is_file():
            return 0
        job = folder.read("job.json")
        end_leftover(folder)
        began, events = time.time(), Events(folder.events)
        events.add(attempt=job.get("attempt", 1))
        events.phase("preparing training")
        events.phase("starting tensorboard")
        with tensorboard(folder, job):
            code = run(folder, job)
        result = conclude(folder, code, time.time() - began)
        if result is None:
            events.add(interrupted=code)
            return 75
        folder.write("result.json", result)
        events.add(state=result["state"])
        return 0


@contextmanager
def locked(folder: JobFolder) -> Iterator[bool]:
    """Hold the job's lock; yield whether it could be had."""
    handle = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for _ in range(20):  # a server looks whether the lock is held by trying it, for an instant
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(0.05)
            else:
                yield True
                return
        yield False
    finally:
        os.close(handle)


def run(folder: JobFolder, job: dict[str, Any]) -> int:
    """Run the job's program and return its exit code; 124 when its time is over."""
    temporary = folder.path / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    known = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    environment = known | {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"} | job.get("environment", {})
    stopped: list[int] = []
    words = [word.replace("{job}", str(folder.path)) for word in job["arguments"]]
    with open(folder.log, "ab") as log:
        program = subprocess.Popen(
            [sys.executable, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            start_new_session=True, preexec_fn=limit(job, os.getpid()),
        )  # fmt: skip
        folder.write("worker.json", {"worker": about(os.getpid()), "program": about(program.pid)})

        def hand_on(number: int, _: Any) -> None:
            stopped.append(number)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, hand_on)
        if folder.cancel.exists():  # it came before the signal could have been handed on
            stopped.append(signal.SIGTERM)
        try:
            return watch(program, stopped, 3600.0 * job.get("hours", 1e6))
        finally:
            end_group(program.pid)
            shutil.rmtree(temporary, ignore_errors=True)


def watch(program: subprocess.Popen, stopped: list[int], seconds: float) -> int:
    """Wait for a program: hand a stop on once, then give it time, then end it."""
    end, grace, late = time.monotonic() + seconds, None, False
    while (code := program.poll()) is None:
        now = time.monotonic()
        late = late or now > end
        if (stopped or late) and grace is None:
            grace = now + GRACE
            os.killpg(program.pid, signal.SIGTERM)
        if grace is not None and now > grace:
            os.killpg(program.pid, signal.SIGKILL)
            grace = now + GRACE
        time.sleep(0.05)
    return 124 if late else code


def limit(job: dict[str, Any], parent: int) -> Callable[[], None]:
    """Return what the new process does before the program begins."""
    memory = job.get("memory_gb")

    def apply() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.nice(job.get("nice", 0))
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (int(memory * 1e9),) * 2)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no worker, no program
            if os.getppid() != parent:
                os._exit(137)

    return apply


def conclude(folder: JobFolder, code: int, seconds: float) -> dict[str, Any] | None:
    """Return how a job ended; None when it was interrupted and may be continued."""
    about: dict[str, Any] = {"exit_code": code, "seconds": round(seconds, 1)}
    if code == 0:
        report = folder.read("run/report.json")
        return about | {"state": "succeeded", "report": report, "artifact": pack(folder)}
    if folder.cancel.exists():
        return about | {"state": "cancelled"}
    if code == 124:
        return about | {"state": "failed", "error": {"code": "time_limit", "message": "the job took too long"}}
    if code in STOPPED:
        return None
    return about | {"state": "failed", "error": {"code": CODES.get(code, "internal"), "message": last_error(folder)}}


def last_error(folder: JobFolder) -> str:
    """Return the line with the program's error, without the paths of this machine."""
    lines = [line for line in tail(folder.log).splitlines() if line.startswith("error: ")]
    if not lines:
        return "the job ended without a reason; the log has its last lines"
    return lines[-1].removeprefix("error: ").replace(f"{folder.path}/", "")[:1000]


def pack(folder: JobFolder) -> dict[str, Any]:
    """Pack what a client downloads: `results/` with the model and the texts, the same bytes every time."""
    texts = [folder.run / name for name in ("basemodel_eval_result.txt", "final_eval_result.txt", "report.json")]
    named = {f"results/{path.name}": path for path in texts if path.is_file()}
    for source, name in (("final", "model"), ("faster_whisper", "faster_whisper")):
        found = sorted(path for path in (folder.run / source).rglob("*") if path.is_file())
        named |= {f"results/{name}/{path.relative_to(folder.run / source)}": path for path in found}
    with (
        atomic_file(folder.artifact) as out,
        gzip.GzipFile("", "wb", 1, out, mtime=0) as packed,  # weights hardly shrink, whatever the effort
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, path in named.items():
            info = archive.gettarinfo(path, name)
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            info.mode = 0o644
            with open(path, "rb") as content:
                archive.addfile(info, content)
    return {"sha256": digest(folder.artifact), "bytes": folder.artifact.stat().st_size}


@contextmanager
def tensorboard(folder: JobFolder, job: dict[str, Any]) -> Iterator[None]:
    """Run a TensorBoard of the job on a free port of this machine while the job runs."""
    if not job.get("tensorboard"):
        yield
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder.run / "train"), "--host", "127.0.0.1",
               "--port", str(port), "--path_prefix", job["tensorboard"], "--load_fast", "false"]  # fmt: skip
    with open(folder.path / "tensorboard.txt", "ab") as log:
        board = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=limit({"nice": 10}, os.getpid()),
        )  # fmt: skip
    folder.write("tensorboard.json", {"port": port, **about(board.pid)})
    try:
        yield
    finally:
        (folder.path / "tensorboard.json").unlink(missing_ok=True)
        end_group(board.pid)
        board.wait()


def end_leftover(folder: JobFolder) -> None:
    """End the program of a worker that was killed, where the kernel did not."""
    left = folder.read("worker.json").get("program", {})
    if left.get("started") and about(left["pid"]) == left:
        end_group(left["pid"])


def end_group(pid: int) -> None:
    """End a process and all of its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def about(pid: int) -> dict[str, Any]:
    """Name a process so that another one with its number is not taken for it."""
    started = ""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            started = file.read().rpartition(")")[2].split()[19]
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            started += f" {file.read().strip()}"
    except (OSError, IndexError):
        if sys.platform != "linux":
            asked = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
            started = asked.stdout.strip()
    return {"pid": pid, "started": started}


if __name__ == "__main__":
    main()
