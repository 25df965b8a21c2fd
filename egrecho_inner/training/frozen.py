"""A frozen encoder in training: with `train.encoder_cache_gb` it runs once for each cut, not once in every epoch.

In: a batch on its way to the model. Out: the same batch with `encoder_outputs`.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from egrecho_inner.data.audio.augment import Augmenter
from egrecho_inner.data.batches.tensors import LoadedBatch
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.encoder_cache import EncoderCache
from egrecho_inner.runtime.passes import make_key

FOLDER = ".encoder_cache"
PURPOSE = "train.encoder_cache_gb keeps the outputs of a frozen encoder on clean audio; "


def open_frozen(trainer: Any) -> "FrozenEncoder":
    """Open the outputs that a run keeps of its frozen encoder.

    Args:
        trainer: A `PlanTrainer`; what the outputs depend on is in its fingerprint.

    Raises:
        ConfigError: The family has none.
    """
    options, family = trainer.options, trainer.family
    encoder = family.encoder(trainer.accelerator.unwrap_model(trainer.model))
    if encoder is None:
        raise ConfigError(f"train.encoder_cache_gb: {family.name} has no encoder whose outputs can be kept")
    if getattr(getattr(trainer.batches, "options", None), "no_speech", 0):
        raise ConfigError(f"{PURPOSE}set targets.no_speech 0, for noise takes the place of other cuts in every epoch")
    known = {name: trainer.fingerprint[name] for name in ("model", "data")}
    key, run = make_key(precision=options.precision, **known), Path(trainer.args.output_dir)
    return FrozenEncoder(encoder, run, options.encoder_cache_gb, trainer.batches.augmenter, trainer.accelerator, key)


class FrozenEncoder:
    """The outputs of a model's frozen encoder, computed once.

    Args:
        encoder: Of the model that is trained.
        run: The run folder; the outputs are in it until the training is finished.
        gigabytes: Room for those of all processes.
        augmenter: What is done to the audio, which must be nothing.
        accelerator: Knows the processes.
        key: Name of all that the outputs depend on: encoder, cuts, precision.

    Raises:
        ConfigError: The encoder or its input changes with every epoch, or processes are on several machines.
    """

    def __init__(
        self,
        encoder: nn.Module,
        run: Path,
        gigabytes: float,
        augmenter: Augmenter | None,
        accelerator: Accelerator,
        key: str,
    ):
        if any(parameter.requires_grad for parameter in encoder.parameters()):
            raise ConfigError(f"{PURPOSE}here it is trained, or adapted: set train.freeze [encoder]")
        if augmenter is not None:
            raise ConfigError(f"{PURPOSE}here every epoch has other audio: set augment null")
        rank, world = accelerator.process_index, accelerator.num_processes
        if int(os.environ.get("LOCAL_WORLD_SIZE", world)) < world:
            raise ConfigError(
                f"{PURPOSE}its processes share one machine's files, here they are on several: set it to 0, or train on "
                "one machine"
            )
        self.encoder, self.folder = encoder, run / FOLDER
        if rank == 0:
            EncoderCache.prepare(self.folder, key)
        accelerator.wait_for_everyone()
        self.cache = EncoderCache(self.folder, encoder.config.hidden_size, gigabytes * 1e9, rank, world)

    def encode(self, batch: LoadedBatch) -> None:
        """Add the encoder's outputs to a batch; one without a usable cut is not changed."""
        if batch.ids:
            self.encoder.eval()  # no dropout: the outputs of all epochs are the same
            features, mask = batch.inputs["input_features"], batch.inputs.get("attention_mask")
            weight = next(self.encoder.parameters())
            features = features.to(weight.device, weight.dtype)  # under DeepSpeed weights are bf16 or fp16
            with torch.no_grad():
                batch.inputs["encoder_outputs"] = (self.cache(self.encoder, batch.ids, features, mask),)

    def remove(self) -> None:
        """Remove what was kept; the training is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
