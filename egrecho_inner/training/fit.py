"""fit(): the one training entry. Model, processor and data in; a run folder out.

    exp/NAME/ config.yaml  metrics.jsonl  runs/ (TensorBoard)  checkpoint-N/  final/ (full) or adapter/ (LoRA)

`final/` appears only when training ended; a driver that finds it may merge and evaluate. The same command continues a
run from its newest complete checkpoint.
"""

import hashlib
import logging
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerCallback, WhisperProcessor, set_seed

from egrecho_inner.data.augment import AugmentOptions
from egrecho_inner.data.batching import BatchOptions, BatchPlan
from egrecho_inner.data.dataset import CutBatches, CutList, DataOptions, make_augmenter
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.loading import save_folder
from egrecho_inner.model.whisper import Whisper, Window
from egrecho_inner.text.labels import LabelEncoder
from egrecho_inner.training import checkpoint
from egrecho_inner.training.options import TrainOptions, training_arguments
from egrecho_inner.training.score import DevScorer
from egrecho_inner.training.trainer import AdaLora, Metrics, WhisperTrainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WindowOptions:
    """How long the model's input is."""

    window: Window = "longest"
    """longest: as long as the batch's longest utterance; 30s: Whisper's own; mixed: both by turns."""
    mixed: float = 0.25
    """With mixed: the share of cuts padded to 30 s."""

    @property
    def padded_share(self) -> float:
        """Share of cuts padded to 30 s."""
        return {"longest": 0.0, "30s": 1.0, "mixed": self.mixed}[self.window]


def fit(
    model: Whisper,
    processor: WhisperProcessor,
    outdir: Path,
    data: DataOptions,
    batch: BatchOptions,
    train: TrainOptions,
    window: WindowOptions,
    augment: AugmentOptions | None,
    config: str,
    adapt: Callable[[Whisper, int], PeftModel] | None = None,
    make_batches: Callable[..., CutBatches] = CutBatches,
    make_trainer: Callable[..., WhisperTrainer] = WhisperTrainer,
) -> Path:
    """Train a model and save it.

    Args:
        model: A Whisper, trained in full but for what `train.freeze` names, or under an adapter.
        processor: Its tokenizer and feature extractor.
        outdir: The run folder.
        data: Cuts and their language.
        batch: How cuts are put together.
        train: Optimizer, schedule, evaluation.
        window: Length of the input.
        augment: What is done to the audio and features.
        config: The resolved configuration as YAML, kept in the run folder.
        adapt: Puts an adapter on the model, given the run's steps; then only the adapter is trained.
        make_batches: Makes what turns a batch's cuts into tensors, called as `CutBatches`.
        make_trainer: Makes the trainer, called as `WhisperTrainer`; one with another loss, say.

    Returns:
        The folder of the result: `outdir/final` for a model, `outdir/adapter` for an adapter.
    """
    set_seed(train.seed)
    freeze(model, train.freeze)
    multilingual = getattr(model.generation_config, "is_multilingual", True)
    labels = LabelEncoder(processor.tokenizer, data.language, data.task, multilingual)
    cuts = CutList(data.train)
    cuts.keep_trainable(labels, data.max_skip_ratio)
    cuts.keep_short(data.max_seconds)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    plan = BatchPlan(cuts.durations, batch, train.seed, world_size, train.accumulation, window.padded_share)
    max_steps = count_steps(plan, train)
    batches = make_batches(cuts, labels, model.config.num_mel_bins, make_augmenter(augment, train.seed))
    outdir.mkdir(parents=True, exist_ok=True)
    args = training_arguments(train, outdir, max_steps, has_dev=data.dev is not None)
    trained = model if adapt is None else adapt(model, max_steps)
    trainer = make_trainer(
        trained,
        args,
        train,
        batches,
        plan,
        DevScorer(processor, labels, data, window.window, train),
        {"data": cuts.digest, "config": digest(config)},
        make_callbacks(trained, outdir, train),
    )
    if args.should_save:
        (outdir / "config.yaml").write_text(config, encoding="utf-8")
        describe(trained, cuts, plan, max_steps)
    resume = checkpoint.newest(outdir)
    if resume is not None:
        logger.info("continuing from %s", resume)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return finish(trainer, processor, outdir, window.window)


def freeze(model: Whisper, parts: list[str]) -> None:
    """Switch off the gradient of the named parts."""
    core = model.model
    modules: dict[str, list[nn.Module]] = {
        "encoder": [core.encoder],
        "decoder": [core.decoder],
        "embeddings": [core.decoder.embed_tokens],
        "convolutions": [core.encoder.conv1, core.encoder.conv2],
        "positions": [core.encoder.embed_positions, core.decoder.embed_positions],
    }
    for part in parts:
        for module in modules[part]:
            module.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError(f"train.freeze {parts} leaves nothing to train")


def count_steps(plan: BatchPlan, train: TrainOptions) -> int:
    """Return the optimizer steps of a run."""
    if train.max_steps is not None:
        return train.max_steps
    whole = math.floor(train.num_epochs)
    part = round((train.num_epochs - whole) * plan.steps_per_epoch(whole)) if train.num_epochs > whole else 0
    return max(plan.first_step(whole) + part, 1)


def make_callbacks(model: nn.Module, outdir: Path, train: TrainOptions) -> list[TrainerCallback]:
    """Make what watches and steers the run."""
    callbacks: list[TrainerCallback] = [Metrics(outdir)]
    if isinstance(model, PeftModel) and model.peft_config["default"].peft_type == "ADALORA":
        callbacks.append(AdaLora())
    if train.patience is not None:
        callbacks.append(Patience(train.patience, train.metric))
    return callbacks


class Patience(TrainerCallback):
    """Stop when the development metric has not become better for some evaluations; resumable, as it reads the log."""

    def __init__(self, patience: int, metric: str):
        self.patience, self.key = patience, f"eval_{metric}"

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        values = [entry[self.key] for entry in state.log_history if self.key in entry]
        best = min(range(len(values)), key=values.__getitem__) if values else 0
        if len(values) - 1 - best >= self.patience:
            logger.info("no better %s for %d evaluations: stopping", self.key, self.patience)
            control.should_training_stop = True


def digest(text: str) -> str:
    """Return a short hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def describe(model: nn.Module, cuts: CutList, plan: BatchPlan, max_steps: int) -> None:
    """Say what is about to happen."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    logger.info(
        "%s cuts, %.2f h (%s); %d steps, %.1f epochs, padding %.1f %%; %s of %s parameters are trained",
        f"{len(cuts):,}", cuts.durations.sum() / 3600, cuts.summary(), max_steps, plan.epochs_at(max_steps),
        100 * plan.padding_share(), f"{trained:,}", f"{total:,}",
    )  # fmt: skip


def finish(trainer: WhisperTrainer, processor: WhisperProcessor, outdir: Path, window: Window) -> Path:
    """Take the best checkpoint's weights and save the result, whole or not at all."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapter = isinstance(model, PeftModel)
    place = outdir / ("adapter" if adapter else "final")
    best = trainer.state.best_model_checkpoint
    if not trainer.args.should_save:
        trainer.accelerator.wait_for_everyone()
        return place
    if best is not None and checkpoint.fault(Path(best)) is None:
        load_weights(model, Path(best))
        logger.info("the best checkpoint is %s (%s %.5f)", best, trainer.options.metric, trainer.state.best_metric)
    working = outdir / f".{place.name}.writing"
    shutil.rmtree(working, ignore_errors=True)
    if adapter:
        model.save_pretrained(working)
        base = model.get_base_model()
        checkpoint.write_json(working / "training.json", {"input_window": window, "base": base.config._name_or_path})
    else:
        save_folder(model, processor, working, window)
    checkpoint.publish(working, place)
    logger.info("saved %s", place)
    trainer.accelerator.wait_for_everyone()
    return place


def load_weights(model: nn.Module, folder: Path) -> None:
    """Load the weights of a checkpoint into a model, every one accounted for."""
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
        return
    state: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        state |= load_file(file)
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if name != "proj_out.weight" and not name.startswith("ctc_head.")]
    if missing or unexpected:
        raise ConfigError(f"{folder}: weights {[*missing, *unexpected][:5]} do not belong to this model")
