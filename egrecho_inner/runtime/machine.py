"""What a machine brings for a training: GPUs, driver and torch's build, memory, cores, disk, programs, extras.

In: the folder of a run, the names of extras that the configuration needs. Out: `Check`s, one for each thing looked at:
what was found, whether it will do, and what to do where it will not.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

Area = Literal["machine", "data", "model", "config"]
State = Literal["ok", "note", "bad"]

LEAST_SHARED = 1e9
"""Bytes of /dev/shm that loader processes pass batches through; Docker gives 64 MB by default."""
LEAST_MEMORY, LEAST_DISK = 4e9, 10e9
NVIDIA = ("nvidia-smi", "--query-gpu=driver_version,name,memory.total", "--format=csv,noheader,nounits")
FROM_EXTRA = {"deepspeed": "deepspeed", "wandb": "watch", "trackio": "watch", "faster-whisper": "ct2"}
"""Packages that options need, and the extra that brings each."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    area: Area
    name: str
    found: str
    state: State = "ok"
    remedy: str = ""


def machine_checks(run: Path, packages: Iterable[str] = (), workers: int = 0) -> Iterator[Check]:
    """Look at this machine.

    Args:
        run: Folder of the run, or one that it will be made in.
        packages: Optional packages that the configuration needs.
        workers: Loader processes of a training process.
    """
    from egrecho_inner import __version__

    yield Check("machine", "Python", f"{platform.python_version()}, egrecho {__version__}, {platform.machine()}")
    yield from gpu_checks()
    memory = psutil.virtual_memory()
    low = memory.available < LEAST_MEMORY
    yield Check(
        "machine", "memory", f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free",
        *(("bad", "end other programs, or take a machine with more") if low else ()),
    )  # fmt: skip
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    many = ("note", f"train.workers {max(cores - 1, 1)} suits one training process") if workers >= cores > 1 else ()
    yield Check("machine", "cores", f"{cores}, train.workers {workers}" if workers else str(cores), *many)
    yield from disk_checks(run, workers)
    for name, why in (("g++", "DeepSpeed on a CPU, torch.compile"), ("ffmpeg", "pipes in wav.scp that name it")):
        path = shutil.which(name)
        yield Check("machine", name, path or "not there", "ok" if path else "note", "" if path else f"only for {why}")
    yield from extra_checks(packages)


def gpu_checks() -> Iterator[Check]:
    """Look at GPUs, their driver, and whether torch's build suits them."""
    import torch

    driver = nvidia_driver()
    build = f"torch {torch.__version__}, " + (f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA")
    if torch.cuda.is_available():
        yield Check("machine", "torch", f"{build}, driver {driver or 'unknown'}")
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            major, minor = torch.cuda.get_device_capability(number)
            name = f"{torch.cuda.get_device_name(number)} (sm_{major}{minor})"
            found = f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
            taken = ("note", "another program uses it; nvidia-smi shows which") if free < 0.9 * total else ()
            yield Check("machine", f"GPU {number}", found, *taken)
        return
    if driver is not None:
        if torch.version.cuda is None:
            remedy = "this build of torch is for CPUs: install torch's build for CUDA, of the same version"
        else:
            remedy = f"CUDA {torch.version.cuda} needs a newer driver, or CUDA_VISIBLE_DEVICES hides the GPU"
        yield Check("machine", "torch", f"{build}; driver {driver} is there but no GPU can be used", "bad", remedy)
        return
    if torch.backends.mps.is_available():
        yield Check("machine", "torch", f"{build}, Apple's GPU")
        return
    yield Check("machine", "torch", f"{build}; no GPU", "note", "small models and tests only, or take a GPU")


def nvidia_driver() -> str | None:
    """Return the version of NVIDIA's driver, None where there is none."""
    try:
        done = subprocess.run(NVIDIA, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is not None and done.returncode == 0 and done.stdout.strip():
        return done.stdout.split(",")[0].strip()
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", text)
    return found[1] if found else "unknown"


def disk_checks(run: Path, workers: int) -> Iterator[Check]:
    """Look at the file system of the run folder, and at the memory that loader processes share."""
    folder = next(each for each in (run.absolute(), *run.absolute().parents) if each.is_dir())
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        yield Check("machine", "disk", f"{folder} cannot be written", "bad", "give another --out")
    else:
        low = ("note", "checkpoints and features take gigabytes") if free < LEAST_DISK else ()
        yield Check("machine", "disk", f"{free / 1e9:.1f} GB free in {folder}", *low)
    shared = Path("/dev/shm")
    if workers and shared.is_dir() and (size := shutil.disk_usage(shared).total) < LEAST_SHARED:
        remedy = "docker run --shm-size 8g (or --ipc host), else --train.workers 0"
        yield Check("machine", "/dev/shm", f"{size / 1e6:.0f} MB for {workers} loader processes", "bad", remedy)


def extra_checks(packages: Iterable[str]) -> Iterator[Check]:
    """Look at which extras are installed; one that the configuration needs is to be there."""
    wanted: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("egrecho") or [] if is_installed("egrecho") else []:
        extra = re.search(r"""extra == ['"](\w+)['"]""", line)
        name = re.match(r"[\w.-]+", line)
        if extra and name and name[0] != "egrecho":
            wanted.setdefault(extra[1], []).append(name[0])
    there = [extra for extra, names in wanted.items() if all(map(is_installed, names))]
    if wanted:
        absent = [extra for extra in wanted if extra not in there]
        found = f"{', '.join(there) or 'none'}" + (f"; not {', '.join(absent)}" if absent else "")
        yield Check("machine", "extras", found)
    for name in packages:
        if not is_installed(name):
            yield Check("machine", name, "not installed", "bad", f"pip install 'egrecho[{FROM_EXTRA.get(name, name)}]'")


def is_installed(package: str) -> bool:
    """Tell whether a distribution is installed."""
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
