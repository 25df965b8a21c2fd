"""Watching a run: what is counted between two lines, and where the lines go.

`metrics.jsonl` always; a progress bar on a terminal, elsewhere a line every 30 s; `progress.png` with the loss and the
development scores; TensorBoard and others through `train.report_to`.
"""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainingArguments

logger = logging.getLogger(__name__)

QUIET_SECONDS = 30.0


class Tally:
    """What the trainer counts between two lines of the log."""

    def __init__(self) -> None:
        self.ids: list[list[str]] = []
        self.skipped: dict[str, str] = {}
        self.nonfinite = 0
        self.reset()

    def reset(self) -> None:
        """Begin a new line."""
        self.audio = self.padded = self.waited = 0.0
        self.flops = 0.0
        self.began = time.perf_counter()

    def note(self, sample: dict[str, Any]) -> None:
        """Take out of a batch what is for the log, not for the model."""
        self.audio += sample.pop("seconds")
        self.padded += sample.pop("padded_seconds")
        for cut, reason in sample.pop("skipped"):
            if cut not in self.skipped:
                logger.warning("left out: %s", reason)
                self.skipped[cut] = reason

    def speed(self, world_size: int, peak_flops: float | None) -> dict[str, float]:
        """Return this process's figures (audio seconds times the processes) and begin anew."""
        elapsed = max(time.perf_counter() - self.began, 1e-9)
        figures = {
            "audio_seconds_per_second": round(world_size * self.audio / elapsed, 1),
            "padding": round(1 - self.audio / max(self.padded, 1e-9), 4),
            "data_wait": round(self.waited / elapsed, 4),
            "peak_memory_gb": round(peak_memory() / 1e9, 2),
        }
        if peak_flops:
            figures["mfu"] = round(self.flops / elapsed / peak_flops, 4)
        if self.skipped:
            figures["skipped"] = len(self.skipped)
        if self.nonfinite:
            figures["nonfinite"] = self.nonfinite
        self.reset()
        return figures


def peak_memory() -> int:
    """Return the most bytes this process has held: of the GPU where there is one, else of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    for line in Path("/proc/self/status").read_text().splitlines() if sys.platform == "linux" else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class Metrics(TrainerCallback):
    """Write every line of the log to `metrics.jsonl` and to the console, and draw them."""

    def __init__(self, run: Path):
        self.path = run / "metrics.jsonl"
        self.said = time.monotonic()
        self.bar: Progress | None = None

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
                beside = self.path.with_name(self.path.name + ".tmp")
                beside.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
                beside.replace(self.path)
        console = Console(stderr=True)
        if console.is_terminal:
            columns = (
                "step",
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            )
            self.bar = Progress(*columns, console=console, transient=True)
            self.bar.start()
            self.bar.add_task("", total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=state.global_step)
        elif time.monotonic() - self.said > QUIET_SECONDS and state.is_world_process_zero:
            logger.info("step %d/%d", state.global_step, state.max_steps)
            self.said = time.monotonic()

    def on_log(self, args: TrainingArguments, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
        if state.is_world_process_zero and logs:
            logs = {name: value for name, value in logs.items() if name != "total_flos"}
            with open(self.path, "a", encoding="utf-8") as out:
                out.write(json.dumps({"step": state.global_step, **logs}) + "\n")
            if self.bar is not None:
                shown = [
                    f"{name} {value:.4g}" for name, value in logs.items() if name in ("loss", "eval_wer", "eval_cer")
                ]
                self.bar.update(self.bar.task_ids[0], description=" ".join(shown))
            logger.info("step %d/%d %s", state.global_step, state.max_steps, shorten(logs))
            self.said = time.monotonic()

    def on_evaluate(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            draw(self.path, self.path.with_name("progress.png"))

    def on_train_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None:
            self.bar.stop()
        if state.is_world_process_zero:
            draw(self.path, self.path.with_name("progress.png"))


def step_of(line: str) -> int:
    """Return the step of a line of `metrics.jsonl`; a torn line belongs to no step that stays."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize


def is_score(line: str, step: int) -> bool:
    """Tell whether a line of `metrics.jsonl` is the evaluation of a step."""
    return step_of(line) == step and "eval_loss" in json.loads(line)


def draw(metrics: Path, picture: Path) -> None:
    """Draw the loss and the development scores over the steps."""
    import matplotlib.figure  # half a second that a run without a log line need not pay

    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()] if metrics.is_file() else []
    figure = matplotlib.figure.Figure(figsize=(8, 4.5), layout="constrained")
    left = figure.add_subplot()
    left.set(xlabel="step", ylabel="loss", yscale="log")
    right = left.twinx()
    right.set(ylabel="error rate, development (%)")
    lines = []
    curves = {"loss": (left, "-C0", 1), "eval_loss": (left, "o-C1", 1)}
    curves |= {"eval_wer": (right, "s-C2", 100), "eval_cer": (right, "s-C3", 100)}
    for key, (axes, style, scale) in curves.items():
        points = [(row["step"], scale * row[key]) for row in rows if isinstance(row.get(key), (int, float))]
        if points:
            lines += axes.plot(*zip(*points, strict=True), style, label=key, markersize=4)
    right.set_ylim(bottom=0)
    if lines:
        left.legend(handles=lines, loc="upper right")
    beside = picture.with_name(picture.name + ".tmp")
    figure.savefig(beside, format="png", dpi=120)
    beside.replace(picture)


def shorten(logs: dict[str, Any]) -> dict[str, Any]:
    """Round the numbers of a log line for the eye."""
    return {name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in logs.items()}
