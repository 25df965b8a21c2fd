"""A moving average of the weights in training (`train.ema`): it is scored, chosen by, and becomes the result.

In: the trained weights after each optimizer step. Out: for each an average a <- d a + (1 - d) w in fp32 (Polyak and
Juditsky 1992; Tarvainen and Valpola 2017, arXiv:1703.01780), in a file of each checkpoint, so that a continued run
goes on with the same bits. What is trained on are the weights themselves.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

from egrecho_inner.errors import ModelError

FILE = "average.safetensors"
"""In a checkpoint, beside the weights that training goes on from."""


class Average(TrainerCallback):
    """The averages of a model's trained weights.

    Args:
        model: Unwrapped; the averages begin with its present weights.
        decay: d.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model, self.decay = model, decay
        self.averages: dict[str, Tensor] = {}

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the weights that are trained, by name."""
        return ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin with the weights, unless a checkpoint has been read; they are on their device by now."""
        if not self.averages:
            self.averages = {name: weight.detach().float().clone() for name, weight in self.trained()}
        self.averages = {name: self.averages[name].to(weight.device) for name, weight in self.trained()}

    @torch.no_grad()
    def on_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        """Move the averages towards the weights; an overflow of fp16 left those as they were."""
        if not optimizer.step_was_skipped:
            for name, weight in self.trained():
                self.averages[name].lerp_(weight.float(), 1 - self.decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages in the place of the weights for a while."""
        kept = {name: weight.data for name, weight in self.trained()}
        try:
            for name, weight in self.trained():
                weight.data = self.averages[name].to(weight.dtype)
            yield
        finally:
            for name, weight in self.trained():
                weight.data = kept[name]

    def save(self, folder: Path) -> None:
        """Write the averages into a checkpoint."""
        save_file({name: value.contiguous() for name, value in self.averages.items()}, folder / FILE)

    def load(self, folder: Path) -> None:
        """Read the averages of a checkpoint.

        Raises:
            ModelError: It has none, or another model's.
        """
        found = load_file(folder / FILE) if (folder / FILE).is_file() else {}
        if found.keys() != {name for name, _ in self.trained()}:
            raise ModelError(f"{folder} has no {FILE} of this model; train.ema cannot begin in the middle of a run")
        self.averages = found


def follow(trainer: Any, decay: float | None) -> Average | None:
    """Average what a trainer trains, from now on; None without a decay."""
    if decay is None:
        return None
    average = Average(trainer.model, decay)
    trainer.add_callback(average)
    return average


def load_averages(model: nn.Module, folder: Path) -> None:
    """Give a model the averages of a checkpoint, where it has some."""
    if (folder / FILE).is_file():
        weights = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in load_file(folder / FILE).items():
                weights[name].copy_(value)
