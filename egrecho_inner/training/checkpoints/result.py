"""The result of a run: `final/` or `adapter/`, from the best checkpoint's own files, whole or not at all.

In: a trained run folder. Out: everything that Transformers, CTranslate2 and whisper.cpp's converter look for, a model
card, and `training.json`, which says how the result was made. Sharded runs need nothing more: their checkpoints hold
gathered weights.
"""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.options import Window
from egrecho_inner.runtime.files import replace_folder, working_folder, write_json
from egrecho_inner.training.average import load_averages
from egrecho_inner.training.callbacks import in_words
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints import leases
from egrecho_inner.training.checkpoints.card import TRAINING, write_card
from egrecho_inner.training.checkpoints.scores import is_scored
from egrecho_inner.training.checkpoints.writing import odd_weights
from egrecho_inner.training.family import Family
from egrecho_inner.training.guards.sharding import is_sharded
from egrecho_inner.training.trainer import PlanTrainer

logger = logging.getLogger(__name__)


def is_finished(place: Path, max_steps: int) -> bool:
    """Tell whether a result is there that was trained for at least this long."""
    path = place / TRAINING
    if not path.is_file():
        return place.is_dir()
    return json.loads(path.read_text(encoding="utf-8")).get("max_steps", max_steps) >= max_steps


def set_aside(place: Path, main: bool) -> None:
    """Rename the result of a shorter run, so that nobody takes it for the longer one's."""
    if main and place.is_dir():
        made = json.loads((place / TRAINING).read_text(encoding="utf-8"))
        kept = place.with_name(f"{place.name}-{made.get('step', 'before')}")
        replace_folder(place, kept)
        logger.info("the run goes on after its end: the result so far is now %s", kept)


def save_result(trainer: PlanTrainer, place: Path, window: Window, about: dict[str, Any]) -> None:
    """Save the best checkpoint's weights as the result of the run; only the first process does.

    Args:
        trainer: After training.
        place: The folder.
        window: The input the model was trained with.
        about: What the model card tells (`card.about`).
    """
    if not trainer.args.should_save:
        return
    source = best_checkpoint(trainer)
    model, family = trainer.accelerator.unwrap_model(trainer.model), trainer.family
    with working_folder(place) as working:
        made = facts_of_result(trainer, model, source, window, about)
        if isinstance(model, PeftModel):
            for name in ("adapter_config.json", "adapter_model.safetensors"):
                shutil.copyfile(source / name, working / name)
        else:
            plain = family.plain(model) if is_sharded(model) else model
            if plain is None:
                family.save_kept(model, read_weights(source), working)
            else:
                load_weights(plain, source, family)
                load_averages(plain, source)
                family.save(plain, working, made)
        write_json(working / TRAINING, made)
        write_card(working)
    logger.info("saved %s", place)


def facts_of_result(
    trainer: PlanTrainer, model: nn.Module, source: Path, window: Window, about: dict[str, Any]
) -> dict[str, Any]:
    """Return what `training.json` holds: how a result was made, from which checkpoint, and how good that was."""
    return {
        "family": trainer.family.name,
        "input_window": window,
        "timestamps": trainer.batches.timed,
        **trainer.family.facts(model),
        **about,
        "step": trainer.state.global_step,
        "max_steps": trainer.state.max_steps,
        "best": source.name,
        "scores": scores_of(source),
    }


def best_checkpoint(trainer: PlanTrainer) -> Path:
    """Return the checkpoint of the best development score, or the last one where there is none.

    Raises:
        ModelError: No complete checkpoint is left.
    """
    run = Path(trainer.args.output_dir)
    if (choice := chosen_checkpoint(run)) is not None:
        checkpoint.rotate(run, trainer.options.keep_checkpoints, choice)  # none waits for its score any more
        return choice
    if trainer.state.best_global_step:
        best = run / f"{checkpoint.PREFIX}{trainer.state.best_global_step}"
        reason = checkpoint.fault(best)
        if reason is None:
            score = in_words({f"eval_{trainer.options.metric}": trainer.state.best_metric})
            logger.info("the best checkpoint is %s (%s)", best, score)
            return best
        logger.warning("the best checkpoint %s cannot be used: %s; taking the last one", best, reason)
    last = checkpoint.newest(run)
    if last is None:
        raise ModelError(f"{run} has no complete checkpoint to make the result from; repeat the command")
    return last


def chosen_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint that `egrecho watch-checkpoints --choose` found best, once it has scored the last ones."""
    names = [path.name for _, path in checkpoint.steps(run) if checkpoint.fault(path, contents=False) is None]
    if leases.is_chooser_live(run):
        logger.info("waiting for the evaluator that chooses the result")
    if leases.wait_for_chooser(run, names, is_scored):
        checkpoint.choose_best(run)  # another evaluator may have scored one since the last choice
    found = leases.chosen(run)
    if not found:
        return None
    best = run / found["checkpoint"]
    if reason := checkpoint.fault(best):
        logger.warning("the chosen checkpoint %s cannot be used: %s", best, reason)
        return None
    logger.info("the chosen checkpoint is %s (%s)", best, in_words({f"eval_{found['metric']}": found["score"]}))
    return best


def scores_of(folder: Path) -> dict[str, Any]:
    """Return the development scores of a checkpoint; empty if it has none."""
    path = folder / checkpoint.EVALUATION
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def load_weights(model: nn.Module, folder: Path, family: Family) -> None:
    """Load the weights of a checkpoint into a model, every one accounted for.

    Raises:
        ConfigError: They are another model's.
    """
    missing, unexpected = model.load_state_dict(read_weights(folder), strict=False)
    if odd := odd_weights(missing, unexpected, family.kept(model), family):
        raise ConfigError(f"{folder}: weights {odd[:5]} do not belong to this model")


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a checkpoint, of all its files."""
    state: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        state |= load_file(file)
    return state
