"""Projectors: from an encoder's frames to vectors of a language model's width, some frames to a vector.

In: (R, S, D) frames of R windows, of which the first `lengths[i]` are a window's own. Out: (R, N, E) vectors, and how
many of them are a window's own; `Reduction` is the one place that knows that number. A window's own vectors never
depend on frames behind its end. Names of weights are those of SLAM-LLM, so that its checkpoints load.

R windows, S frames, N vectors, K frames to a vector, D width of the encoder, E width of the language model.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from egrecho_inner.model.speech_options import ProjectorOptions


@dataclass(frozen=True)
class Reduction:
    """How many vectors a projector makes of a number of frames."""

    stride: int
    """K."""
    keep_tail: bool = False
    """Pad the last, incomplete group with zeros instead of leaving it out."""
    queries: int | None = None
    """As many vectors as this, whatever the frames."""

    def __call__(self, frames: int | Tensor) -> int | Tensor:
        """Return N for S."""
        if self.queries is not None:
            return frames * 0 + self.queries
        return (frames + (self.stride - 1 if self.keep_tail else 0)) // self.stride


class Projector(nn.Module, ABC):
    """Base of the projectors.

    Args:
        frames: D.
        width: E.
        options: Kind, stride and hidden width.
    """

    reduction: Reduction

    def __init__(self, frames: int, width: int, options: ProjectorOptions):
        super().__init__()
        self.reduction = Reduction(options.stride)
        self.out_norm = nn.RMSNorm(width, eps=1e-6) if options.norm else None

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Project.

        Args:
            frames: (R, S, D), anything behind a window's end.
            lengths: Frames of each window (R,).

        Returns:
            Vectors (R, N, E), and how many are a window's own (R,).
        """
        mask = torch.arange(frames.shape[1], device=frames.device)[None] < lengths[:, None]  # (R, S)
        vectors = self.project(frames * mask[:, :, None].to(frames.dtype), mask)
        return vectors if self.out_norm is None else self.out_norm(vectors), self.reduction(lengths)

    @abstractmethod
    def project(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return (R, N, E) for frames (R, S, D) that are zero behind a window's end."""

    def stack(self, frames: Tensor) -> Tensor:
        """Put K neighbouring frames into one (R, N, K D); a window shorter than K has none."""
        rows, steps, width = frames.shape
        count = int(self.reduction(steps))
        size = count * self.reduction.stride
        frames = nn.functional.pad(frames, (0, 0, 0, size - steps)) if size > steps else frames[:, :size]
        return frames.reshape(rows, count, self.reduction.stride * width)


class Linear(Projector):
    """SLAM-ASR's (Ma et al. 2024, arXiv:2402.08846): K frames, a hidden layer of 2,048, ReLU."""

    def __init__(self, frames: int, width: int, options: ProjectorOptions):
        super().__init__(frames, width, options)
        self.linear1 = nn.Linear(options.stride * frames, options.hidden)
        self.linear2 = nn.Linear(options.hidden, width)

    def project(self, frames: Tensor, mask: Tensor) -> Tensor:
        return self.linear2(self.linear1(self.stack(frames)).relu())


class Mlp(Projector):
    """Icefall's: as wide as the language model."""

    def __init__(self, frames: int, width: int, options: ProjectorOptions):
        super().__init__(frames, width, options)
        self.linear1 = nn.Linear(options.stride * frames, width)
        self.linear2 = nn.Linear(width, width)

    def project(self, frames: Tensor, mask: Tensor) -> Tensor:
        return self.linear2(self.linear1(self.stack(frames)).relu())


class Convolution(Projector):
    """SLAM-LLM's cov1d-linear: a convolution of K frames, ReLU, a hidden layer."""

    def __init__(self, frames: int, width: int, options: ProjectorOptions):
        super().__init__(frames, width, options)
        self.conv1d = nn.Conv1d(frames, frames, options.stride, stride=options.stride)
        self.linear1 = nn.Linear(frames, options.hidden)
        self.linear2 = nn.Linear(options.hidden, width)

    def project(self, frames: Tensor, mask: Tensor) -> Tensor:
        if frames.shape[1] < self.reduction.stride:
            return frames.new_zeros(len(frames), 0, self.linear2.out_features)
        hidden = self.conv1d(frames.transpose(1, 2)).transpose(1, 2).relu()  # (R, N, D)
        return self.linear2(self.linear1(hidden).relu())


class Swiglu(Projector):
    """Ultravox's: K frames with the last group padded, norms before and within, a gated hidden layer."""

    def __init__(self, frames: int, width: int, options: ProjectorOptions):
        super().__init__(frames, width, options)
        self.reduction = Reduction(options.stride, keep_tail=True)
        self.ln_pre = nn.RMSNorm(options.stride * frames, eps=1e-6)
        self.linear_1 = nn.Linear(options.stride * frames, 2 * options.hidden, bias=False)
        self.ln_mid = nn.RMSNorm(options.hidden, eps=1e-6)
        self.linear_2 = nn.Linear(options.hidden, width, bias=False)
        nn.init.constant_(self.ln_pre.weight, 0.4)

    def project(self, frames: Tensor, mask: Tensor) -> Tensor:
        value, gate = self.linear_1(self.ln_pre(self.stack(frames))).chunk(2, -1)
        return self.linear_2(self.ln_mid(nn.functional.silu(gate) * value))


class QFormer(Projector):
    """SLAM-LLM's q-former: learned queries that attend to the window's frames; always as many vectors."""

    def __init__(self, frames: int, width: int, options: ProjectorOptions):
        super().__init__(frames, width, options)
        from transformers import Blip2QFormerConfig, Blip2QFormerModel  # seconds to import, for this kind alone

        self.reduction = Reduction(options.stride, queries=options.queries)
        config = Blip2QFormerConfig(encoder_hidden_size=frames, num_hidden_layers=options.layers)
        self.qformer = Blip2QFormerModel(config)
        self.query = nn.Parameter(torch.zeros(1, options.queries, config.hidden_size))
        nn.init.normal_(self.query)
        self.linear = nn.Linear(config.hidden_size, width)
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def project(self, frames: Tensor, mask: Tensor) -> Tensor:
        found = self.qformer(
            query_embeds=self.query.expand(len(frames), -1, -1),
            encoder_hidden_states=frames,
            encoder_attention_mask=mask.long(),  # 1 is a frame: a padding mask here would attend to the padding alone
        )
        return self.norm(self.linear(found.last_hidden_state))


KINDS: dict[str, type[Projector]] = {
    "linear": Linear,
    "cov1d": Convolution,
    "q-former": QFormer,
    "mlp": Mlp,
    "swiglu": Swiglu,
}


def make_projector(options: ProjectorOptions, frames: int, width: int) -> Projector:
    """Make a projector between two models' widths.

    Args:
        options: Kind, stride and hidden width.
        frames: Width of the encoder.
        width: Width of the language model.
    """
    return KINDS[options.kind](frames, width, options)
