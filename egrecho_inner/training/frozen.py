"""A frozen encoder in training: with `train.encoder_cache_gb` it runs once for each cut, not once in every epoch.

In: a batch on its way to the model, the ids of its cuts. Out: the same batch with `encoder_outputs`.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from egrecho_inner.data.augment import Augmenter
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.encoder_cache import EncoderCache

WANTED = "train.encoder_cache_gb keeps what a frozen encoder says of clean audio; "


class FrozenEncoder:
    """The outputs of a model's frozen encoder, remembered.

    Args:
        encoder: Of the model that is trained.
        folder: Where they are kept while the process lives; each process has its own.
        gigabytes: Room for them.
        augmenter: What is done to the audio, which must be nothing.

    Raises:
        ConfigError: The encoder, or what it hears, is another in every epoch.
    """

    def __init__(self, encoder: nn.Module, folder: Path, gigabytes: float, augmenter: Augmenter | None):
        if any(parameter.requires_grad for parameter in encoder.parameters()):
            raise ConfigError(f"{WANTED}here it is trained, or adapted: set train.freeze [encoder]")
        if augmenter is not None:
            raise ConfigError(f"{WANTED}here every epoch hears it otherwise: set augment null")
        self.encoder, self.cache = encoder, EncoderCache(folder, encoder.config.d_model, gigabytes * 1e9)

    def hear(self, sample: dict[str, Any], ids: list[str]) -> None:
        """Add what the encoder says of a batch; one without a usable cut is left as it is."""
        if ids:
            self.encoder.eval()  # no dropout: it is to say the same every time
            features, mask = sample["input_features"], sample.get("attention_mask")
            weight = next(self.encoder.parameters())
            features = features.to(weight.device, weight.dtype)  # under DeepSpeed weights are bf16 or fp16
            with torch.no_grad():
                sample["encoder_outputs"] = (self.cache(self.encoder, ids, features, mask),)
