"""What a training step holds in memory and how fast a machine could do it, by arithmetic, for any family.

In: numbers of parameters, a method, bytes of activations. Out: bytes per process of weights, gradients, optimizer and
activations; the allocator's and CUDA's own share is added as SLACK. And the operations per second that a GPU's maker
states, by which the model FLOPs utilisation (MFU) is measured. What one batch costs is a family's own count
(`whisper_cost.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from egrecho_inner.training.options import Method, Sharding

SLACK = 1.2e9
"""Bytes of CUDA's context and of fragments between tensors."""
BUCKET = 100_000_000
"""Gradients that DeepSpeed sends at a time: `reduce_bucket_size` of config/ds_*.json, held twice to overlap."""
PEAKS = {
    # dense TFLOP/s of tensor cores: (bf16 or fp16, fp32 as TF32 or plain), from the makers' data sheets
    "B200": (2250, 1100), "GH200": (989, 494), "H200": (989, 494), "H100": (989, 494), "H100 NVL": (835, 417),
    "H100 PCIe": (756, 378), "A100": (312, 156), "A40": (150, 75), "A30": (165, 82), "A10": (125, 62), "A10G": (70, 35),
    "L40S": (362, 183), "L40": (181, 90), "L4": (121, 60), "V100": (125, 15.7), "T4": (65, 8.1), "RTX A6000": (155, 77),
    "RTX 3090": (71, 35.6), "RTX 4090": (165, 82.6),
}  # fmt: skip


USABLE = 0.95
"""Share of a GPU's memory that an estimate may take."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of one process."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    host: float = 0.0
    """In the machine's memory instead of the GPU's."""

    @property
    def total(self) -> float:
        """All that the GPU holds."""
        return self.weights + self.gradients + self.optimizer + self.activations + SLACK


def trained_parameters(model: nn.Module, method: Method, rank: int, targets: Iterable[str]) -> int:
    """Return how many parameters a method trains.

    Args:
        model: On any device.
        method: All weights, or an adapter.
        rank: Of the adapter.
        targets: Names of the linear layers it adapts.
    """
    if method == "full":
        return sum(p.numel() for p in model.parameters())
    wanted = set(targets)
    linear = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and name.split(".")[-1] in wanted]
    return sum(rank * (m.in_features + m.out_features) for m in linear)


def footprint(
    total: int, trained: int, kept: float, sharding: Sharding = "none", processes: int = 1, half: bool = True
) -> Footprint:
    """Divide weights, gradients and optimizer over processes as a method does.

    Without sharding weights and gradients are fp32, and autocast keeps a 16-bit copy of the weights in use. DeepSpeed's
    weights and gradients have 16 bits; the optimizer holds the fp32 weights beside its two moments, and every process
    two buffers in which gradients travel.

    Args:
        total: Parameters of the model.
        trained: Those that are trained.
        kept: Bytes of activations.
        sharding: What is divided, and whether the optimizer lives in the machine's memory.
        processes: Over how many.
        half: bf16 or fp16.
    """
    if sharding == "none":
        return Footprint((6 if half else 4) * total, 4 * trained, 8 * trained, kept)
    stage, size = int(sharding[4]), 2 if half else 4
    share = [1 / processes if stage >= least else 1 for least in (3, 2, 1)]
    weights, gradients, optimizer = size * total * share[0], size * trained * share[1], 12 * trained * share[2]
    host = 0.0
    if sharding.endswith("offload"):
        host, optimizer = optimizer, 0.0
        if stage == 3:
            host, weights = host + weights, size * total / 12  # a few layers at a time
    return Footprint(weights, gradients + 2 * size * BUCKET, optimizer, kept, host * processes)


def peak(device: torch.device, precision: str) -> float | None:
    """Return the operations per second that the maker of a GPU states; None of others and of a CPU."""
    if device.type != "cuda":
        return None  # of a CPU none is known: measured by a matrix product, training reached 169 %
    name = peak_name(torch.cuda.get_device_name(device))
    return None if name is None else 1e12 * PEAKS[name][0 if precision != "fp32" else 1]


def peak_name(device: str) -> str | None:
    """Return the entry of PEAKS for a GPU's full name ("NVIDIA A100-SXM4-80GB" is an A100), None if it has none."""
    words = set(device.replace("-", " ").split())
    fitting = [name for name in PEAKS if words.issuperset(name.split()) and "Laptop" not in words]
    return max(fitting, key=lambda name: len(name.split()), default=None)
