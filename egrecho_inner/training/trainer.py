"""The one trainer: Transformers' Trainer fed by a batch plan, judged by real decoding, saved in whole checkpoints.

What differs from Transformers' own, each because it goes wrong there (docs/architecture.md tells how):
- batches come from a Lhotse-style plan that is sharded already, so accelerate never touches the loader;
- the loss is the mean over the target tokens of the global batch, whatever processes and accumulation divide it;
- evaluation decodes; a non-finite gradient stops the run before it can reach a checkpoint;
- checkpoints are written beside and renamed; the run folder has plain `metrics.jsonl`.
"""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from lion_pytorch import Lion
from peft import PeftModel
from torch import nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from egrecho_inner.data.batching import BatchPlan
from egrecho_inner.data.dataset import CutBatches, PlanSampler, make_loader
from egrecho_inner.errors import DataError
from egrecho_inner.training import checkpoint
from egrecho_inner.training.options import TrainOptions

logger = logging.getLogger(__name__)

CTC_HEAD = "ctc_head.safetensors"
Evaluate = Callable[[nn.Module], dict[str, float]]
"""Scores the model on the development cuts: names without `eval_` to values; every process calls it."""


class WhisperTrainer(Trainer):
    """Train a Whisper, or its adapter, on a batch plan.

    Args:
        model: A Whisper or a PeftModel of one.
        args: Transformers' arguments, from `training_arguments`.
        options: Ours.
        batches: Makes the tensors of a batch.
        plan: Which cuts go together.
        score: Scores the model on the development cuts.
        fingerprint: What a checkpoint must agree with to be continued.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        options: TrainOptions,
        batches: CutBatches,
        plan: BatchPlan,
        score: Evaluate,
        fingerprint: dict[str, Any],
        callbacks: list[TrainerCallback],
    ):
        # the Trainer wants a dataset where it is to evaluate; evaluate() below never looks at it
        super().__init__(model=model, args=args, callbacks=callbacks, eval_dataset=batches)
        self.remove_callback(PrinterCallback)  # Metrics prints
        self.model_accepts_loss_kwargs = True
        self.options, self.batches, self.plan = options, batches, plan
        self.score, self.fingerprint = score, fingerprint
        self.tally = Tally()

    def get_train_dataloader(self) -> DataLoader:
        sampler = PlanSampler(self.plan, self.args.process_index, lambda: self.state.global_step)
        return make_loader(self.batches, sampler, self.args.dataloader_num_workers, pin=torch.cuda.is_available())

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """Take the batches of one step, keep what is for the log, leave what is for the model."""
        began = time.perf_counter()
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.tally.waited += time.perf_counter() - began
        self.tally.ids = [sample.pop("ids") for sample in samples]
        for sample in samples:
            self.tally.audio += sample.pop("seconds")
            self.tally.padded += sample.pop("padded_seconds")
            self.tally.note_skipped(sample.pop("skipped"))
        items = self._get_num_items_in_batch(samples, device)
        return samples, None if items is None else items.clamp(min=1)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer; Lion is not among Transformers' own without bitsandbytes."""
        if self.options.optimizer != "lion" or self.optimizer is not None:
            return super().create_optimizer(model)
        model = self.model if model is None else model
        decay = set(self.get_decay_parameter_names(model))
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        groups = [
            {"params": [p for name, p in named if name in decay], "weight_decay": self.args.weight_decay},
            {"params": [p for name, p in named if name not in decay], "weight_decay": 0.0},
        ]
        # decoupled_weight_decay False: the decay is scaled by the learning rate, as AdamW's
        self.optimizer = Lion(groups, lr=self.args.learning_rate, betas=(self.args.adam_beta1, self.args.adam_beta2))
        return self.optimizer

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        if not torch.isfinite(torch.as_tensor(norm)):
            self.stop_on_nonfinite(float(norm))
        return norm

    def stop_on_nonfinite(self, norm: float) -> None:
        """Leave before the optimizer takes the step, naming the batch.

        Raises:
            DataError: Always.
        """
        path = Path(self.args.output_dir) / f"nonfinite-{self.state.global_step}-rank{self.args.process_index}.json"
        checkpoint.write_json(path, {"step": self.state.global_step, "grad_norm": str(norm), "ids": self.tally.ids})
        raise DataError(
            f"the gradient norm is {norm} at step {self.state.global_step}; its cuts are in {path}; check their audio "
            "and text, or lower train.learning_rate; the same command continues from the last checkpoint"
        )

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the development cuts; the log line has Transformers' names."""
        began = time.perf_counter()
        scores = {f"eval_{name}": value for name, value in self.score(self.model).items()}
        runtime = time.perf_counter() - began
        cuts = scores.pop("eval_cuts", 0)
        scores |= {"eval_runtime": round(runtime, 4), "eval_samples_per_second": round(cuts / max(runtime, 1e-9), 3)}
        self.tally.began += runtime  # evaluation is not training time
        self.log(scores)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, scores)
        return scores

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add speed to the training line, and put the plan's epoch in place of the Trainer's."""
        self.state.epoch = round(self.plan.epochs_at(self.state.global_step), 4)
        if "loss" in logs:
            logs |= self.tally.speed(self.args.world_size)
        super().log(logs)

    def _get_output_dir(self, trial: Any) -> str:
        # where super()._save_checkpoint writes "checkpoint-N": beside the place it is renamed to when whole
        return str(Path(self.args.output_dir) / ".writing")

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        run = Path(self.args.output_dir)
        name = f"{checkpoint.PREFIX}{self.state.global_step}"
        if self.state.best_global_step:
            self.state.best_model_checkpoint = str(run / f"{checkpoint.PREFIX}{self.state.best_global_step}")
        if self.args.should_save:
            checkpoint.check_space(run, self.checkpoint_bytes())
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoint.seal(
                run / ".writing" / name,
                {"step": self.state.global_step, "world_size": self.args.world_size, **self.fingerprint},
            )
            checkpoint.publish(run / ".writing" / name, run / name)
            best = self.state.best_model_checkpoint
            checkpoint.rotate(run, self.options.keep_checkpoints, Path(best) if best else None)
        self.accelerator.wait_for_everyone()

    def checkpoint_bytes(self) -> int:
        """Estimate a checkpoint: all weights, and two moments for those that are trained."""
        weights = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return weights + 2 * sum(p.numel() * 4 for p in self.model.parameters() if p.requires_grad)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        head = getattr(self.model, "ctc_head", None)
        if head is not None and self.args.should_save:
            safetensors.torch.save_file(head.state_dict(), Path(output_dir) / CTC_HEAD)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        head = getattr(self.model, "ctc_head", None)
        if head is not None:
            head.load_state_dict(safetensors.torch.load_file(Path(resume_from_checkpoint) / CTC_HEAD))


class Tally:
    """What the trainer counts between two lines of the log."""

    def __init__(self) -> None:
        self.ids: list[list[str]] = []
        self.skipped: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        """Begin a new line."""
        self.audio = self.padded = self.waited = 0.0
        self.began = time.perf_counter()

    def note_skipped(self, skipped: list[tuple[str, str]]) -> None:
        """Name a cut that could not be used, once."""
        for cut, reason in skipped:
            if cut not in self.skipped:
                logger.warning("left out: %s", reason)
                self.skipped[cut] = reason

    def speed(self, world_size: int) -> dict[str, float]:
        """Return this process's figures (audio seconds times the processes) and begin anew."""
        elapsed = max(time.perf_counter() - self.began, 1e-9)
        figures = {
            "audio_seconds_per_second": round(world_size * self.audio / elapsed, 1),
            "padding": round(1 - self.audio / max(self.padded, 1e-9), 4),
            "data_wait": round(self.waited / elapsed, 4),
        }
        if self.skipped:
            figures["skipped"] = len(self.skipped)
        if torch.cuda.is_available():
            figures["peak_memory_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        self.reset()
        return figures


class Metrics(TrainerCallback):
    """Write every line of the log to `metrics.jsonl` and to the console."""

    def __init__(self, run: Path):
        self.path = run / "metrics.jsonl"

    def on_log(self, args: TrainingArguments, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
        if state.is_world_process_zero and logs:
            logs = {name: value for name, value in logs.items() if name != "total_flos"}
            with open(self.path, "a", encoding="utf-8") as out:
                out.write(json.dumps({"step": state.global_step, **logs}) + "\n")
            logger.info("step %d/%d %s", state.global_step, state.max_steps, shorten(logs))


class AdaLora(TrainerCallback):
    """Re-allocate AdaLoRA's ranks after each step, before the gradients are cleared: the Trainer never does."""

    def on_optimizer_step(self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        whole: PeftModel = getattr(model, "module", model)
        whole.base_model.update_and_allocate(state.global_step)


def shorten(logs: dict[str, Any]) -> dict[str, Any]:
    """Round the numbers of a log line for the eye."""
    return {name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in logs.items()}
