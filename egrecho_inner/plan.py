#!/usr/bin/env python3
"""`egrecho plan`: does it fit, and how long does it take? Memory by model size and method, hours from the data.

    egrecho plan --gpu L40S --gpus 4 --size large-v3 --hours 960
    egrecho plan --llm 70B --gpus 16
    egrecho plan --cuts data/fbank_whisper80/mine_cuts_train.jsonl.gz

Nothing is loaded: sizes are counted on the meta device. Memory is an estimate (of activations a test compares it with
what autograd keeps); the rehearsal at the start of a run on a GPU measures.
"""

from __future__ import annotations

from typing import Literal

from egrecho_inner.config import run
from egrecho_inner.config_types import PositiveFloat, PositiveInt, ShareAboveZero
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.options import SIZES, LoraOptions
from egrecho_inner.training.options import Method, Sharding

GPUS = {"T4": 16, "RTX 4090": 24, "A10": 24, "L4": 24, "V100": 32, "L40S": 48, "A100": 80, "H100": 80, "H200": 141}
SHARDINGS: tuple[Sharding, ...] = ("none", "zero1", "zero2", "zero3", "zero2+offload", "zero3+offload")
USUAL_MFU = 0.25
TOKENS_PER_SECOND = 4.0


def plan(
    size: str | None = None,
    gpu: str = "A100",
    gpus: PositiveInt = 1,
    max_duration: PositiveFloat = 120.0,
    longest: PositiveFloat = 30.0,
    cuts: list[str] | None = None,
    hours: PositiveFloat | None = None,
    num_epochs: PositiveFloat = 3.0,
    audio_seconds_per_second: PositiveFloat | None = None,
    mfu: ShareAboveZero = USUAL_MFU,
    rank: PositiveInt = 32,
    llm: Literal["7B", "13B", "70B"] | None = None,
) -> None:
    """Estimate which models and methods fit a GPU, and how long an epoch takes.

    Args:
        size: One size (tiny, base, ... large-v3-turbo); all if not given.
        gpu: T4, A10, L4, V100, RTX 4090, L40S, A100, H100, H200, or gigabytes of memory.
        gpus: How many, over all machines.
        max_duration: Padded seconds of a batch on one GPU (batch.max_duration).
        longest: Seconds of the longest utterance.
        cuts: Manifests of training cuts, for their hours.
        hours: Of training audio, where no manifest is there yet.
        num_epochs: Passes over the data.
        audio_seconds_per_second: Measured speed (metrics.jsonl of a short run, all GPUs together); else estimated.
        mfu: Share of the GPU's peak that training reaches, for the estimate.
        rank: Of the adapter.
        llm: Plan a speech LLM with a language model of this size and the encoder of Whisper large-v3 instead.
    """
    from egrecho_inner.data.cuts.index import open_all

    if llm is not None:
        from egrecho_inner.training.slam_cost import MEMORIES, slam_rows

        columns = "".join(f"{f'{each} GB':>7}" for each in MEMORIES)
        print(f"{max_duration:g} s of audio per batch and GPU, bf16 and fp32 where trained, GB per GPU; does it fit")
        print(f"{'llm':6}{'trained':12}{'on':12}{'':7}{'GB':>8}{columns}")
        print("\n".join(slam_rows(llm, max_duration, gpus)))
        return

    memory = memory_of(gpu)
    sizes = [size] if size else list(SIZES)
    if size is not None and size not in SIZES:
        raise ConfigError(f"size '{size}' is not known; legal are {', '.join(SIZES)}")
    if cuts:
        hours = sum(float(index.durations.sum()) for index in open_all(cuts)) / 3600
    print(f"{gpus} x {gpu} ({memory:g} GB each), {max_duration:g} s of audio per batch and GPU, bf16, GB per GPU")
    print(
        f"{'model':16}{'method':8}{'sharding':20}{'weights':>8}{'grads':>7}{'optim.':>8}{'activ.':>8}{'total':>7}  fits"
    )
    for name in sizes:
        for row in rows(name, memory, gpus, max_duration, longest, rank):
            print(row)
    if hours is not None:
        print(f"\n{hours:,.1f} h of audio, {num_epochs:g} epochs")
        for name in sizes:
            speed = audio_seconds_per_second or estimated_speed(name, gpu, gpus, longest, mfu)
            if speed is None:
                print(f"{name:16}no peak is known for {gpu}: give --audio_seconds_per_second of a short run")
                continue
            needed = hours * num_epochs / speed
            basis = "measured" if audio_seconds_per_second else f"estimated at {100 * mfu:g} % of the peak"
            print(f"{name:16}{needed:8.1f} h at {speed:,.0f} s of audio per second ({basis})")


def memory_of(gpu: str) -> float:
    """Return a GPU's gigabytes."""
    if gpu in GPUS:
        return GPUS[gpu]
    try:
        return float(gpu)
    except ValueError:
        raise ConfigError(f"gpu '{gpu}' is not known; give its gigabytes, or one of {', '.join(GPUS)}") from None


def rows(name: str, memory: float, gpus: int, seconds: float, longest: float, rank: int) -> list[str]:
    """Return the lines of one size: every method, with and without checkpointing of activations."""
    from egrecho_inner.training.cost import USABLE, footprint, trained_parameters
    from egrecho_inner.training.whisper_cost import activations, shape, shell

    config = shape(name)
    model = shell(config)
    total = sum(p.numel() for p in model.parameters())
    targets, lines = LoraOptions().target_modules, []
    methods: tuple[Method, ...] = ("full", "lora")
    for method in methods:
        trained = trained_parameters(model, method, rank, targets)
        for sharding in SHARDINGS if method == "full" and gpus > 1 else ("none",):
            for checkpointing in (False, True):
                kept = activations(
                    config, max(seconds, longest), longest, TOKENS_PER_SECOND, method, checkpointing, True
                )
                need = footprint(total, trained, kept, sharding, gpus)
                label = sharding + (" +ckpt" if checkpointing else "")
                fits = "yes" if need.total <= USABLE * memory * 1e9 else "no"
                host = f", {need.host / 1e9:.0f} GB of the machine's" if need.host else ""
                parts = (need.weights, need.gradients, need.optimizer, need.activations, need.total)
                numbers = [f"{part / 1e9:.1f}" for part in parts]
                lines.append(
                    f"{name:16}{method:8}{label:20}{numbers[0]:>8}{numbers[1]:>7}{numbers[2]:>8}{numbers[3]:>8}{numbers[4]:>7}"
                    f"  {fits}{host}"
                )
    return lines


def estimated_speed(name: str, gpu: str, gpus: int, longest: float, mfu: float) -> float | None:
    """Return seconds of audio per second that all GPUs train on, from the operations of a step."""
    from egrecho_inner.training.cost import PEAKS
    from egrecho_inner.training.whisper_cost import audio_per_second, shape

    if gpu not in PEAKS:
        return None
    return gpus * audio_per_second(shape(name), PEAKS[gpu][0], mfu, min(longest, 10.0), TOKENS_PER_SECOND)


if __name__ == "__main__":
    run(plan)
