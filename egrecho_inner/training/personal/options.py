"""The options of personal runs, apart from the code that uses them."""

from dataclasses import dataclass, field
from typing import Literal

from egrecho_inner.config_types import (
    ClosedUnitInterval,
    NonNegativeFloat,
    Options,
    PositiveFloat,
    PositiveInt,
    Seed,
)
from egrecho_inner.errors import ConfigError

Policy = Literal["encoder", "encoder-top", "full", "lora"]
POLICIES: tuple[Policy, ...] = ("encoder", "encoder-top", "full", "lora")


@dataclass(frozen=True)
class TuneOptions(Options, group="tune"):
    """How a small set of recordings is learned."""

    policy: Policy | Literal["sweep"] = "encoder"
    """What is trained: the encoder, its top layers, all, or an adapter of the encoder; sweep tries all four and takes
    the best on dev."""
    top_layers: PositiveInt = 2
    """Of the encoder, with policy encoder-top."""
    epochs: PositiveFloat = 10.0
    """Passes over the recordings at most."""
    learning_rate: PositiveFloat | None = None
    """Peak; null follows the model's size: tiny 3.8e-5, small 1.3e-5, large 4.4e-6, an adapter 30 times that."""
    end_learning_rate: ClosedUnitInterval = 0.1
    """Where the schedule ends, as a share of the peak."""
    power: PositiveFloat = 4.0
    """Exponent of the polynomial schedule."""
    warmup: ClosedUnitInterval = 0.1
    """Share of the steps in which the learning rate rises; never more than 50 steps."""
    batch_size: PositiveInt = 16
    """Recordings of a step."""
    padded: ClosedUnitInterval = 0.1
    """Share of the recordings that are padded to 30 s, as other programs pad everything; the others are as long as the
    longest of their batch."""
    evals_per_epoch: PositiveInt = 2
    """Evaluations on dev in an epoch."""
    patience: PositiveInt | None = 6
    """Stop after this many evaluations without a better error rate; null never does."""
    curve: list[ClosedUnitInterval] = field(default_factory=list)
    """Train on these shares of the recordings as well, to see what more recordings would give; [0.25, 0.5], say."""
    lora_r: PositiveInt = 16
    """Rank, with policy lora."""
    seed: Seed = 42
    """Of everything random."""
    max_hours: PositiveFloat | None = None
    """Stop after this long, saved; the same command continues."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 < share < 1 for share in self.curve):
            raise ConfigError(f"tune.curve is {self.curve}; expected shares between 0 and 1")

    @property
    def policies(self) -> tuple[Policy, ...]:
        """What is tried."""
        return POLICIES if self.policy == "sweep" else (self.policy,)


@dataclass(frozen=True)
class GuardOptions(Options, group="guard"):
    """What the model must not forget."""

    data: str | None = None
    """Recordings of others: a folder like the one that is learned, or a manifest of cuts; null measures nothing."""
    budget: NonNegativeFloat = 0.01
    """What the error rate on them may rise by, as a fraction: 0.01 is one point."""
    alphas: tuple[ClosedUnitInterval, ...] = (1.0, 0.8, 0.6, 0.4, 0.2)
    """Shares of the tuned weights that are tried, in this order."""
    limit: PositiveInt = 300
    """Recordings that are taken at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.alphas or min(self.alphas) <= 0:
            raise ConfigError(f"guard.alphas {self.alphas}: expected shares above 0 and up to 1")


@dataclass(frozen=True)
class Scoring(Options, group="scoring"):
    """How texts are compared."""

    normalizer: str = "auto"
    """Applied to both sides before scoring; auto is the language's own."""
    metric: Literal["auto", "wer", "cer"] = "auto"
    """Word or character errors; auto takes characters where words have no spaces between them."""
