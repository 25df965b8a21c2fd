"""DeepSpeed in 16 bits on two processes: evaluated, killed and continued, saved; fp16's overflow is a step left out."""

import math
from pathlib import Path

import needs
import pytest
from launching import launch, results
from runs import train
from tiny import speech_cuts

from egrecho_inner.errors import ConfigError
from egrecho_inner.model.adapters import LoraOptions

needs.deepspeed()


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Cuts, development cuts and a folder."""
    folder = tmp_path_factory.mktemp("zero")
    return [speech_cuts(folder, n=11), speech_cuts(folder, n=3, name="dev"), folder]


@pytest.fixture(scope="module")
def found(words: list[Path]) -> dict[str, dict]:
    """What became of every task; a start of two processes takes long, so there are few."""
    tasks = ["bf16:zero1", "bf16:zero2", "bf16:zero3", "cache:zero2", "cache:zero3", "lora:zero2", "lora:zero3"]
    found = results(launch("zero.py", *words, *tasks, "kill:zero2"), killed=True)
    found |= results(launch("zero.py", *words, "again:zero2", "kill:zero3"), killed=True)
    tasks = ["again:zero3", "fp16:zero2", "fp16:zero3", "lowest:zero2", "lowest:zero3", "nan:zero2", "nan:zero3"]
    return found | results(launch("zero.py", *words, *tasks))


@pytest.mark.parametrize("name", ["zero1", "zero2", "zero3"])
def test_bf16_is_evaluated_and_saved_in_bf16(found: dict[str, dict], name: str) -> None:
    row = found[f"bf16:{name}"]
    assert row["types"] == ["BF16"]
    assert len(row["eval_loss"]) == 2 and row["eval_loss"][1] < row["eval_loss"][0] < row["loss"]
    assert row["loss"] == pytest.approx(found["bf16:zero1"]["loss"], rel=1e-3)


@pytest.mark.parametrize("name", ["zero1", "zero2", "zero3"])
def test_a_checkpoint_takes_what_was_estimated(found: dict[str, dict], name: str) -> None:
    row = found[f"bf16:{name}"]
    assert row["estimates"] and all(0.8 * row["bytes"] < each < 1.1 * row["bytes"] for each in row["estimates"])


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_bf16_killed_and_continued_is_the_same_run(found: dict[str, dict], name: str) -> None:
    row = found[f"again:{name}"]
    assert row["same"] and row["eval_loss"] == found[f"bf16:{name}"]["eval_loss"]


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_a_frozen_encoder_is_remembered(found: dict[str, dict], name: str) -> None:
    row = found[f"cache:{name}"]
    assert row["kept"] == pytest.approx(row["plain"], rel=1e-2)


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_an_adapter_is_trained_and_evaluated(found: dict[str, dict], name: str) -> None:
    row = found[f"lora:{name}"]
    assert row["moved"] > 0 and row["eval_loss"][1] < row["eval_loss"][0]


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_fp16_leaves_steps_out_until_its_scale_fits(found: dict[str, dict], name: str) -> None:
    row = found[f"fp16:{name}"]
    overflows = sum(math.isinf(norm) for norm in row["grad_norm"])
    assert 1 <= overflows <= 7 and all(math.isinf(norm) for norm in row["grad_norm"][:overflows])
    assert row["nonfinite"][8] == overflows and len(row["loss"]) == 11
    assert math.isfinite(row["grad_norm"][9]), "the scale is that of the checkpoint, not the first one"
    assert not any(row["learning_rate"][: overflows + 1]), "the schedule waits for the first step taken"
    assert row["learning_rate"][-1] > 0 and row["eval_loss"][-1] < row["eval_loss"][0]
    assert "fp16 loss scale fell to its minimum" in found[f"lowest:{name}"]["error"]


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_a_gradient_that_is_not_finite_changes_no_weight(found: dict[str, dict], name: str) -> None:
    row = found[f"nan:{name}"]
    assert row["unchanged"] and row["nonfinite"] == [1]
    assert "the gradient norm is inf at step 5" in row["error"]


def test_without_zero_nothing_can_be_skipped(words: list[Path], tmp_path: Path) -> None:
    (tmp_path / "plain.json").write_text("{}")
    with pytest.raises(ConfigError, match="without ZeRO DeepSpeed takes the step before it can be seen"):
        train(words[0], tmp_path / "run", deepspeed=str(tmp_path / "plain.json"), nonfinite="skip")


def test_adalora_is_refused_where_gradients_are_sharded(words: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"adalora cannot move its ranks under train\.deepspeed"):
        lora = LoraOptions(method="adalora", r=2, init_r=4)
        train(words[0], tmp_path, lora=lora, deepspeed="config/ds_zero2.json")
