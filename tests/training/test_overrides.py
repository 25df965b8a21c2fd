"""What the trainer overrides of Transformers is there, with the arguments it was written for, or it is named."""

import ast
import inspect
from pathlib import Path

import pytest
from transformers import Trainer

import egrecho_inner
from egrecho_inner.training.trainer import PlanTrainer

OVERRIDES = {
    "get_train_dataloader": "self",
    "get_batch_samples": "self, epoch_iterator, num_batches, device",
    "training_step": "self, model, inputs, num_items_in_batch",
    "compute_loss": "self, model, inputs, return_outputs, num_items_in_batch",
    "create_optimizer": "self, model",
    "_get_grad_norm": "self, model, grad_norm",
    "_prepare_for_training": "self, max_steps, train_dataloader, resume_from_checkpoint",
    "_init_training_state": "self, max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, "
    "trial",
    "_run_epoch": "self, model, epoch, train_dataloader, steps_in_epoch, num_update_steps_per_epoch, trial, "
    "ignore_keys_for_eval, start_time, resume_from_checkpoint, epochs_trained, steps_trained_in_current_epoch",
    "_maybe_log_save_evaluate": "self, tr_loss, grad_norm, model, trial, epoch, ignore_keys_for_eval, start_time, "
    "learning_rate",
    "log": "self, logs, start_time",
    "evaluate": "self, eval_dataset, ignore_keys, metric_key_prefix",
    "_determine_best_metric": "self, metrics, trial",
    "_get_output_dir": "self, trial",
    "_save_checkpoint": "self, model, trial",
    "_save": "self, output_dir, state_dict",
    "_load_from_checkpoint": "self, resume_from_checkpoint, model",
    "_issue_warnings_after_load": "self, load_result",
}
"""The methods of Transformers' Trainer that `PlanTrainer` replaces, with the arguments they have in the version that it
was written for. Where one differs: read the new one in transformers/trainer.py, then ours with its reason, then change
both here."""
CALLED = {
    "_load_rng_state": "self, checkpoint",
    "get_decay_parameter_names": "self, model",
    "get_optimizer_cls_and_kwargs": "args, model",
}
"""Those it calls but does not replace."""


def arguments(method: str) -> str:
    found = getattr(Trainer, method, None)
    return "not there any more" if found is None else ", ".join(inspect.signature(found).parameters)


@pytest.mark.parametrize("method", [*OVERRIDES, *CALLED])
def test_transformers_has_the_method_with_these_arguments(method: str) -> None:
    assert arguments(method) == (OVERRIDES | CALLED)[method], f"Trainer.{method} of this Transformers is another one"


def test_the_table_is_what_is_overridden() -> None:
    ours = {name for name in vars(PlanTrainer) if hasattr(Trainer, name) and not name.startswith("__")}
    assert ours - {"checkpoint_bytes"} == OVERRIDES.keys()
    assert PlanTrainer.__mro__[1] is Trainer, "no class between: all overrides are in one file"


@pytest.mark.parametrize("method", OVERRIDES)
def test_ours_takes_what_transformers_calls_it_with(method: str) -> None:
    theirs, mine = (inspect.signature(getattr(each, method)) for each in (Trainer, PlanTrainer))
    given = [None] * sum(p.default is p.empty for p in theirs.parameters.values())
    mine.bind(*given)
    named = {p.name: None for p in theirs.parameters.values() if p.default is not p.empty}
    if not any(p.kind is p.VAR_POSITIONAL for p in mine.parameters.values()):
        mine.bind(*given, **named)


def test_private_methods_are_overridden_in_the_trainers_file_alone() -> None:
    private = {name for name in OVERRIDES if name.startswith("_")}
    for path in Path(egrecho_inner.__file__).parent.rglob("*.py"):
        if path.name == "trainer.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any("Trainer" in ast.unparse(base) for base in node.bases):
                assert not private & {each.name for each in node.body if isinstance(each, ast.FunctionDef)}, path


def test_every_private_override_gives_its_reason() -> None:
    for method in (name for name in OVERRIDES if name.startswith("_")):
        lines = inspect.getsource(vars(PlanTrainer)[method]).splitlines()
        assert any("# " in line for line in lines), f"{method}: why is it overridden?"
