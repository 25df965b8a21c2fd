"""Parts of a model: their own learning rates and weight decays, their own type, and steps in other units."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TRAIN, train
from test_family import train as train_toy
from tiny import tiny_model, tiny_processor
from toy_family import ToyFamily, ToyModel

from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.data.batches.plan import BatchPlan
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.options import LoraOptions
from egrecho_inner.training import steps
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints.resume import differences
from egrecho_inner.training.options import TrainOptions
from egrecho_inner.training.parts import parameter_groups
from egrecho_inner.training.trainer import PlanTrainer
from egrecho_inner.training.whisper_family import parts_of


class Kept(PlanTrainer):
    """A trainer that a test can look at."""

    last: "Kept"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        Kept.last = self


def test_every_trained_parameter_is_in_one_group_and_the_smallest_named_part_decides() -> None:
    model = tiny_model(tiny_processor()).train()
    options = TrainOptions(
        learning_rate=1e-3, learning_rates={"decoder": 1e-4, "embeddings": 1e-5}, weight_decays={"encoder": 0.0}
    )
    names = {id(p): name for name, p in model.named_parameters()}
    decaying = [name for name in names.values() if "norm" not in name and "bias" not in name]
    groups = parameter_groups(model, parts_of(model), options, decaying)
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    assert sum(len(group["params"]) for group in groups) == len(found)
    assert found["model.decoder.embed_tokens.weight"] == (1e-5, 0.01)
    assert found["model.decoder.layers.0.fc1.weight"] == (1e-4, 0.01)
    assert found["model.decoder.layers.0.fc1.bias"] == (1e-4, 0.0)
    assert found["model.encoder.layers.0.fc1.weight"] == (1e-3, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rates": {"llm": 1e-4}}, r"train\.learning_rates llm: this model has the parts encoder, decoder"),
        ({"weight_decays": {"encoder": 0.1}, "freeze": ["encoder"]}, r"encoder: nothing of it is trained"),
    ],
)
def test_a_part_that_is_not_there_or_not_trained_is_named(
    cuts: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(cuts, tmp_path, max_steps=1, **changes)


@pytest.mark.parametrize("optimizer", ["adamw", "lion", "sgd"])
def test_each_part_moves_at_its_own_rate(cuts: Path, tmp_path: Path, optimizer: str) -> None:
    options = {"optimizer": optimizer, "learning_rates": {"head": 1e-6}, "eps": 1e-6, "max_steps": 2}
    torch.manual_seed(1)
    before = ToyModel().state_dict()
    train_toy(cuts, tmp_path, None, **options, weight_decay=0.0, schedule="polynomial", min_learning_rate=1e-3)
    from toy_family import load_toy

    after = load_toy(tmp_path / "final").state_dict()
    moved = {name: float((after[name] - before[name]).abs().max()) for name in before}
    assert moved["frontend.weight"] == 0 < moved["head.weight"] < 0.1 * moved["body.1.weight"]


def test_a_part_keeps_its_rate_after_a_kill(cuts: Path, tmp_path: Path) -> None:
    from runs import in_child, kill_at_step, same

    options = {"learning_rates": {"head": 1e-3}, "schedule": "linear"}

    def killed() -> None:
        kill_at_step(5)
        train_toy(cuts, tmp_path / "killed", None, **options)

    train_toy(cuts, tmp_path / "at_once", None, **options)
    assert in_child(killed) == -9
    train_toy(cuts, tmp_path / "killed", None, **options)
    assert same(tmp_path / "killed" / "final", tmp_path / "at_once" / "final")


def test_frozen_weights_have_their_type_and_what_is_trained_has_not(cuts: Path, dev: Path, tmp_path: Path) -> None:
    given = {"frozen_dtype": "bfloat16", "precision": "bf16", "max_steps": 2, "metric": "wer", "eval_steps": 2}
    train(cuts, tmp_path / "lora", dev, lora=LoraOptions(r=2), make_trainer=Kept, **given)
    types = {(p.requires_grad, p.dtype) for p in Kept.last.model.parameters()}
    assert types == {(True, torch.float32), (False, torch.bfloat16)}
    with pytest.raises(ConfigError, match=r"needs train\.precision bf16, here fp32"):
        train(cuts, tmp_path / "fp32", lora=LoraOptions(r=2), frozen_dtype="bfloat16")
    with pytest.raises(ConfigError, match="round what the result is made of"):
        train(cuts, tmp_path / "full", freeze=["encoder"], frozen_dtype="bfloat16", precision="bf16")


def test_a_global_batch_sets_the_accumulation_and_must_divide() -> None:
    batch, options = BatchOptions(None, 4), TrainOptions(global_batch=24)
    assert steps.with_accumulation(batch, options, 2).accumulation == 3
    with pytest.raises(ConfigError, match=r"train\.global_batch 24 is no multiple of 20, which is batch\.batch_size 4"):
        steps.with_accumulation(batch, options, 5)
    with pytest.raises(ConfigError, match=r"set batch\.batch_size"):
        steps.with_accumulation(BatchOptions(), options, 1)
    with pytest.raises(ConfigError, match=r"leave train\.accumulation out"):
        steps.with_accumulation(batch, dataclasses.replace(options, accumulation=2), 1)


def test_epochs_are_counted_in_steps_where_they_are_called_so(cuts: Path, dev: Path, tmp_path: Path) -> None:
    plan = BatchPlan(torch.ones(12).numpy(), BatchOptions(None, 2))
    assert steps.with_evaluations(plan, TrainOptions(eval_per_epoch=2)).eval_steps == 3
    assert steps.with_evaluations(plan, TrainOptions(eval_per_epoch=50)).eval_steps == 1
    options = TrainOptions(num_epochs=2.5, epoch_steps=4, eval_per_epoch=2)
    assert steps.count_steps(plan, options) == 10 and steps.with_evaluations(plan, options).eval_steps == 2
    assert steps.epochs_at(plan, options, 6) == 1.5
    train(cuts, tmp_path, dev, max_steps=None, num_epochs=1.5, epoch_steps=2, eval_per_epoch=2, prefetch=1, workers=1)
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [3, 2], "an evaluation at every step, the last two kept"


def test_a_checkpoint_of_a_version_without_an_option_is_continued_with_its_default() -> None:
    then = {"config": {"train": {"learning_rate": 1e-3}}}
    now = {"config": {"train": {"learning_rate": 1e-3, "eps": 1e-8, "learning_rates": {}, "global_batch": None}}}
    assert differences(then, now) == []
    now["config"]["train"] |= {"eps": 1e-6, "learning_rates": {"encoder": 1e-4}}
    assert differences(then, now) == ["train.eps: 1e-08 -> 1e-06", "train.learning_rates.encoder: None -> 0.0001"]


def test_the_toys_parts_are_used_by_name() -> None:
    assert set(ToyFamily().parts(ToyModel())) == {"frontend", "body", "head"} and TRAIN.learning_rates == {}
