"""Which device a program takes when nobody names one: an NVIDIA or AMD GPU, Apple's, else the CPU."""

import os
import sys
from pathlib import Path

import torch


def auto_device() -> str:
    """Return cuda:N, mps or cpu; N is this process's number on its machine."""
    if torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', 0))}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def exact_device(device: torch.device) -> torch.device:
    """Return where float64 is added up for a device: there, or on the CPU for Apple's GPU, which has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def peak_memory() -> int:
    """Return the most bytes this process has held: of the GPU where there is one, else of the machine (Linux)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    for line in Path("/proc/self/status").read_text().splitlines() if sys.platform == "linux" else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
