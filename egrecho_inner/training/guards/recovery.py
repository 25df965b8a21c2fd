"""What a run does after a batch that did not fit: saves the last complete step, and makes room for smaller batches.

Transformers' own answer to that begins the epoch anew with the batch size halved, and the effective one with it.
"""

from pathlib import Path
from typing import Any

from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.guards import draws, memory


def save_last_step(trainer: Any) -> Path | None:
    """Save the last complete step after one that did not fit, and return the checkpoint; None at step 0."""
    draws.set_random_state(trainer.draws)
    trainer.model.zero_grad(set_to_none=True)
    memory.release()
    if trainer.state.global_step == 0:
        return None
    trainer._save_checkpoint(trainer.model, None)
    return Path(trainer.args.output_dir) / f"{checkpoint.PREFIX}{trainer.state.global_step}"


def release(trainer: Any) -> None:
    """Let go of all but the model: the trainer that goes on with it brings its own optimizer."""
    trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
    # or autocast would be put on twice
    trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
    trainer.accelerator.free_memory()
    trainer.model_wrapped, trainer.optimizer, trainer.lr_scheduler = trainer.model, None, None
    trainer.callback_handler.optimizer = trainer.callback_handler.lr_scheduler = None
