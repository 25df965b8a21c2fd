"""The options of this room, apart from the code that uses them: a command line is read without torch or Lhotse."""

from dataclasses import dataclass, field
from typing import Literal

from egrecho_inner.config_types import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    Options,
    PositiveFloat,
    PositiveInt,
    Seed,
    ShareBelowOne,
)
from egrecho_inner.data.batches.options import ConcatenateOptions, RowOptions
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.options import Window

Method = Literal["full", "lora"]
Sharding = Literal["none", "zero1", "zero2", "zero3", "zero2+offload", "zero3+offload"]
Optimizer = Literal["adamw", "lion", "adafactor", "sgd"]
Schedule = Literal["constant", "constant_with_warmup", "linear", "cosine", "polynomial"]
Precision = Literal["fp32", "bf16", "fp16"]
Watcher = Literal["tensorboard", "wandb", "trackio"]


@dataclass(frozen=True)
class TrainOptions(Options, group="train"):
    """How a model is trained."""

    num_epochs: PositiveFloat = 3.0
    """Passes over the data; ignored when max_steps is given."""
    max_steps: PositiveInt | None = None
    """Optimizer steps."""
    epoch_steps: PositiveInt | None = None
    """Steps that are called an epoch, for num_epochs, eval_per_epoch and the log; null is a pass over the data, which a
    stream of Shar folders cannot count."""
    learning_rate: PositiveFloat = 1e-5
    """Peak learning rate."""
    learning_rates: dict[str, PositiveFloat] = field(default_factory=dict)
    """Peak learning rates of parts that have another one: {encoder: 1.0e-6}. Parts as for freeze; of parts within
    parts the smallest that is named counts."""
    schedule: Schedule = "constant_with_warmup"
    """How the learning rate goes on after the warm-up."""
    min_learning_rate: NonNegativeFloat = 0.0
    """Where the polynomial schedule ends."""
    power: PositiveFloat = 1.0
    """Exponent of the polynomial schedule."""
    warmup_steps: NonNegativeFloat = 0.05
    """Steps of warm-up; below 1 a share of all steps."""
    optimizer: Optimizer = "adamw"
    """Lion wants a learning rate about a tenth of AdamW's (Chen et al. 2023, arXiv:2302.06675)."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled; not on biases and norms."""
    weight_decays: dict[str, NonNegativeFloat] = field(default_factory=dict)
    """Weight decay of parts that have another one, named as in learning_rates."""
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.98)
    """Of AdamW and Lion."""
    eps: PositiveFloat = 1e-8
    """Of AdamW, added to the root of the second moment."""
    ema: ShareBelowOne | None = None
    """Decay of a moving average of the weights that is scored and becomes the result, 0.999 say; null takes the weights
    themselves. Not for adapters, nor with train.deepspeed or train.fsdp."""
    max_grad_norm: NonNegativeFloat = 1.0
    """Gradients are clipped to this norm; 0 switches it off."""
    accumulation: PositiveInt = 1
    """Batches per process and optimizer step."""
    global_batch: PositiveInt | None = None
    """Cuts of an optimizer step over all processes; sets the accumulation, with batch.batch_size."""
    precision: Precision = "fp32"
    """Autocast type; weights and optimizer stay in fp32."""
    freeze: list[str] = field(default_factory=list)
    """Parts that are not trained; Whisper's are encoder, decoder, embeddings, convolutions, positions."""
    frozen_dtype: Literal["bfloat16", "float16"] | None = None
    """Type of the weights that are not trained, under an adapter: less memory; needs train.precision bf16 or fp16."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them."""
    compile: bool = False
    """torch.compile the model."""
    chunked_loss: bool = False
    """Compute the loss without holding the logits of all tokens at once: less memory, more time."""
    encoder_cache_gb: NonNegativeFloat = 0.0
    """Disk for what a frozen encoder says of each cut, so that it runs once and not in every epoch; 0.14 GB an hour
    of audio for tiny, 0.46 for large; not with augmentation."""
    ctc_weight: ClosedUnitInterval = 0.0
    """Share of a CTC loss on the encoder; 0.3 lets a model learn from random weights, full training only."""
    eval_steps: PositiveInt = 500
    """Steps between two evaluations, each followed by a checkpoint."""
    eval_per_epoch: PositiveInt | None = None
    """Evaluations in an epoch, instead of eval_steps."""
    eval_seconds: PositiveFloat = 240.0
    """Padded seconds of a batch on which development cuts are scored; less saves memory."""
    logging_steps: PositiveInt = 20
    """Steps between two lines of the log."""
    save_steps: PositiveInt | None = None
    """Steps between two checkpoints, where that is to be more often than evaluation; a divisor of eval_steps."""
    keep_checkpoints: PositiveInt = 2
    """Newest checkpoints kept beside the best one."""
    patience: PositiveInt | None = None
    """Stop after this many evaluations without a better error rate."""
    metric: Literal["auto", "wer", "cer", "loss"] = "auto"
    """What decides the best checkpoint, on the development cuts; wer and cer by real decoding; auto is cer where the
    languages have no spaces between words, else wer."""
    workers: NonNegativeInt = 2
    """Processes that load data."""
    prefetch: PositiveInt = 4
    """Batches that each of them prepares in advance."""
    seed: Seed = 42
    """Of everything random."""
    deterministic: bool | Literal["warn"] = False
    """On a GPU: only operations that give the same bits each time, where another would be taken an error, or with
    warn a warning; slower (docs/reliability.md)."""
    max_hours: PositiveFloat | None = None
    """Stop after this long, saved; leave room for one evaluation and one checkpoint before a scheduler's own limit."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """What a NaN or infinite gradient does: end the run, or leave that step's update out."""
    nonfinite_limit: NonNegativeInt = 20
    """Updates that may be left out in one go."""
    rehearse: bool | None = None
    """Run the largest batch once before the first step, to see whether it fits; null does so on a GPU."""
    auto_halve: bool = False
    """When memory runs out, halve the batch, double the accumulation and go on; the audio of a step stays the same."""
    deepspeed: str | None = None
    """DeepSpeed configuration (config/ds_zero2.json)."""
    fsdp: str | None = None
    """FSDP2 configuration (config/fsdp.yaml); needs GPUs."""
    report_to: list[Watcher] = field(default_factory=lambda: ["tensorboard"])
    """Where metrics go besides metrics.jsonl; wandb and trackio need `pip install 'egrecho[watch]'`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.save_steps is not None and self.eval_per_epoch is None and self.eval_steps % self.save_steps:
            raise ConfigError(f"train.save_steps {self.save_steps} does not divide train.eval_steps {self.eval_steps}")


@dataclass(frozen=True)
class WindowOptions(Options, group="window"):
    """How long the model's input is."""

    window: Window = "longest"
    """longest: as long as the batch's longest utterance; 30s: Whisper's own; mixed: both by turns."""
    mixed: ClosedUnitInterval = 0.25
    """With mixed: the share of cuts padded to 30 s."""
    of: Literal["cuts", "time"] = "cuts"
    """What mixed is a share of: of the cuts, long or short, or of the seconds that are computed; then of long ones
    rather than short ones, since 30 s cost the same behind one word or twenty."""
    zeros: ClosedUnitInterval = 0.0
    """Of the batches padded to 30 s, the share padded with zeros of the log-mel, as openai-whisper and faster-whisper
    do it, instead of silence, as Transformers and whisper.cpp do."""
    last: ClosedUnitInterval = 1.0
    """With mixed: pad only in this last share of train.num_epochs."""

    @property
    def padded_share(self) -> float:
        """Share of cuts padded to 30 s."""
        return {"longest": 0.0, "30s": 1.0, "mixed": self.mixed}[self.window]

    def rows(self, concatenate: ConcatenateOptions | None, train: TrainOptions) -> RowOptions:
        """Return what batches are made of.

        Args:
            concatenate: How utterances are joined.
            train: Its epochs.

        Raises:
            ConfigError: The last share of a run without epochs is asked for.
        """
        if self.window == "mixed" and self.last < 1 and (train.max_steps or train.epoch_steps):
            raise ConfigError("window.last is a share of train.num_epochs; leave train.max_steps and epoch_steps out")
        padded_from = train.num_epochs * (1 - self.last) if self.window == "mixed" else 0.0
        return RowOptions(concatenate, self.of == "time", self.zeros, round(padded_from, 6))


@dataclass(frozen=True)
class KdOptions(Options, group="kd"):
    """What the student's loss is made of."""

    ce_weight: NonNegativeFloat = 0.8
    """alpha: of the cross-entropy on the labels."""
    kl_weight: NonNegativeFloat = 1.0
    """beta: of the divergence from the teacher; with 0 no teacher is loaded."""
    temperature: PositiveFloat = 2.0
    """T: both distributions are flattened by it before they are compared."""
    reference_weight: NonNegativeFloat = 0.0
    """Of a third term, cross-entropy on the true transcripts where the labels are the teacher's."""
    share_encoder: bool | None = None
    """Run one encoder for both; null does so where it is frozen (train.freeze) and equal to the teacher's."""
    teacher_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the teacher's weights; auto is that of train.precision on a GPU, float32 elsewhere."""
    teacher_logits: str | None = None
    """Folder of `egrecho cache-logits`: the teacher's likeliest tokens instead of the teacher itself."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ce_weight + self.kl_weight + self.reference_weight == 0:
            raise ConfigError("kd: all weights are 0; nothing would be learned")
