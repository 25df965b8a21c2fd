"""What fit() knows of a model: a family, handed to it beside the model. Whisper is one (`whisper_family.py`).

In: a model, cuts, the options of a run. Out: inputs and targets, parts, cost, hypotheses, files. Plan, optimizer,
checkpoints, resume, stops and logs are the same for all; `tests/training/toy_family.py` is a complete small example.

The model of a family is an `nn.Module` whose `forward(**inputs, num_items_in_batch=...)` returns, in training, a
mapping or an output of Transformers with `loss`: summed over target tokens and divided by `num_items_in_batch`, the
targets of the global batch (by the batch's own where it is None). So processes and accumulation change nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.inputs import Inputs, Texts
from egrecho_inner.data.batches.tensors import CutBatches, LoadedBatch
from egrecho_inner.results.utterance import Hypothesis
from egrecho_inner.training.options import TrainOptions


class Family(Protocol):
    """Everything that differs from one kind of model to another. The model given is unwrapped, an adapter around it."""

    name: str
    """For the model card: `Whisper`."""
    labels: Texts
    """Texts into targets and back."""
    inputs: Inputs
    """Cuts into the model's input."""
    ties: frozenset[str]
    """Weights that a checkpoint may lack because they are others of its weights again."""
    extras: tuple[str, ...]
    """How the names of weights begin that train with the model but are no part of its result: a checkpoint keeps them
    in a file of their own, a starting point is known without them."""

    def prepare(self, model: nn.Module, train: TrainOptions) -> None:
        """Set on the model what options ask for, before anything is frozen or adapted.

        Raises:
            ConfigError: An option that this family does not have.
        """
        ...

    def parts(self, model: nn.Module) -> Mapping[str, list[nn.Module]]:
        """Name the parts that `train.freeze` and `train.learning_rates` may name. They may overlap."""
        ...

    def encoder(self, model: nn.Module) -> nn.Module | None:
        """Return the encoder whose outputs can be kept while it is frozen (`train.encoder_cache_gb`), or None.

        It takes `input_features` and `attention_mask` as a batch has them; the model takes its output (B, S, D), with
        D its `config.hidden_size`, as `encoder_outputs` instead.
        """
        ...

    def cost(self, model: nn.Module) -> Callable[[LoadedBatch], float] | None:
        """Return what counts the floating-point operations of training on a batch; None leaves MFU out of the log."""
        ...

    def scored(self, cuts: CutList) -> CutBatches:
        """Return what makes the tensors of development cuts: nothing drawn, nothing augmented."""
        ...

    def loss_sum(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Return the loss summed over a batch's targets, of a model in eval mode."""
        ...

    def recognize(
        self, model: nn.Module, cuts: CutList, positions: Iterable[int], batch_seconds: float | None = None
    ) -> Iterable[Hypothesis]:
        """Decode some cuts greedily, for the development error rate.

        A family that cannot has `recognize = None`: then the loss decides which checkpoint is the best.

        Args:
            model: In eval mode, on its device.
            cuts: The development cuts.
            positions: Which of them.
            batch_seconds: Padded audio of a batch; None for the family's own choice.
        """
        ...

    def kept(self, model: nn.Module) -> frozenset[str] | None:
        """Return the names of the weights that a checkpoint keeps; None for all, in the model's own format."""
        ...

    def plain(self, module: nn.Module) -> nn.Module | None:
        """Build a module like this one, the model or its encoder, that no process shares, with any weights.

        Called where weights are sharded over processes (ZeRO-3, FSDP). None says that one process cannot hold it: then
        development cuts are scored by the loss of the sharded model.
        """
        ...

    def digest(self, model: nn.Module) -> str:
        """Name the starting point: weights, tokenizer and all else that another run must have to continue this one."""
        ...

    def facts(self, model: nn.Module) -> dict[str, Any]:
        """Return what `training.json` has to say of the model."""
        ...

    def save(self, model: nn.Module, folder: Path, made: Mapping[str, Any]) -> None:
        """Save the result, with everything that programs look for in such a folder.

        Args:
            model: With its best weights.
            folder: Is renamed into place afterwards.
            made: What `training.json` will hold: `input_window`, `timestamps`, ...
        """
        ...

    def save_kept(self, model: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
        """Save the result of a model that `plain` could not copy, from what a checkpoint keeps of it.

        Args:
            model: Sharded over processes.
            state: The gathered weights, by the names of `kept`, or all of them.
            folder: Is renamed into place afterwards.
        """
        ...
