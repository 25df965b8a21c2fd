"""From our options to Transformers' TrainingArguments, and what this machine cannot do of them."""

import importlib.util
import os
import secrets
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, TrainingArguments

from egrecho_inner.config import read_yaml
from egrecho_inner.errors import ConfigError
from egrecho_inner.runtime.devices import auto_device
from egrecho_inner.runtime.files import write_text
from egrecho_inner.training.guards import devices, strategy
from egrecho_inner.training.guards.deepspeed_config import check_deepspeed_config
from egrecho_inner.training.options import TrainOptions

LAYERS = "transformer_layer_cls_to_wrap"
WANDB_RUN = "wandb_run_id"
"""In the run folder: under which id Weights & Biases knows it."""
OUR_RUNS: set[str] = set()
"""Ids that this process has put into the environment itself."""


def training_arguments(
    options: TrainOptions, outdir: Path, max_steps: int, has_dev: bool, model: nn.Module | None = None
) -> TrainingArguments:
    """Translate options to Transformers' own, with what Whisper and Lhotse need fixed.

    Args:
        options: Ours.
        outdir: The run folder.
        max_steps: Optimizer steps.
        has_dev: Whether there are development cuts.
        model: What FSDP is to divide.

    Raises:
        ConfigError: The machine cannot do what is asked.
    """
    check_options(options)
    if "wandb" in options.report_to:  # Transformers asks for these; a user's own win
        os.environ.setdefault("WANDB_PROJECT", "egrecho")
        os.environ.setdefault("WANDB_DIR", str(outdir))
        keep_wandb_run(outdir)
    polynomial = {"lr_end": options.min_learning_rate, "power": options.power}
    cuda = torch.cuda.is_available()
    distributed = int(os.environ.get("WORLD_SIZE", "1")) > 1
    arguments = TrainingArguments(
        output_dir=str(outdir),
        max_steps=max_steps,
        learning_rate=options.learning_rate,
        lr_scheduler_type=options.schedule,
        lr_scheduler_kwargs=polynomial if options.schedule == "polynomial" else None,
        warmup_steps=options.warmup_steps if options.warmup_steps < 1 else int(options.warmup_steps),
        optim=optimizer_name(options.optimizer, cuda),
        weight_decay=options.weight_decay,
        adam_beta1=options.betas[0],
        adam_beta2=options.betas[1],
        adam_epsilon=options.eps,
        max_grad_norm=options.max_grad_norm,
        gradient_accumulation_steps=options.accumulation,
        per_device_train_batch_size=1,
        bf16=options.precision == "bf16",
        fp16=options.precision == "fp16",
        tf32=devices.tf32(),
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
        use_cpu=auto_device() == "cpu",
        ddp_backend=None if not distributed else "nccl" if cuda else "gloo",
        ddp_find_unused_parameters=False,
        deepspeed=options.deepspeed,
        fsdp=bool(options.fsdp),
        fsdp_config=fsdp_settings(options.fsdp, model) if options.fsdp else None,
        report_to=[name for name in options.report_to if name != "tensorboard"] or "none",  # watch.Board is ours
        project="egrecho",
        run_name=outdir.resolve().name,
        disable_tqdm=True,
        seed=options.seed,
        data_seed=options.seed,
    )
    devices.use_one_gpu(arguments)
    return arguments


def optimizer_name(name: str, cuda: bool) -> str:
    """Return Transformers' name of an optimizer; Lion is ours and takes the place of AdamW in the trainer."""
    return {"adamw": "adamw_torch_fused" if cuda else "adamw_torch", "lion": "adamw_torch"}.get(name, name)


def fsdp_settings(path: str, model: nn.Module | None) -> dict[str, Any]:
    """Read a configuration of FSDP, its layers those that the model has: the file's, and what Transformers names.

    Args:
        path: The file.
        model: None takes the file's layers as they are.
    """
    found = read_yaml(path)
    if LAYERS in found and model is not None:
        library = (each for each in model.modules() if isinstance(each, PreTrainedModel))
        named = {name for each in library for name in each._no_split_modules or ()}
        found[LAYERS] = sorted(({*found[LAYERS]} | named) & {type(each).__name__ for each in model.modules()})
    return found


def check_sharded(options: TrainOptions) -> None:
    """Refuse what DeepSpeed and FSDP cannot do.

    Raises:
        ConfigError: Naming both.
    """
    if options.ema is not None:
        raise ConfigError("train.ema: under DeepSpeed and FSDP no process has all weights; average checkpoints instead")
    if options.auto_halve:
        raise ConfigError(
            "train.auto_halve: under DeepSpeed and FSDP no process can leave a batch out alone; set batch.max_duration "
            "to what the error names, or take DDP"
        )


def keep_wandb_run(outdir: Path) -> None:
    """Let all starts of a run be one run of Weights & Biases: its id is kept in the run folder; a user's own wins."""
    given = os.environ.get("WANDB_RUN_ID")
    if given is not None and given not in OUR_RUNS:
        return
    path = outdir / WANDB_RUN
    if os.environ.get("RANK", "0") == "0":  # the one process that reports
        if not path.is_file():
            write_text(path, secrets.token_hex(4))
        os.environ["WANDB_RUN_ID"] = path.read_text(encoding="utf-8").strip()
        OUR_RUNS.add(os.environ["WANDB_RUN_ID"])
        os.environ.setdefault("WANDB_RESUME", "allow")


def check_options(options: TrainOptions) -> None:
    """Refuse combinations that cannot work, before anything is loaded.

    Raises:
        ConfigError: Naming both.
    """
    if options.precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("train.precision fp16 needs a GPU; use fp32 here")
    if options.precision == "bf16":
        devices.check_bf16()
    if options.fsdp and not torch.cuda.is_available():
        raise ConfigError("train.fsdp needs GPUs (on a CPU accelerate would run plain DDP); leave it out here")
    if options.fsdp and options.deepspeed:
        raise ConfigError("train.fsdp and train.deepspeed exclude each other; give one")
    if options.optimizer == "lion" and options.deepspeed:
        raise ConfigError("train.optimizer lion is not known to DeepSpeed; use adamw, or train without train.deepspeed")
    if options.deepspeed or options.fsdp:
        check_sharded(options)
    for watcher in options.report_to:
        if importlib.util.find_spec(watcher) is None:
            raise ConfigError(
                f"train.report_to {watcher}: {watcher} is not installed; pip install 'egrecho[watch]', or leave it out"
            )
    for name in ("deepspeed", "fsdp"):
        path = getattr(options, name)
        if path is not None and not Path(path).is_file():
            raise ConfigError(f"train.{name}: {path} does not exist; config/ has them")
    if options.deepspeed:
        check_deepspeed(options)


def check_deepspeed(options: TrainOptions) -> None:
    """Refuse a configuration of DeepSpeed that cannot do what the options ask for.

    Raises:
        ConfigError: Naming both.
    """
    if options.nonfinite == "skip" and strategy.zero_stage(options.deepspeed) == 0:
        raise ConfigError(
            f"train.nonfinite skip: without ZeRO DeepSpeed takes the step before it can be seen; {options.deepspeed} "
            "asks for stage 0, use config/ds_zero1.json, or train.nonfinite stop"
        )
    check_deepspeed_config(options.deepspeed, options)
