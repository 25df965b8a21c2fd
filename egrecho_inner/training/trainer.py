"""The one trainer: Transformers' Trainer fed by a batch plan, evaluated by real decoding, stopped without loss.

What differs from Transformers' own, each because it goes wrong there (see docs/reliability.md):
- batches come from a Lhotse-style plan that is sharded already, so accelerate never touches the loader;
- the loss is the mean over the target tokens of the global batch, whatever processes and accumulation divide it;
- a checkpoint is written before its evaluation, which decodes; a restart evaluates what a killed run still owed;
- once per step all processes agree whether to stop, in the message that counts the tokens.
"""

import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from egrecho_inner.data.batches.plan import BatchPlan
from egrecho_inner.data.batches.stream import StreamPlan
from egrecho_inner.data.batches.tensors import CutBatches, LoadedBatch, PlanSampler, make_loader
from egrecho_inner.errors import ConfigError, DataError, Interrupted, MachineError
from egrecho_inner.runtime.files import write_json
from egrecho_inner.runtime.passes import make_key
from egrecho_inner.training import collectives, cost
from egrecho_inner.training.callbacks import Tally
from egrecho_inner.training.checkpoints import adalora, best
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints.adalora import is_adalora
from egrecho_inner.training.evaluating import Evaluate, EvaluatingTrainer
from egrecho_inner.training.family import Family
from egrecho_inner.training.frozen import FrozenEncoder
from egrecho_inner.training.guards import loaders, memory, sharding, strategy
from egrecho_inner.training.guards.rehearsal import rehearse
from egrecho_inner.training.guards.skips import Skips
from egrecho_inner.training.guards.stops import Stops, start_worker
from egrecho_inner.training.guards.together import FitsAllOrNone
from egrecho_inner.training.options import TrainOptions
from egrecho_inner.training.parts import make_optimizer
from egrecho_inner.training.steps import epochs_at

logger = logging.getLogger(__name__)


class PlanTrainer(EvaluatingTrainer):
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
        self.draws = random_state()
        """Before the step at hand."""
        self.taken: list[LoadedBatch] = []
        """The batches of the step at hand that are not trained on yet."""
        self.count_operations = family.cost(self.accelerator.unwrap_model(model))
        self.peak_flops = None if self.count_operations is None else cost.peak(args.device, options.precision)
        self.frozen: FrozenEncoder | None = None
        if options.encoder_cache_gb:
            encoder, folder = family.encoder(self.accelerator.unwrap_model(model)), Path(args.output_dir)
            if encoder is None:
                raise ConfigError(f"train.encoder_cache_gb: {family.name} has no encoder whose outputs can be kept")
            key = make_key(precision=options.precision, **{name: fingerprint[name] for name in ("model", "data")})
            given = options.encoder_cache_gb, batches.augmenter, self.accelerator, key
            self.frozen = FrozenEncoder(encoder, folder, *given)

    def get_train_dataloader(self) -> DataLoader:
        sampler = PlanSampler(self.plan, self.args.process_index, lambda: self.state.global_step)
        workers, pin = self.args.dataloader_num_workers, torch.cuda.is_available()
        loader = make_loader(self.batches, sampler, workers, pin, self.options.prefetch)
        loader.worker_init_fn = start_worker
        return loader

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
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

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Do what a killed run still owed its last step, then train."""
        resumed = kwargs.get("resume_from_checkpoint")
        if resumed and self.owes_evaluation():
            self._load_rng_state(resumed)
            self.score_step(self.known_scores(Path(resumed)))
        if self.state.global_step >= self.state.max_steps:  # Transformers would take one step more
            self.control.should_training_stop = True
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """Take the batches of one step, unless the processes agree to stop before it."""
        began = time.perf_counter()
        samples, broken = [], ""
        self.stops.loaders.watch()  # the loader processes began with this epoch_iterator
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
        self.place, self.draws, self.taken = samples[-1].state, random_state(), list(samples)
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
            return total, f"!{broken or 'a loader process of another process died'}"
        return total, (self.stops.reason or "another process was asked to stop") if asked else None

    def raise_if_stopped(self) -> None:
        """After train(): leave with the exit code of why it ended early.

        Raises:
            MachineError: A loader process died.
            Interrupted: The run was stopped on request.
            DataError: Not one cut could be used.
        """
        if self.stopped is None:
            self.tally.skips.check_used(self.args.should_save)
            return
        step = f"checkpoint-{self.state.global_step} is complete; the same command continues"
        if self.stopped.startswith("!"):
            raise MachineError(f"{self.stopped[1:]} {loaders.REMEDY}; {step}")
        raise Interrupted(f"{self.stopped}: stopped at step {self.state.global_step}/{self.state.max_steps}; {step}")

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

    def save_after_fault(self) -> Path | None:
        """Save the last complete step after one that did not fit, and return the checkpoint; None at step 0."""
        set_random_state(self.draws)
        self.model.zero_grad(set_to_none=True)
        memory.release()
        if self.state.global_step == 0:
            return None
        self._save_checkpoint(self.model, None)
        return Path(self.args.output_dir) / f"{checkpoint.PREFIX}{self.state.global_step}"

    def release(self) -> None:
        """Let go of all but the model: the trainer that goes on with it brings its own optimizer."""
        self.callback_handler.on_train_end(self.args, self.state, self.control)
        self.accelerator.unwrap_model(self.model_wrapped, keep_fp32_wrapper=False)  # or autocast would be put on twice
        self.accelerator.free_memory()
        self.model_wrapped, self.optimizer, self.lr_scheduler = self.model, None, None
        self.callback_handler.optimizer = self.callback_handler.lr_scheduler = None

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer; Transformers' knows no rates of parts, and no Lion without bitsandbytes."""
        if self.optimizer is None:
            model = self.model if model is None else model
            parts = self.family.parts(self.accelerator.unwrap_model(model))
            decaying = set(self.get_decay_parameter_names(model))
            self.optimizer = make_optimizer(model, parts, self.options, self.args, decaying)
        return super().create_optimizer(model)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        if not torch.isfinite(torch.as_tensor(norm)):
            self.meet_nonfinite(model, float(norm))
        return norm

    def meet_nonfinite(self, model: nn.Module, norm: float) -> None:
        """Stop before the optimizer takes the step, or leave the step out and count it.

        Raises:
            DataError: By `train.nonfinite: stop`, or after too many of them.
        """
        self.tally.nonfinite += 1
        step, scale = self.state.global_step, strategy.loss_scale(self)
        if scale is not None:  # fp16: the scaler leaves the step out and lowers its scale
            if scale >= strategy.MIN_SCALE:
                return
            raise DataError(strategy.fallen_scale(f"{scale:g}", step))
        path = Path(self.args.output_dir) / f"nonfinite-{step}-rank{self.args.process_index}.json"
        write_json(path, {"step": step, "grad_norm": str(norm), "ids": self.tally.ids})
        if self.options.nonfinite == "skip" and self.tally.nonfinite <= self.options.nonfinite_limit:
            logger.warning("the gradient norm is %s at step %d: no update; its cuts are in %s", norm, step, path)
            if not self.is_deepspeed_enabled:  # which has left the step out already
                model.zero_grad(set_to_none=True)  # an optimizer passes over parameters without gradient
            return
        count = f" (number {self.tally.nonfinite} of this run)" if self.options.nonfinite == "skip" else ""
        raise DataError(
            f"the gradient norm is {norm}{count} at step {step}; its cuts are in {path}; check their audio and text, "
            "lower train.learning_rate, or train.nonfinite skip; the same command continues from the last checkpoint"
        )

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
            self.score_step()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add speed to the training line, and put the plan's epoch in place of the Trainer's."""
        self.state.epoch = round(epochs_at(self.plan, self.options, self.state.global_step), 4)
        logs.pop("train_samples_per_second", None)  # Transformers counts batches as samples
        if "loss" in logs:
            logs |= self.tally.speed(self.args.device, self.peak_flops)
        super().log(logs)


def random_state() -> list[torch.Tensor]:
    """Return the states that dropout draws from: the machine's, and the GPU's if there is one."""
    return [torch.random.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])]


def set_random_state(states: list[torch.Tensor]) -> None:
    """Go back to states that `random_state` returned."""
    torch.random.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)
