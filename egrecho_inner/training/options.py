"""How a model is trained: the options of `fit()`, and their translation to Transformers' TrainingArguments."""

import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from transformers import TrainingArguments

from egrecho_inner.config import read_yaml
from egrecho_inner.errors import ConfigError

Optimizer = Literal["adamw", "lion", "adafactor", "sgd"]
Schedule = Literal["constant", "constant_with_warmup", "linear", "cosine", "polynomial"]
Precision = Literal["fp32", "bf16", "fp16"]
Watcher = Literal["tensorboard", "wandb", "trackio"]
Frozen = Literal["encoder", "decoder", "embeddings", "convolutions", "positions"]


@dataclass(frozen=True)
class TrainOptions:
    """How a model is trained."""

    num_epochs: float = 3.0
    """Passes over the data; ignored when max_steps is given."""
    max_steps: int | None = None
    """Optimizer steps."""
    learning_rate: float = 1e-5
    """Peak learning rate."""
    schedule: Schedule = "constant_with_warmup"
    """How the learning rate goes on after the warm-up."""
    min_learning_rate: float = 0.0
    """Where the polynomial schedule ends."""
    power: float = 1.0
    """Exponent of the polynomial schedule."""
    warmup_steps: float = 0.05
    """Steps of warm-up; below 1 a share of all steps."""
    optimizer: Optimizer = "adamw"
    """Lion wants a learning rate about a tenth of AdamW's (Chen et al. 2023, arXiv:2302.06675)."""
    weight_decay: float = 0.01
    """Decoupled; not on biases and norms."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Of AdamW and Lion."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0 switches it off."""
    accumulation: int = 1
    """Batches per process and optimizer step."""
    precision: Precision = "fp32"
    """Autocast type; weights and optimizer stay in fp32."""
    freeze: list[Frozen] = field(default_factory=list)
    """Parts that are not trained."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them."""
    compile: bool = False
    """torch.compile the model."""
    chunked_loss: bool = False
    """Compute the loss without holding the logits of all tokens at once: less memory, more time."""
    encoder_cache_gb: float = 0.0
    """Disk for what a frozen encoder says of each cut, so that it runs once and not in every epoch; 0.14 GB an hour
    of audio for tiny, 0.46 for large; not with augmentation."""
    ctc_weight: float = 0.0
    """Share of a CTC loss on the encoder; 0.3 lets a model learn from random weights, full training only."""
    eval_steps: int = 500
    """Steps between two evaluations, each followed by a checkpoint."""
    logging_steps: int = 20
    """Steps between two lines of the log."""
    save_steps: int | None = None
    """Steps between two checkpoints, where that is to be more often than evaluation; a divisor of eval_steps."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept beside the best one."""
    patience: int | None = None
    """Stop after this many evaluations without a better error rate."""
    metric: Literal["wer", "cer", "loss"] = "wer"
    """What decides the best checkpoint, on the development cuts; wer and cer by real decoding."""
    workers: int = 2
    """Processes that load data."""
    seed: int = 42
    """Of everything random."""
    max_hours: float | None = None
    """Stop after this long, saved; leave room for one evaluation and one checkpoint before a scheduler's own limit."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """What a NaN or infinite gradient does: end the run, or leave that step's update out."""
    nonfinite_limit: int = 20
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

    @property
    def rehearses(self) -> bool:
        """Whether the largest batch is run before the first step."""
        return torch.cuda.is_available() if self.rehearse is None else self.rehearse


def training_arguments(options: TrainOptions, outdir: Path, max_steps: int, has_dev: bool) -> TrainingArguments:
    """Translate options to Transformers' own, with what Whisper and Lhotse need fixed.

    Raises:
        ConfigError: The machine cannot do what is asked.
    """
    check_options(options)
    if "wandb" in options.report_to:  # Transformers asks for these; a user's own win
        os.environ.setdefault("WANDB_PROJECT", "egrecho")
        os.environ.setdefault("WANDB_DIR", str(outdir))
    cuda = torch.cuda.is_available()
    distributed = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return TrainingArguments(
        output_dir=str(outdir),
        max_steps=max_steps,
        learning_rate=options.learning_rate,
        lr_scheduler_type=options.schedule,
        lr_scheduler_kwargs={"lr_end": options.min_learning_rate, "power": options.power}
        if options.schedule == "polynomial"
        else None,
        warmup_steps=options.warmup_steps if options.warmup_steps < 1 else int(options.warmup_steps),
        optim={"adamw": "adamw_torch_fused" if cuda else "adamw_torch", "lion": "adamw_torch"}.get(
            options.optimizer, options.optimizer
        ),
        weight_decay=options.weight_decay,
        adam_beta1=options.betas[0],
        adam_beta2=options.betas[1],
        max_grad_norm=options.max_grad_norm,
        gradient_accumulation_steps=options.accumulation,
        per_device_train_batch_size=1,
        bf16=options.precision == "bf16",
        fp16=options.precision == "fp16",
        tf32=True if cuda else None,
        activation_checkpointing=options.gradient_checkpointing,
        # the re-entrant kind loses the gradient where the input needs none, as under LoRA
        activation_checkpointing_kwargs={"use_reentrant": False} if options.gradient_checkpointing else None,
        torch_compile=options.compile,
        eval_strategy="steps" if has_dev else "no",
        eval_steps=options.eval_steps,
        save_strategy="steps",
        save_steps=options.save_steps or options.eval_steps,
        logging_strategy="steps",
        logging_steps=options.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # by default a NaN loss is logged as 0 and training goes on
        metric_for_best_model=options.metric if has_dev else None,
        greater_is_better=False,
        load_best_model_at_end=False,  # fit() does, from a checkpoint it knows to be complete
        ignore_data_skip=True,  # the batch plan starts where the run stopped
        average_tokens_across_devices=True,
        remove_unused_columns=False,
        dataloader_num_workers=options.workers,
        use_cpu=not cuda,
        ddp_backend=None if not distributed else "nccl" if cuda else "gloo",
        ddp_find_unused_parameters=False,
        deepspeed=options.deepspeed,
        fsdp=bool(options.fsdp),
        fsdp_config=read_yaml(options.fsdp) if options.fsdp else None,
        report_to=[name for name in options.report_to if name != "tensorboard"] or "none",  # watch.Board is ours
        project="egrecho",
        run_name=outdir.resolve().name,
        disable_tqdm=True,
        seed=options.seed,
        data_seed=options.seed,
    )


def check_options(options: TrainOptions) -> None:
    """Refuse combinations that cannot work, before anything is loaded.

    Raises:
        ConfigError: Naming both.
    """
    if options.precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("train.precision fp16 needs a GPU; use fp32 here")
    if options.fsdp and not torch.cuda.is_available():
        raise ConfigError("train.fsdp needs GPUs (on a CPU accelerate would run plain DDP); leave it out here")
    if options.fsdp and options.deepspeed:
        raise ConfigError("train.fsdp and train.deepspeed exclude each other; give one")
    if options.optimizer == "lion" and options.deepspeed:
        raise ConfigError("train.optimizer lion is not known to DeepSpeed; use adamw, or train without train.deepspeed")
    if options.nonfinite == "skip" and options.deepspeed:
        raise ConfigError(
            "train.nonfinite skip: DeepSpeed updates before it can be seen; use stop with train.deepspeed"
        )
    if options.save_steps is not None and options.eval_steps % options.save_steps:
        raise ConfigError(
            f"train.save_steps {options.save_steps} does not divide train.eval_steps {options.eval_steps}"
        )
    for watcher in options.report_to:
        if importlib.util.find_spec(watcher) is None:
            raise ConfigError(
                f"train.report_to {watcher}: {watcher} is not installed; pip install 'egrecho[watch]', or leave it out"
            )
    for name in ("deepspeed", "fsdp"):
        path = getattr(options, name)
        if path is not None and not Path(path).is_file():
            raise ConfigError(f"train.{name}: {path} does not exist; config/ has them")
