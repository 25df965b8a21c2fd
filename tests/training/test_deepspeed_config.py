"""DeepSpeed's configuration beside the options: SLAM-LLM's printed one, each contradiction, the shipped ones."""

import json
from pathlib import Path

import pytest

from egrecho_inner.errors import ConfigError
from egrecho_inner.training.guards.deepspeed_config import check_deepspeed_config
from egrecho_inner.training.options import TrainOptions

ROOT = Path(__file__).resolve().parents[2]
PRINTED = {
    "train_micro_batch_size_per_gpu": 4,
    "gradient_accumulation_steps": 1,
    "optimizer": {"type": "Adam", "params": {"lr": 1e-4}},
    "fp16": {"enabled": True},
    "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}},
}


def write(folder: Path, config: object) -> str:
    path = folder / "ds_config.json"
    path.write_text(json.dumps(config))
    return str(path)


def test_the_printed_configuration_is_refused_in_one_line_with_each_conflict(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as found:
        check_deepspeed_config(write(tmp_path, PRINTED), TrainOptions())
    line = str(found.value)
    assert "\n" not in line
    for words in (
        "train_micro_batch_size_per_gpu 4 (write auto, and batch.batch_size 4",
        "optimizer Adam (remove it",
        "no gradient_clipping",
        "fp16.enabled true (train.precision is fp32",
        "config/ds_zero2_offload.json",
    ):
        assert words in line, words
    assert "gradient_accumulation_steps" not in line  # 1 is what train.accumulation is
    assert "zero_optimization" not in line


def test_without_its_conflicts_the_printed_configuration_is_accepted(tmp_path: Path) -> None:
    kept = {name: PRINTED[name] for name in ("gradient_accumulation_steps", "fp16", "zero_optimization")}
    path = write(tmp_path, kept | {"train_micro_batch_size_per_gpu": "auto", "gradient_clipping": 1.0})
    check_deepspeed_config(path, TrainOptions(precision="fp16"))


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"train_batch_size": 8}, {}, "train_batch_size 8"),
        ({"gradient_accumulation_steps": 2}, {}, "gradient_accumulation_steps 2 (train.accumulation is 1)"),
        ({"scheduler": {"type": "WarmupLR"}}, {}, "scheduler WarmupLR (remove it"),
        ({"gradient_clipping": 5.0}, {}, "gradient_clipping 5.0 (train.max_grad_norm is 1.0)"),
        ({"bf16": {"enabled": False}}, {"precision": "bf16"}, "bf16.enabled is missing or false"),
        ({}, {"precision": "bf16"}, "bf16.enabled is missing or false"),
    ],
)
def test_each_contradiction_is_named(
    change: dict[str, object], options: dict[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as found:
        check_deepspeed_config(write(tmp_path, {"gradient_clipping": "auto", **change}), TrainOptions(**options))
    assert words in str(found.value)


def test_what_is_no_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a JSON object"):
        check_deepspeed_config(write(tmp_path, [1]), TrainOptions())
    (tmp_path / "ds_config.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        check_deepspeed_config(str(tmp_path / "ds_config.json"), TrainOptions())


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("ds_*.json")), ids=lambda path: path.stem)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_shipped_configurations_leave_everything_to_the_options(path: Path, precision: str) -> None:
    check_deepspeed_config(str(path), TrainOptions(precision=precision, accumulation=3, max_grad_norm=0.5))
