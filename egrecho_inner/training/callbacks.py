"""Watching a run: what is counted between two lines, and where the lines go.

`metrics.jsonl` always; a progress bar on a terminal, elsewhere a line every 30 s; `progress.png` with the loss and the
development scores; TensorBoard and others through `train.report_to`.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback

from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.plan import BatchPlan
from egrecho_inner.data.batches.stream import StreamPlan
from egrecho_inner.data.batches.tensors import LoadedBatch
from egrecho_inner.runtime.devices import peak_memory
from egrecho_inner.runtime.files import write_text
from egrecho_inner.text.scoring import percent
from egrecho_inner.training import collectives
from egrecho_inner.training.guards.skips import Skips

logger = logging.getLogger(__name__)

QUIET_SECONDS = 30.0


WORDS: dict[str, Callable[[float], str]] = {
    "loss": "loss {:.4g}".format,
    "learning_rate": "learning rate {:.3g}".format,
    "grad_norm": "gradient norm {:.3g}".format,
    "audio_seconds_per_second": "{:,.1f} s of audio/s".format,
    "padding": lambda share: f"padding {100 * share:.1f} %",
    "data_wait": lambda share: f"waiting for data {100 * share:.1f} %",
    "peak_memory_gb": "{:.2f} GB at most".format,
    "mfu": lambda share: f"MFU {100 * share:.1f} %",
    "joined": lambda share: f"{100 * share:.1f} % of the cuts joined",
    "skipped": "{:,} cuts left out".format,
    "nonfinite": "{:,} updates left out".format,
    "eval_wer": lambda rate: f"development WER {percent(rate)} %",
    "eval_cer": lambda rate: f"development CER {percent(rate)} %",
    "eval_loss": "development loss {:.4g}".format,
    "eval_runtime": "evaluated in {:.1f} s".format,
    "eval_samples_per_second": "{:,.1f} cuts/s".format,
    "eval_steps_per_second": "{:,.3g} batches/s".format,
    "train_loss": "mean loss {:.4g}".format,
    "train_runtime": "trained for {:,.1f} s, evaluations and checkpoints included".format,
    "train_steps_per_second": "{:.3g} steps/s".format,
}
"""How people read the figures of `metrics.jsonl`: error rates and shares in per cent, with their units."""


class Tally:
    """What the trainer counts between two lines of the log."""

    def __init__(self, skips: Skips) -> None:
        self.skips = skips
        self.ids: list[list[str]] = []
        self.nonfinite = 0
        self.orthogonality: torch.Tensor | None = None
        """AdaLoRA's penalty in the last step, which is not in the loss of the log."""
        self.reset()

    def reset(self) -> None:
        """Begin a new line."""
        self.audio = self.padded = self.waited = 0.0
        self.cuts = self.joined = 0
        self.flops = 0.0
        self.began = time.perf_counter()

    def note(self, batch: LoadedBatch) -> None:
        """Count a batch."""
        self.audio += batch.seconds
        self.padded += batch.padded_seconds
        self.cuts += len(batch.ids)
        self.joined += batch.joined
        self.ids.append(batch.ids)
        self.skips.note(batch.ids, batch.skipped)

    def speed(self, device: torch.device, peak_flops: float | None) -> dict[str, float]:
        """Return the figures of all processes together, of waiting and memory the highest, and begin anew."""
        elapsed = max(time.perf_counter() - self.began, 1e-9)
        counted = [self.audio, self.padded, self.flops, 1.0, self.cuts, self.joined]
        audio, padded, flops, processes, cuts, joined = collectives.total(counted, device)
        waited, memory = collectives.largest([self.waited / elapsed, peak_memory()], device)
        figures = {
            "audio_seconds_per_second": round(audio / elapsed, 1),
            "padding": round(1 - audio / max(padded, 1e-9), 4),
            "data_wait": round(waited, 4),
            "peak_memory_gb": round(memory / 1e9, 2),
        }
        if peak_flops:
            figures["mfu"] = round(flops / processes / elapsed / peak_flops, 4)
        if joined:
            figures["joined"] = round(joined / cuts, 4)
        if self.skips.reasons:
            figures["skipped"] = len(self.skips.reasons)
        if self.orthogonality is not None:
            figures["orthogonality"] = round(float(self.orthogonality), 5)
        if self.nonfinite:
            figures["nonfinite"] = self.nonfinite
        self.reset()
        return figures


class Metrics(TrainerCallback):
    """Write every line of the log to `metrics.jsonl` and to the console, and draw them."""

    def __init__(self, run: Path):
        self.path = run / "metrics.jsonl"
        self.logged = time.monotonic()
        self.bar: Progress | None = None
        self.latest: dict[str, float] = {}
        """Last loss and last development score, beside the bar."""

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Forget lines of steps that a killed run took after its last checkpoint: they are taken again."""
        if not state.is_world_process_zero:
            return
        if self.path.is_file():
            lines = self.path.read_text(encoding="utf-8").splitlines()
            # a checkpoint is older than the evaluation of its step, which is logged again
            known = any(entry["step"] == state.global_step and "eval_loss" in entry for entry in state.log_history)
            last = state.global_step + 1
            kept = [line for line in lines if step_of(line) < last and (known or not is_score(line, last - 1))]
            if len(kept) < len(lines):
                write_text(self.path, "".join(line + "\n" for line in kept))
        console = Console(stderr=True)
        if console.is_terminal and logger.isEnabledFor(logging.INFO):  # --quiet
            columns = (
                "step",
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("left"),
                TextColumn("{task.description}"),
            )
            self.bar = Progress(*columns, console=console, transient=True)
            self.bar.start()
            self.bar.add_task("", total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=state.global_step)
        elif time.monotonic() - self.logged > QUIET_SECONDS and state.is_world_process_zero:
            logger.info("step %d/%d", state.global_step, state.max_steps)
            self.logged = time.monotonic()

    def on_log(self, args: TrainingArguments, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
        if state.is_world_process_zero and logs:
            logs = {name: value for name, value in logs.items() if name != "total_flos"}
            with open(self.path, "a", encoding="utf-8") as out:
                out.write(json.dumps({"step": state.global_step, **logs}) + "\n")
            if self.bar is not None:
                self.latest |= {name: logs[name] for name in ("loss", "eval_wer", "eval_cer") if name in logs}
                self.bar.update(self.bar.task_ids[0], description=in_words(self.latest))
            epoch = f", epoch {state.epoch:.2f}" if state.epoch is not None else ""
            figures = {name: value for name, value in logs.items() if name != "epoch"}
            logger.info("step %d/%d%s: %s", state.global_step, state.max_steps, epoch, in_words(figures))
            self.logged = time.monotonic()

    def on_evaluate(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            draw(self.path, self.path.with_name("progress.png"))

    def close(self) -> None:
        """Take the progress bar away; one that an error leaves there hides the cursor and allows no second one."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def on_train_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        self.close()
        if state.is_world_process_zero:
            draw(self.path, self.path.with_name("progress.png"))


class Board(TensorBoardCallback):
    """Send the figures to TensorBoard, all starts of a run as one curve in `runs/` of its folder."""

    def __init__(self, run: Path):
        super().__init__()
        self.logging_dir = str(run / "runs")

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        if (
            state.is_world_process_zero
        ):  # steps after the checkpoint are taken again: TensorBoard forgets the first ones
            self.tb_writer = SummaryWriter(self.logging_dir, purge_step=state.global_step + 1)
        super().on_train_begin(args, state, control, **kwargs)


def describe(model: nn.Module, cuts: CutList, plan: BatchPlan | StreamPlan, max_steps: int) -> None:
    """Log what is about to happen."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    padding = "in a stream" if isinstance(plan, StreamPlan) else f"padding {100 * plan.padding_share():.1f} %"
    logger.info(
        "%s cuts, %.2f h (%s); %d steps, %.1f epochs, %s; %s of %s parameters are trained",
        f"{len(cuts):,}", cuts.durations.sum() / 3600, cuts.summary(), max_steps, plan.epochs_at(max_steps),
        padding, f"{trained:,}", f"{total:,}",
    )  # fmt: skip


def step_of(line: str) -> int:
    """Return the step of a line of `metrics.jsonl`; a torn line belongs to no step that stays."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize


def is_score(line: str, step: int) -> bool:
    """Return whether a line of `metrics.jsonl` is the evaluation of a step."""
    return step_of(line) == step and "eval_loss" in json.loads(line)


def in_words(logs: Mapping[str, Any]) -> str:
    """Write the figures of a log line for people; those without words of their own as `name value`."""
    parts = []
    for name, value in logs.items():
        if name.removesuffix("_low").removesuffix("_high") in logs and name.endswith(("_low", "_high")):
            continue  # stands behind its rate
        if not isinstance(value, (int, float)):
            parts.append(f"{name} {value}")
            continue
        parts.append(WORDS[name](value) if name in WORDS else f"{name} {value:.4g}")
        if f"{name}_low" in logs:
            parts[-1] += f" ({percent(logs[f'{name}_low'])} to {percent(logs[f'{name}_high'])})"
    return ", ".join(parts)


def draw(metrics: Path, picture: Path) -> None:
    """Draw the loss and the development scores over the steps."""
    import matplotlib.figure  # half a second that a run without a log line need not pay
    from matplotlib.ticker import LogFormatter

    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()] if metrics.is_file() else []

    class PlainLog(LogFormatter):
        """Write 0.6 where the default writes 6×10⁻¹."""

        def __call__(self, value: float, place: int | None = None) -> str:
            return f"{value:g}" if super().__call__(value, place) else ""

    figure = matplotlib.figure.Figure(figsize=(8, 4.5), layout="constrained")
    left = figure.add_subplot()
    left.set(xlabel="step", ylabel="loss", yscale="log")
    left.yaxis.set_major_formatter(PlainLog())
    left.yaxis.set_minor_formatter(PlainLog(minor_thresholds=(1.5, 0.6)))
    right = left.twinx()
    right.set(ylabel="error rate, development (%)")
    lines = []
    curves = {"loss": (left, "-C0", 1, "loss"), "eval_loss": (left, "o-C1", 1, "development loss")}
    curves |= {f"eval_{rate}": (right, style, 100, rate.upper()) for rate, style in (("wer", "s-C2"), ("cer", "s-C3"))}
    for key, (axes, style, scale, label) in curves.items():
        points = [(row["step"], scale * row[key]) for row in rows if isinstance(row.get(key), (int, float))]
        if points:
            lines += axes.plot(*zip(*points, strict=True), style, label=label, markersize=4)
    right.set_ylim(bottom=0)
    if lines:
        left.legend(handles=lines, loc="upper right")
    beside = picture.with_name(picture.name + ".tmp")
    figure.savefig(beside, format="png", dpi=120)
    beside.replace(picture)
