"""The encoder of a speech LLM: any Whisper, WavLM, HuBERT or wav2vec 2.0 of Transformers, at true lengths.

In: log-mel (R, F, T) for Whisper, waves (R, T) at 16 kHz for the others, and a mask of each window's own part. Out:
frames (R, S, D). A window's frames do not depend on its batch mates: convolutions
without padding never look behind a window's last frame, the group norm of older models is taken over a window's own
frames, and every attention is masked.
Left out: the masks that Transformers lays on frames in training (`apply_spec_augment`), which a frozen encoder must not
have.

R windows, F mel bins, T mel frames (10 ms) or samples, S frames (20 ms), D width, C channels.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, WhisperConfig
from transformers.modeling_outputs import BaseModelOutput

from egrecho_inner.errors import ModelError
from egrecho_inner.model.length import LengthEncoder
from egrecho_inner.model.projector import Reduction

WAVE_TYPES = ("wavlm", "hubert", "wav2vec2")
MEL_WINDOW, WAVE_WINDOW = 3000, 480_000
"""30 s, the longest window: Whisper has no position behind it, and the others were trained on less."""


NO_REDUCTION = Reduction(1)


@dataclass(frozen=True)
class AudioShape:
    """What an encoder takes and how much comes of it: the one place where lengths are computed."""

    kind: str
    """mel or wave."""
    n_mels: int = 80
    normalize: bool = False
    """Bring every wave to mean 0 and variance 1 first."""
    convolutions: tuple[tuple[int, int], ...] = ()
    """Kernel and stride of each, of waves."""
    reduction: Reduction = NO_REDUCTION
    """The projector's."""

    @property
    def window(self) -> int:
        """Return the longest input of a window, in frames or samples."""
        return MEL_WINDOW if self.kind == "mel" else WAVE_WINDOW

    def frames(self, length: int | Tensor) -> int | Tensor:
        """Return the encoder's frames S for T mel frames or samples."""
        if self.kind == "mel":
            return (length + 1) // 2
        for kernel, stride in self.convolutions:
            length = (length - kernel) // stride + 1
        return length.clamp(min=0) if isinstance(length, Tensor) else max(length, 0)

    def windows(self, length: int) -> list[int]:
        """Divide a length into windows of 30 s at most, as equal as can be."""
        count = max(-(-length // self.window), 1)
        edges = [length * place // count for place in range(count + 1)]
        return [end - begin for begin, end in pairwise(edges)]

    def vectors(self, length: int) -> int:
        """Return how many vectors the language model gets for T mel frames or samples, over all windows."""
        return sum(int(self.reduction(self.frames(part))) for part in self.windows(length))


class AudioEncoder(nn.Module):
    """An encoder with the shape of its input.

    Args:
        model: Whisper's encoder, or a whole WavLM, HuBERT or wav2vec 2.0.
        shape: Of its input, without a projector's reduction.
    """

    def __init__(self, model: PreTrainedModel, shape: AudioShape):
        super().__init__()
        self.model, self.shape = model, shape
        self.width = model.config.d_model if shape.kind == "mel" else model.config.hidden_size

    @property
    def config(self) -> PretrainedConfig:
        """The model's own."""
        return self.model.config

    def forward(self, input_features: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        """Encode windows.

        Args:
            input_features: (R, F, T) log-mel, or (R, T) waves.
            attention_mask: 1 on a window's own part (R, T).

        Returns:
            With `last_hidden_state` (R, S, D); `shape.frames` is how many of S are a window's own.
        """
        features = input_features.to(next(self.model.parameters()).dtype)
        if self.shape.kind == "mel":
            return self.model(features, attention_mask=attention_mask)
        lengths = attention_mask.sum(-1)
        hidden = self.model.feature_projection(self.convolve(features, lengths).transpose(1, 2))
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden  # HuBERT gives one, the others two
        counts = self.shape.frames(lengths)
        mask = torch.arange(hidden.shape[1], device=hidden.device)[None] < counts[:, None]
        return self.model.encoder(hidden, attention_mask=mask)

    def convolve(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Run the convolutions (R, T) -> (R, C, S), a group norm over each window's own frames."""
        layers = self.model.feature_extractor.conv_layers
        hidden = waves[:, None]
        for place, (layer, (kernel, stride)) in enumerate(zip(layers, self.shape.convolutions, strict=True)):
            lengths = (lengths - kernel) // stride + 1
            norm = getattr(layer, "layer_norm", None)
            if place == 0 and isinstance(norm, nn.GroupNorm):
                hidden = layer.activation(masked_group_norm(layer.conv(hidden), lengths, norm))
            else:
                hidden = layer(hidden)
        return hidden

    def train(self, mode: bool = True) -> "AudioEncoder":
        """Switch to training, but for an encoder of which nothing is trained: it has no dropout and drops no layer."""
        return super().train(mode and any(each.requires_grad for each in self.parameters()))


def masked_group_norm(hidden: Tensor, lengths: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Normalise each channel of (R, C, S) over a window's own steps (Baevski et al. 2020 have a group per channel)."""
    mask = (torch.arange(hidden.shape[-1], device=hidden.device)[None] < lengths[:, None])[:, None]  # (R, 1, S)
    exact = hidden.float()
    count = lengths.clamp(min=1)[:, None, None].float()
    mean = (exact * mask).sum(-1, keepdim=True) / count
    variance = ((exact - mean) * mask).square().sum(-1, keepdim=True) / count
    scaled = (exact - mean) * (variance + norm.eps).rsqrt()
    return (scaled * norm.weight.float()[:, None] + norm.bias.float()[:, None]).to(hidden.dtype)


def shape_of(config: PretrainedConfig, normalize: bool | None = None, where: str = "the encoder") -> AudioShape:
    """Return what an encoder takes.

    Args:
        config: Of the model.
        normalize: `do_normalize` of its `preprocessor_config.json`; None where it is not given.
        where: Names the model in an error.

    Raises:
        ModelError: It is no encoder of speech, or of waves it is not known whether they are normalised.
    """
    if config.model_type == "whisper":
        return AudioShape("mel", n_mels=config.num_mel_bins)
    if config.model_type not in WAVE_TYPES:
        kinds = ", ".join(("whisper", *WAVE_TYPES))
        raise ModelError(f"{where} is a {config.model_type} model; expected one of {kinds}")
    if getattr(config, "add_adapter", False):
        raise ModelError(f"{where} has an adapter that changes its frame rate (add_adapter); give one without")
    if normalize is None:
        raise ModelError(
            f"{where} has no preprocessor_config.json with do_normalize; set model.normalize true or false, as it was "
            "trained"
        )
    return AudioShape(
        "wave", normalize=normalize, convolutions=tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
    )


def empty_encoder(config: PretrainedConfig, normalize: bool = True) -> AudioEncoder:
    """Make an encoder of a config with random weights, or on the meta device with none."""
    from transformers import AutoModel  # the table of all models: seconds to import

    model = LengthEncoder(config) if isinstance(config, WhisperConfig) else AutoModel.from_config(config)
    return AudioEncoder(model, shape_of(config, normalize))


def with_reduction(shape: AudioShape, reduction: Reduction) -> AudioShape:
    """Return a shape whose vectors are a projector's."""
    return replace(shape, reduction=reduction)
