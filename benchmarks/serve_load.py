#!/usr/bin/env python3
"""Load a training server as its users would, and print latencies and memory in a table.

    python benchmarks/serve_load.py --watchers 50 --uploads 2 --upload_mb 500

Starts a server of its own on a free port of this machine; with --recordings FOLDER a real job trains meanwhile.
Watchers ask for /status once a second, others upload archives of noise, which are refused after they were unpacked and
looked at. Prints percentiles of the latency with one watcher, with many, with uploads, too, and the server's memory.
"""

import argparse
import contextlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
from tabulate import tabulate

ROOT = Path(__file__).resolve().parent.parent
QUIET_SECONDS = 10


def main() -> None:
    """Run the three parts and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watchers", type=int, default=50)
    parser.add_argument("--uploads", type=int, default=2)
    parser.add_argument("--upload_mb", type=int, default=500)
    parser.add_argument("--base", default="egs/mini/nano", help="model folder of the job that trains")
    parser.add_argument("--recordings", help="folder of recordings for a job that trains meanwhile")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=".", ignore_cleanup_errors=True) as work,
        serving(Path(work), asked.base) as (address, server),
    ):
        if asked.recordings:
            post(address, pack(Path(asked.recordings)))
            time.sleep(5)
        rows = [["one watcher", *measure(address, 1, QUIET_SECONDS), memory(server)]]
        rows.append([f"{asked.watchers} watchers", *measure(address, asked.watchers, QUIET_SECONDS), memory(server)])
        with uploading(address, asked.uploads, asked.upload_mb, Path(work)) as seconds:
            figures = measure(address, asked.watchers, None, seconds)
        name = f"{asked.watchers} watchers, {asked.uploads} uploads of {asked.upload_mb} MB"
        rows.append([name, *figures, memory(server)])
        print(tabulate(rows, ["load", "requests", "median ms", "95 % ms", "slowest ms", "server MB"], floatfmt=".0f"))
        print("uploads took " + ", ".join(f"{each:.0f} s" for each in seconds))


@contextlib.contextmanager
def serving(work: Path, base: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """Run a server until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(ROOT / "egrecho_inner/server.py"), "--work", str(work), "--port", str(port),
               "--models", f"{{base: {base}}}", "--limits.upload_mb=2000", "--limits.disk_floor_gb=0.5"]  # fmt: skip
    server = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{address}/healthz", trust_env=False).status_code == 200:
                    break
            time.sleep(0.2)
        yield address, server
    finally:
        for path in work.glob("jobs/*/worker.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                os.kill(json.loads(path.read_text())["worker"]["pid"], signal.SIGKILL)
        server.terminate()
        server.wait(20)
        time.sleep(1)  # the job's processes end with its worker


def measure(address: str, watchers: int, seconds: float | None, until: list[float] | None = None) -> list[float]:
    """Let watchers ask for the status; for some seconds, or until all uploads have ended.

    Returns:
        Requests, and median, 95 % and highest latency in ms.
    """
    found: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        with httpx.Client(base_url=address, timeout=120, trust_env=False) as client:
            time.sleep(random.random())
            while not stop.is_set():
                began = time.perf_counter()
                client.get("/status").raise_for_status()
                found.append(1000 * (time.perf_counter() - began))
                stop.wait(1)

    threads = [threading.Thread(target=watch) for _ in range(watchers)]
    for thread in threads:
        thread.start()
    if until is None:
        time.sleep(seconds or 0)
    while until is not None and 0.0 in until:
        time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    return [len(found), *np.percentile(found, [50, 95, 100])]


@contextlib.contextmanager
def uploading(address: str, count: int, megabytes: int, work: Path) -> Iterator[list[float]]:
    """Upload archives in threads; the list gets the seconds of each as it ends."""
    seconds = [0.0] * count
    archive = work / "noise.tar"
    with tarfile.open(archive, "w") as out:
        for number in range(megabytes // 50):
            info = tarfile.TarInfo(f"{number}.wav")
            info.size = 50_000_000
            out.addfile(info, io.BytesIO(np.random.default_rng(number).bytes(info.size)))

    def upload(number: int) -> None:
        began = time.perf_counter()
        with open(archive, "rb") as file:
            form = {"base_model_name": "base"}
            answer = httpx.post(f"{address}/v1/jobs", data=form, files={"data": file}, timeout=1200, trust_env=False)
        assert answer.status_code == 422, answer.text
        seconds[number] = time.perf_counter() - began

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    yield seconds
    for thread in threads:
        thread.join()


def pack(folder: Path) -> bytes:
    """Pack a folder of recordings."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            archive.add(path, path.name)
    return out.getvalue()


def post(address: str, archive: bytes) -> None:
    """Queue a real job."""
    form = {"base_model_name": "base", "epochs": "50", "language": "en", "patience": "1000"}
    answer = httpx.post(f"{address}/training", data=form, files={"data": archive}, timeout=120, trust_env=False)
    answer.raise_for_status()


def memory(server: subprocess.Popen) -> float:
    """Return the most memory that the server has held, in MB."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
