"""fit(): the one training entry. A model, its family and data in; a run folder out.

    exp/NAME/ config.yaml  metrics.jsonl  progress.png  runs/ (TensorBoard)  checkpoint-N/
              final/ (full) or adapter/ (LoRA)

`final/` appears only when training ended; a driver that finds it may merge and evaluate. The same command continues a
run from its newest complete checkpoint, and does nothing when the run is finished (docs/reliability.md).
"""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from peft import PeftModel
from torch import nn
from transformers import TrainerCallback, set_seed

from egrecho_inner.config import to_yaml
from egrecho_inner.data.batches.options import AugmentOptions, BatchOptions, DataOptions, Source
from egrecho_inner.data.batches.plan import BatchPlan
from egrecho_inner.data.batches.stream import CutStream, StreamPlan, open_cuts
from egrecho_inner.data.batches.tensors import CutBatches, make_augmenter
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.runtime.files import write_text
from egrecho_inner.training import parts, steps
from egrecho_inner.training.arguments import training_arguments
from egrecho_inner.training.callbacks import Board, Metrics, describe
from egrecho_inner.training.checkpoints import card
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints.adalora import AdaLora, is_adalora
from egrecho_inner.training.checkpoints.best import Patience
from egrecho_inner.training.checkpoints.pickles import check_pickles
from egrecho_inner.training.checkpoints.result import is_finished, save_result, set_aside
from egrecho_inner.training.checkpoints.resume import Allowance, check_same, digest_weights, facts_of
from egrecho_inner.training.dev_score import DevScorer
from egrecho_inner.training.family import Family
from egrecho_inner.training.guards import devices, memory, recovery, strategy
from egrecho_inner.training.guards.lock import RunLock
from egrecho_inner.training.guards.skips import Skips
from egrecho_inner.training.guards.stops import Stops, raise_if_stopped
from egrecho_inner.training.options import TrainOptions, WindowOptions
from egrecho_inner.training.trainer import PlanTrainer

logger = logging.getLogger(__name__)

EPOCHS = "epochs.json"
"""Where the epochs of the batch plan begin, in the run folder."""


def fit(
    model: nn.Module,
    family: Family,
    outdir: Path,
    data: DataOptions,
    batch: BatchOptions,
    train: TrainOptions,
    window: WindowOptions,
    augment: AugmentOptions | None,
    config: Mapping[str, Any],
    adapt: Callable[[nn.Module, int], PeftModel] | None = None,
    allow: Allowance = Allowance(),
    make_batches: Callable[..., CutBatches] = CutBatches,
    make_trainer: Callable[..., PlanTrainer] = PlanTrainer,
    source: Source = "reference",
) -> Path:
    """Train a model and save it.

    Args:
        model: Trained in full but for what `train.freeze` names, or under an adapter.
        family: What is known of such a model: its inputs, targets, parts, files.
        outdir: The run folder.
        data: Cuts and their language.
        batch: How cuts are put together.
        train: Optimizer, schedule, evaluation.
        window: Length of the input.
        augment: What is done to the audio and features.
        config: All options as plain values (`config.plain`), kept in the run folder and in checkpoints.
        adapt: Puts an adapter on the model, given the run's steps; then only the adapter is trained.
        allow: What may differ from the checkpoint that is continued.
        make_batches: Makes what turns a batch's cuts into tensors, called as `CutBatches`.
        make_trainer: Makes the trainer, called as `PlanTrainer`; one with another loss, for instance.
        source: Which text of the training cuts is learned; cuts without it are left out and counted.

    Returns:
        The folder of the result: `outdir/final` for a model, `outdir/adapter` for an adapter.

    Raises:
        UserError: A fault the user can fix; `Interrupted` when stopped on request, with everything saved.
    """
    strategy.check_launcher()
    strategy.name_accelerator()
    memory.bound_kernel_cache()
    devices.use_deterministic_operations(train.deterministic)
    set_seed(train.seed)
    with contextlib.ExitStack() as stack:
        if os.environ.get("RANK", "0") == "0":
            stack.enter_context(RunLock(outdir))
            checkpoint.sweep(outdir)
        stops = stack.enter_context(Stops(outdir, train.max_hours))
        run = Run(model, family, outdir, data, window, augment, config, allow, stops, source)
        run.batches_type, run.trainer_type = make_batches, make_trainer
        return run.complete(batch, train, adapt)


class Run:
    """One run folder on its way to a result; the arguments are those of `fit`."""

    def __init__(
        self,
        model: nn.Module,
        family: Family,
        outdir: Path,
        data: DataOptions,
        window: WindowOptions,
        augment: AugmentOptions | None,
        config: Mapping[str, Any],
        allow: Allowance,
        stops: Stops,
        source: Source = "reference",
    ):
        self.model, self.family, self.outdir = model, family, outdir
        self.data, self.window, self.augment = data, window, augment
        self.config, self.allow, self.stops = config, allow, stops
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if augment and augment.concatenate and source == "teacher":
            raise ConfigError("augment.concatenate joins references; join teachers' texts beforehand (egrecho pack)")
        self.cuts = open_cuts(data.train)
        longest = family.inputs.max_seconds
        self.cuts.keep_trainable(family.labels, data.max_skip_ratio, source, data.no_speech, longest)
        self.cuts.keep_short(data.max_seconds)
        self.cuts.keep_brief(family.labels, data.max_tokens)
        self.base, self.base_weights = family.digest(model), digest_weights(model, family.extras)
        self.batches_type: Callable[..., CutBatches] = CutBatches
        self.trainer_type: Callable[..., PlanTrainer] = PlanTrainer

    def complete(
        self, batch: BatchOptions, train: TrainOptions, adapt: Callable[[nn.Module, int], PeftModel] | None
    ) -> Path:
        """Train to the end and save the result, halving batches that do not fit with `train.auto_halve`."""
        self.dev = DevScorer(self.family, self.data, self.window.window, train)
        train = dataclasses.replace(train, metric=self.dev.metric)
        self.family.prepare(self.model, train)
        parts.freeze(self.model, self.family.parts(self.model), train.freeze)
        train = steps.with_accumulation(batch, train, self.world_size)
        place = self.outdir / ("final" if adapt is None else "adapter")
        folder = self.newest()
        if train.ema is not None and adapt is not None:
            raise ConfigError("train.ema: an adapter's result is its last or best checkpoint; leave it null")
        halvings = checkpoint.facts(folder).get("halvings", 0) if folder else 0
        trained: nn.Module | None = None
        fault: memory.OutOfMemory | None = None
        while True:
            finer, plan = self.plan_halved(batch, train, halvings, folder, fault)
            finer, max_steps = steps.with_evaluations(plan, finer), steps.count_steps(plan, train)
            if is_finished(place, max_steps):
                self.compare(folder)
                logger.info(
                    "%s is finished already; nothing to do (train.max_steps or num_epochs can be raised)", place
                )
                return place
            if trained is None:
                trained = self.model if adapt is None else adapt(self.model, max_steps)
                strategy.check_model(trained, train)
                parts.shrink_frozen(trained, train, adapt is not None or self.family.kept(trained) is not None)
            trainer = self.make_trainer(trained, plan, finer, max_steps, halvings)
            try:
                self.compare(folder)
                set_aside(place, trainer.args.should_save)
                return self.train(trainer, folder, place)
            except memory.OutOfMemory as error:
                if not error.rows or (self.world_size > 1 and not train.auto_halve):
                    raise  # there is nothing to save, or the other processes do not know
                fault = error.bare()
            # here, where the failed batch's activations are gone: saving takes memory, too
            folder = recovery.save_last_step(trainer)
            if not train.auto_halve or fault.rows == 1:
                raise fault
            logger.warning("%s; halving the batches", fault)
            halvings += 1
            recovery.release(trainer)
            del trainer
            memory.release()

    def plan_halved(
        self,
        batch: BatchOptions,
        train: TrainOptions,
        times: int,
        folder: Path | None,
        fault: memory.OutOfMemory | None,
    ) -> tuple[TrainOptions, BatchPlan | StreamPlan]:
        """Plan batches halved some times; with the training options that keep a step's audio.

        Raises:
            OutOfMemory: `fault`, where its remedy would leave too little for a step.
        """
        try:
            smaller, finer = memory.halve(batch, train, times)
            return finer, self.make_plan(smaller, finer, folder, times)
        except (ConfigError, DataError) as error:
            if fault is None:
                raise
            raise memory.OutOfMemory(f"{fault}; the batches cannot be halved again ({error})") from error

    def make_plan(
        self, batch: BatchOptions, train: TrainOptions, folder: Path | None, halvings: int = 0
    ) -> BatchPlan | StreamPlan:
        """Plan the batches; those of a stream go on where the checkpoint's stood."""
        group = train.seed, self.world_size, train.accumulation, self.window.padded_share
        concatenate = self.augment and self.augment.concatenate
        rows = {"rows": self.window.rows(concatenate, train)}
        if concatenate:
            rows["alike"] = self.cuts.alike(concatenate.same_speaker)
        if isinstance(self.cuts, CutStream):
            then = checkpoint.facts(folder) if folder else {}
            if state := then.get("stream"):  # it counts batches, which are smaller now
                state = {**state, "taken": state["taken"] * 2 ** (halvings - then.get("halvings", 0))}
            return StreamPlan(self.cuts, batch, *group, state=state, **rows)
        plan = BatchPlan(self.cuts.durations, batch, *group, **rows)
        plan.recall(self.outdir / EPOCHS)
        return plan

    def newest(self) -> Path | None:
        """Return the checkpoint to continue from, the same on every process."""
        first = os.environ.get("RANK", "0") == "0" or self.world_size == 1
        folder = checkpoint.newest(self.outdir, quiet=not first)
        if folder is not None:
            check_pickles(folder)
        return folder

    def facts(self, halvings: int = 0) -> dict[str, Any]:
        """Return what a checkpoint remembers of this run."""
        facts = facts_of(self.config, self.cuts.digest, self.dev.digest, self.base, self.world_size)
        return {**facts, "halvings": halvings}

    def compare(self, folder: Path | None) -> None:
        """Refuse to continue another run's checkpoint."""
        if folder is not None:
            then = checkpoint.facts(folder)
            check_same(str(folder), then, self.facts(), self.allow, checkpoint.sharded(folder))

    def make_trainer(
        self, model: nn.Module, plan: BatchPlan | StreamPlan, train: TrainOptions, max_steps: int, halvings: int
    ) -> PlanTrainer:
        """Put the trainer together."""
        augmenter = make_augmenter(self.augment, train.seed)
        batches = self.batches_type(self.cuts, self.family.labels, self.family.inputs, augmenter)
        return self.trainer_type(
            model,
            self.family,
            training_arguments(train, self.outdir, max_steps, bool(self.data.dev_sets), model),
            train,
            batches,
            plan,
            self.dev,
            self.facts(halvings),
            make_callbacks(model, self.outdir, train),
            self.stops,
            Skips(min(self.data.max_skip_ratio * len(self.cuts), len(self.cuts) - 1), self.outdir),
        )

    def train(self, trainer: PlanTrainer, folder: Path | None, place: Path) -> Path:
        """Train from a checkpoint, or from the start, and save the result."""
        self.family.inputs.check(self.cuts[0], trainer.batches.augmenter, values=True)
        if trainer.args.should_save:
            write_text(self.outdir / "config.yaml", to_yaml(self.config))
            checkpoint.check_space(self.outdir, trainer.checkpoint_bytes())
            describe(trainer.model, self.cuts, trainer.plan, trainer.args.max_steps)
            if isinstance(trainer.plan, BatchPlan):
                trainer.plan.remember(self.outdir / EPOCHS)
        if folder is not None:
            logger.info("continuing from %s", folder)
        try:
            with memory.faults_named(), devices.random_operations_named():
                trainer.train(resume_from_checkpoint=str(folder) if folder else None)
        finally:
            for each in trainer.callback_handler.callbacks:
                if isinstance(each, Metrics):
                    each.close()
        raise_if_stopped(trainer)
        told = card.about(self.model, self.cuts.durations, trainer.fingerprint["config"], trainer.plan.joined_seconds())
        about = {"base_digest": self.base_weights, **told}
        save_result(trainer, place, self.window.window, about)
        if trainer.frozen is not None and trainer.args.should_save:
            trainer.frozen.remove()
        if dist.is_initialized():
            trainer.accelerator.wait_for_everyone()
        return place


def make_callbacks(model: nn.Module, outdir: Path, train: TrainOptions) -> list[TrainerCallback]:
    """Make what watches and steers the run."""
    callbacks: list[TrainerCallback] = [Metrics(outdir)]
    if "tensorboard" in train.report_to:
        callbacks.append(Board(outdir))
    if is_adalora(model):
        callbacks.append(AdaLora())
    if train.patience is not None:
        callbacks.append(Patience(train.patience, train.metric))
    return callbacks
