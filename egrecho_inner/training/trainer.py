"""The one trainer: Transformers' Trainer fed by a batch plan, evaluated by real decoding, stopped without loss.

Every override of Transformers' Trainer is in this file, with its reason: what the Trainer does instead, and what goes
wrong with that. What they do is elsewhere: `checkpoints/writing.py`, `evaluating.py`, `guards/`, `parts.py`.
`tests/training/test_overrides.py` compares their signatures with those of the installed Transformers, so that a newer
version names what it breaks.
"""

import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from egrecho_inner.data.batches.plan import BatchPlan
from egrecho_inner.data.batches.stream import StreamPlan
from egrecho_inner.data.batches.tensors import CutBatches, LoadedBatch, PlanSampler, make_loader
from egrecho_inner.errors import ModelError
from egrecho_inner.training import collectives, cost, evaluating
from egrecho_inner.training.average import follow
from egrecho_inner.training.callbacks import Tally
from egrecho_inner.training.checkpoints import adalora, best, writing
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints.adalora import is_adalora
from egrecho_inner.training.evaluating import Evaluate
from egrecho_inner.training.family import Family
from egrecho_inner.training.frozen import open_frozen
from egrecho_inner.training.guards import draws, loaders, memory, sharding, strategy
from egrecho_inner.training.guards.nonfinite import meet_nonfinite
from egrecho_inner.training.guards.rehearsal import rehearse
from egrecho_inner.training.guards.skips import Skips
from egrecho_inner.training.guards.stops import Stops, start_worker
from egrecho_inner.training.guards.together import FitsAllOrNone
from egrecho_inner.training.options import TrainOptions
from egrecho_inner.training.parts import make_optimizer
from egrecho_inner.training.steps import epochs_at

logger = logging.getLogger(__name__)


class PlanTrainer(Trainer):
    """Train a model, or its adapter, on a batch plan.

    Args:
        model: Of the family, or a PeftModel of one.
        family: What is known of such models.
        args: Transformers' arguments, from `training_arguments`.
        options: Ours.
        batches: Makes the tensors of a batch.
        plan: Which cuts go together.
        score: Scores the model on the development cuts.
        fingerprint: What a checkpoint must agree with to be continued.
        stops: Knows when to stop.
        skips: Counts the cuts that could not be used.
    """

    saved_step = -1
    """The step of the newest checkpoint written or loaded."""

    def __init__(
        self,
        model: nn.Module,
        family: Family,
        args: TrainingArguments,
        options: TrainOptions,
        batches: CutBatches,
        plan: BatchPlan | StreamPlan,
        score: Evaluate,
        fingerprint: dict[str, Any],
        callbacks: list[TrainerCallback],
        stops: Stops,
        skips: Skips,
    ):
        # the Trainer wants a dataset where it is to evaluate; evaluate() below never looks at it
        super().__init__(model=model, args=args, callbacks=callbacks, eval_dataset=batches)
        self.remove_callback(PrinterCallback)  # Metrics prints
        self.model_accepts_loss_kwargs = True
        self.family, self.options, self.batches, self.plan = family, options, batches, plan
        self.stops, self.tally = stops, Tally(skips)
        self.score, self.fingerprint = score, {**fingerprint, "skipped": skips.reasons}
        self.fits = FitsAllOrNone(args.device)
        self.stopped: str | None = None
        self.place: dict[str, int] | None = None
        """Of a stream, when the step at hand has been taken."""
        self.draws = draws.random_state()
        """Before the step at hand."""
        self.taken: list[LoadedBatch] = []
        """The batches of the step at hand that are not trained on yet."""
        self.count_operations = family.cost(self.accelerator.unwrap_model(model))
        self.peak_flops = None if self.count_operations is None else cost.peak(args.device, options.precision)
        self.frozen = open_frozen(self) if options.encoder_cache_gb else None
        self.average = follow(self, options.ema)

    # Batches: accelerate would shard the Trainer's loader, and take batches apart that the plan has put together for
    # all processes; and the Trainer counts passes over a data set: resumed, it reads everything up to its step again.

    def get_train_dataloader(self) -> DataLoader:
        sampler = PlanSampler(self.plan, self.args.process_index, lambda: self.state.global_step)
        workers, pin = self.args.dataloader_num_workers, torch.cuda.is_available()
        loader = make_loader(self.batches, sampler, workers, pin, self.options.prefetch)
        loader.worker_init_fn = start_worker
        self.stops.loaders.watch()  # before `iter` of it starts processes
        return loader

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """Take the batches of one step, unless the processes agree to stop before it."""
        # the Trainer's own counts targets of one process, or gathers once more; here the count, the wish to stop and
        # broken loaders travel in one message, and the loss is a share of the global batch's
        began = time.perf_counter()
        samples, broken = [], ""
        try:
            with self.stops.loaders.waiting():
                samples = [next(epoch_iterator) for _ in range(num_batches)]
        except Exception as error:
            if not (broken := loaders.death(error, self.stops.loaders)):
                raise
        self.tally.waited += time.perf_counter() - began
        self.tally.ids = []
        for batch in samples:
            self.batches.inputs.to_device(batch.inputs, self.args.device)
            self.tally.note(batch)
            if self.count_operations is not None:
                self.tally.flops += self.count_operations(batch)
        items, stop = self.agree(sum(batch.targets for batch in samples), broken, device)
        if stop:
            self.stopped = stop
            self.control.should_training_stop = self.control.should_save = True
            return [], None
        self.place, self.draws, self.taken = samples[-1].state, draws.random_state(), list(samples)
        for batch in samples:
            self.encode_frozen(batch)
        return [batch.inputs for batch in samples], torch.tensor(max(items, 1.0), device=device)

    def encode_frozen(self, batch: LoadedBatch) -> None:
        """Add a frozen encoder's output to a batch, if it is kept."""
        if self.frozen is not None:
            with self.accelerator.autocast():
                self.frozen.encode(batch)

    def agree(self, items: int, broken: str, device: torch.device) -> tuple[float, str | None]:
        """Sum the step's target tokens over all processes, and learn whether one of them must stop.

        Raises:
            DataError: More cuts than allowed could not be used.
        """
        mine = [items, self.stops.asked(), bool(self.tally.skips.news), bool(broken)]
        total, asked, news, broke = collectives.total(mine, device)
        self.tally.skips.share(total, bool(news), self.args.should_save)
        if broke and not asked:
            return total, f"!{broken or 'A loader process of another process died.'}"
        return total, (self.stops.reason or "another process was asked to stop") if asked else None

    # The step: the Trainer names neither the batch that did not fit nor the gradient that is not finite, and has no
    # losses beside the model's.

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        # `inputs` are those of the first batch that is left
        run = partial(self.run_batch, model, self.taken.pop(0), num_items_in_batch, self.state.global_step)
        if not (self.options.auto_halve and self.args.world_size > 1):
            return run()
        with self.accelerator.no_sync(model):
            return self.fits.run(run, model, last=self.accelerator.sync_gradients)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        if is_adalora(self.model) and self.accelerator.sync_gradients:  # once in a step, the same on all processes
            penalty = adalora.penalty(self.model)
            self.tally.orthogonality = penalty.detach()
            loss = loss + penalty
        return loss

    def run_batch(self, model: nn.Module, batch: LoadedBatch, items: torch.Tensor, step: int | str) -> torch.Tensor:
        """Run a batch forward and backward.

        Raises:
            OutOfMemory: It does not fit.
        """
        with memory.named(batch, self.plan.options, step), strategy.smallest_scale_named(self.state.global_step):
            loss = super().training_step(model, batch.inputs, items)
        if is_adalora(self.model) and self.accelerator.sync_gradients:
            loss = loss - self.tally.orthogonality  # the log has the loss that others have
        return loss

    def forget_figures(self) -> None:
        """Forget what a batch left for the log; for a subclass that keeps figures of its own."""

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        # Transformers' knows no rates of parts, and no Lion without bitsandbytes
        if self.optimizer is None:
            model = self.model if model is None else model
            parts = self.family.parts(self.accelerator.unwrap_model(model))
            decaying = set(self.get_decay_parameter_names(model))
            self.optimizer = make_optimizer(model, parts, self.options, self.args, decaying)
        return super().create_optimizer(model)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        # the one moment between clipping and the optimizer's step, of every strategy
        norm = super()._get_grad_norm(model, grad_norm)
        # None of DeepSpeed in fp32 without ZeRO, which keeps the norm to itself; weights are looked at before each save
        if norm is not None and not torch.isfinite(torch.as_tensor(norm)):
            meet_nonfinite(self, model, float(norm))
        return norm

    # Starting: what only a prepared model shows, and what a killed run still owed its last checkpoint.

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        # here, because the state has been read and the model is wrapped when it returns
        if resume_from_checkpoint:
            then = checkpoint.facts(Path(resume_from_checkpoint))
            self.tally.skips.reasons.update(then.get("skipped", {}))
            self.tally.skips.tokens = 1.0  # what was trained before: without it no checkpoint is written
            if best.measure(then) != best.measure(self.fingerprint):
                logger.warning("other development cuts or metric than before: the best checkpoint is looked for anew")
                best.forget_scores(self.state)
        prepared = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        strategy.check(self, self.options)
        if self.frozen is not None:
            self.frozen.encoder = sharding.unsharded(self.frozen.encoder, self.family.plain)
        rehearses = torch.cuda.is_available() if self.options.rehearse is None else self.options.rehearse
        if rehearses and not (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            rehearse(self)
        return prepared

    def _init_training_state(self, max_steps: int, *args: Any, **kwargs: Any) -> tuple[int, int]:
        place = super()._init_training_state(max_steps, *args, **kwargs)
        # Transformers takes the old run's logging, evaluation and saving steps from its state
        self.state.compute_steps(self.args, max_steps)
        self.saved_step = self.state.global_step if self.state.global_step else -1
        return place

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # a run that was killed while it evaluated has a checkpoint without scores
        resumed = kwargs.get("resume_from_checkpoint")
        if resumed and evaluating.owes_evaluation(self):
            self._load_rng_state(resumed)
            evaluating.score_step(self, evaluating.known_scores(self, Path(resumed)))
        if self.state.global_step >= self.state.max_steps:  # Transformers would take one step more
            self.control.should_training_stop = True
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    # Logging and evaluation: the Trainer evaluates before it saves, by teacher forcing, from its eval data set.

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, model: nn.Module, trial: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Log; save; then evaluate, so that being killed while decoding costs no step."""
        if self.place is not None:  # only now: a step that fails is taken again from the same place
            self.fingerprint["stream"] = self.place
        evaluate, save = self.control.should_evaluate, self.control.should_save
        self.control.should_evaluate = self.control.should_save = False
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, model, trial, *args, **kwargs)
        if self.tally.skips.tokens == 0:  # no cut could be used so far: there is nothing to save or to score
            return
        if save:
            self._save_checkpoint(model, trial)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)
        if evaluate:
            evaluating.score_step(self)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add speed to the training line, and put the plan's epoch in place of the Trainer's."""
        self.state.epoch = round(epochs_at(self.plan, self.options, self.state.global_step), 4)
        logs.pop("train_samples_per_second", None)  # Transformers counts batches as samples
        if "loss" in logs:
            logs |= self.tally.speed(self.args.device, self.peak_flops)
        super().log(logs)

    def evaluate(self, known: dict[str, float] | None = None, *_: Any, **__: Any) -> dict[str, float]:
        """Score the development cuts; the log line has Transformers' names.

        Args:
            known: The scores, where they are known.
        """
        scores = evaluating.measure(self, known)
        self.log(dict(scores))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, scores)
        return scores

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        # of equal error rates the Trainer keeps the first, here the loss decides between them
        metric = self.args.metric_for_best_model
        return metric is not None and best.note_best(self.state, metrics, f"eval_{metric}")

    # Saving: the Trainer writes into `checkpoint-N` itself: of a killed run half of one is left that looks complete.

    def _get_output_dir(self, trial: Any) -> str:
        # where super()._save_checkpoint writes "checkpoint-N": beside the place it is renamed to when complete
        return str(Path(self.args.output_dir) / checkpoint.WRITING)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self.saved_step != self.state.global_step:  # the Trainer saves a step again when training ends
            writing.write_checkpoint(self, partial(super()._save_checkpoint, model, trial))
            self.saved_step = self.state.global_step

    def checkpoint_bytes(self) -> int:
        """Estimate a checkpoint."""
        return writing.checkpoint_bytes(self)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        # the Trainer knows Transformers' and peft's formats: not what a family keeps, nor what trains beside the model
        folder, names = Path(output_dir), self.family.kept(self.accelerator.unwrap_model(self.model))
        if names is None:
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            writing.save_kept(self.model, names, state_dict, folder)
        if self.args.should_save:
            writing.save_beside(self, state_dict, folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        if is_adalora(self.model):  # peft's own files are pruned
            adalora.load_state(self.model, folder)
            return
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average is not None:
            self.average.load(folder)
        if not self.is_fsdp_enabled:  # FSDP's own file has all weights
            writing.load_extras(self.model, self.family, folder)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # a warning would be the end of it: the run would go on with random weights
        kept = self.family.kept(self.accelerator.unwrap_model(self.model))
        if odd := writing.odd_weights(load_result.missing_keys, load_result.unexpected_keys, kept, self.family):
            raise ModelError(f"the checkpoint's weights are another model's: {len(odd)} of them, e.g. {odd[:3]}")
