#!/usr/bin/env python3
"""`egrecho doctor`: machine, data, model and configuration looked at together, before an hour is spent.

    egrecho doctor                                                              # this machine
    egrecho doctor -c config/train.yaml -c config/full.yaml --model MODEL --data.train '[CUTS]' --out exp/run

Takes what `full` takes, and with `--lora.r 32` or config/lora.yaml what `lora` takes. Prints one table; the exit code
is that of the first thing that will not do: 2 configuration, 3 data, 4 model, 5 machine.
"""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from egrecho_inner.config import run
from egrecho_inner.config_types import ShareAboveZero
from egrecho_inner.data.batches.options import AugmentOptions, BatchOptions, DataOptions, TargetOptions
from egrecho_inner.errors import ConfigError, DataError, MachineError, ModelError, UserError
from egrecho_inner.model.options import LoraOptions, ModelOptions
from egrecho_inner.training.options import TrainOptions, WindowOptions

if TYPE_CHECKING:
    from egrecho_inner.runtime.machine import Check

ERRORS: dict[str, type[UserError]] = {
    "machine": MachineError,
    "data": DataError,
    "model": ModelError,
    "config": ConfigError,
}
COLOURS = {"ok": "green", "note": "yellow", "bad": "red"}


def doctor(
    model: ModelOptions | None = None,
    data: DataOptions | None = None,
    out: str = "exp",
    lora: LoraOptions | None = None,
    batch: BatchOptions = BatchOptions(),
    train: TrainOptions = TrainOptions(),
    window: WindowOptions = WindowOptions(),
    augment: AugmentOptions | None = None,
    targets: TargetOptions = TargetOptions(),
    mfu: ShareAboveZero = 0.25,
    json: bool = False,
) -> None:
    """Look at machine, data, model and configuration, and print what will do and what will not.

    Args:
        model: Where the model comes from; not given, neither it nor the data are looked at.
        data: What is to be trained on.
        out: The run folder, for the disk.
        lora: The adapter; not given, all weights are trained.
        batch: How cuts are put together.
        train: How the model is to be trained.
        window: How long the model's input is.
        augment: What is done to audio and features.
        targets: What is learned for a cut.
        mfu: Share of the GPU's peak that training reaches, for the estimate of hours.
        json: Print JSON instead of the table.
    """
    if data is not None and model is None:
        raise ConfigError("data is given without a model; give --model, whose tokens and mels the data must fit")
    found = []
    for check in look(model, data, out, lora, batch, train, window, targets, mfu):
        found.append(check)
    if json:
        print(json_format.dumps([asdict(check) for check in found], indent=2, ensure_ascii=False))
    else:
        show(found)
    if bad := [check for check in found if check.state == "bad"]:
        names = ", ".join(dict.fromkeys(check.name for check in bad))
        raise ERRORS[bad[0].area](f"{len(bad)} of {len(found)} checks failed: {names}; the table has the remedies")


def look(
    model: ModelOptions | None,
    data: DataOptions | None,
    out: str,
    lora: LoraOptions | None,
    batch: BatchOptions,
    train: TrainOptions,
    window: WindowOptions,
    targets: TargetOptions,
    mfu: float,
) -> Iterator[Check]:
    """Yield what is found."""
    from egrecho_inner.runtime.machine import machine_checks

    packages = [name for name in train.report_to if name != "tensorboard"]
    packages += ["deepspeed"] if train.deepspeed else []
    yield from machine_checks(Path(out), packages, train.workers if data is not None else 0)
    for key, path in (("train.deepspeed", train.deepspeed), ("train.fsdp", train.fsdp)):
        if path is not None and not Path(path).is_file():
            raise ConfigError(f"{key} {path} does not exist; config/ has some")
    if model is not None:
        from egrecho_inner.training.checkup import Plan, checks

        yield from checks(Plan(model, data, batch, train, window, lora, targets.text, mfu))


def show(found: list[Check]) -> None:
    """Print the table: in colours on a terminal, as plain lines elsewhere."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        for check in found:
            print(
                f"{check.state:5}{check.area}: {check.name}: {check.found}" + f"; {check.remedy}" * bool(check.remedy)
            )
        return
    table = Table(box=None, pad_edge=False)
    for head in ("", "", "", "found", "what to do"):
        table.add_column(head, overflow="fold")
    area = ""
    for check in found:
        place, area = ("" if check.area == area else check.area), check.area
        mark = Text(check.state, style=COLOURS[check.state])
        table.add_row(mark, place, check.name, Text(check.found), Text(check.remedy))
    console.print(table)


if __name__ == "__main__":
    run(doctor)
