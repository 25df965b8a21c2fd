"""The planner: what it counts is what is there, and its answers move the right way."""

import json
from pathlib import Path

import pytest
import torch

from egrecho_inner.errors import ConfigError
from egrecho_inner.model.adapters import add_adapter
from egrecho_inner.model.options import LoraOptions
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.plan import plan
from egrecho_inner.training.cost import BUCKET, footprint, peak_name, trained_parameters
from egrecho_inner.training.whisper_cost import activations, forward, shape, shell


def small() -> Whisper:
    config = shape("tiny")
    config.update({"vocab_size": 2000, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0})
    return Whisper(config).train()


def kept_bytes(model: torch.nn.Module, rows: int, frames: int, tokens: int) -> int:
    """Count what autograd keeps for the backward pass, weights excepted."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen, alive = {}, []

    def pack(value: torch.Tensor) -> torch.Tensor:
        alive.append(value)
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return value

    ids = torch.ones(rows, tokens, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        model(
            torch.randn(rows, 80, frames),
            attention_mask=torch.ones(rows, frames, dtype=torch.long),
            decoder_input_ids=ids,
            labels=ids,
        )
    return sum(seen.values())


@pytest.mark.parametrize("method", ["full", "lora"])
def test_activations_are_what_autograd_keeps(method: str) -> None:
    model = small()
    config = model.config
    if method == "lora":
        model = add_adapter(model, LoraOptions(dropout=0.0), 10)
    estimate = activations(config, 20.0, 10.0, 4.0, method, checkpointing=False, half=False)
    assert 0.7 < estimate / kept_bytes(model, 2, 1000, 40) < 1.3


def test_trained_parameters_are_those_of_the_adapter() -> None:
    options = LoraOptions(r=8)
    adapted = add_adapter(small(), options, 10)
    count = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert trained_parameters(small(), "lora", 8, options.target_modules) == count


def test_published_sizes() -> None:
    millions = {name: sum(p.numel() for p in shell(shape(name)).parameters()) / 1e6 for name in ("tiny", "large-v3")}
    assert millions["tiny"] == pytest.approx(39, rel=0.05)
    assert millions["large-v3"] == pytest.approx(1550, rel=0.05)


def test_sharding_divides_what_it_says() -> None:
    size = 10**9
    whole, one, two, three = (
        footprint(size, size, 0.0, sharding, 4, half=False) for sharding in ("none", "zero1", "zero2", "zero3")
    )
    buckets = 8 * BUCKET
    assert (two.weights, two.gradients - buckets) == (whole.weights, whole.gradients / 4)
    assert one.gradients - buckets == whole.gradients
    # two moments, and DeepSpeed's own fp32 weights
    assert two.optimizer == one.optimizer == (whole.optimizer + 4 * size) / 4
    assert three.weights == whole.weights / 4
    offloaded = footprint(size, size, 0.0, "zero2+offload", 4, half=False)
    assert offloaded.optimizer == 0 and offloaded.host == 4 * two.optimizer


@pytest.mark.parametrize("path", sorted(Path("config").glob("ds_*.json")), ids=lambda path: path.stem)
def test_gradients_travel_in_the_buffers_that_are_counted(path: Path) -> None:
    bucket = json.loads(path.read_text())["zero_optimization"]["reduce_bucket_size"]
    assert bucket == BUCKET  # DeepSpeed's own default takes 4 GB of every GPU
    assert max(p.numel() for p in shell(shape("large-v3")).parameters()) < bucket


@pytest.mark.parametrize(
    ("device", "known"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"), ("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("Tesla T4", "T4"), ("NVIDIA A10G", "A10G"), ("NVIDIA L40", "L40"), ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA RTX A4000", None), ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
    ],
)  # fmt: skip
def test_a_gpu_is_known_by_its_full_name(device: str, known: str | None) -> None:
    assert peak_name(device) == known


def test_flops_of_a_forward_pass_are_those_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = small().eval()
    model.set_attn_implementation("eager")  # torch does not count its fused attention on a CPU
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ids = torch.ones(1, 40, dtype=torch.long)
        model(torch.randn(1, 80, 1000), decoder_input_ids=ids)
    assert sum(forward(model.config, 1000, 40, 80)) == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_plan_prints_what_fits_and_how_long(capsys: pytest.CaptureFixture) -> None:
    plan(size="tiny", gpu="A100", hours=10.0)
    out = capsys.readouterr().out
    assert "tiny" in out and "yes" in out and "10.0 h of audio" in out
    plan(size="large-v3", gpu="16", gpus=4)
    out = capsys.readouterr().out
    assert "no" in out and "zero3+offload" in out
    with pytest.raises(ConfigError, match="legal are"):
        plan(size="giant")


def test_a_speech_llm_is_planned_with_its_published_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    from egrecho_inner.training.slam_cost import sizes

    _, found = sizes("7B")
    assert (found.llm, found.projector) == (6_738_415_616, 21_501_952)
    plan(llm="7B", max_duration=60)
    plan(llm="70B", gpus=16, max_duration=60)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    alone = next(row for row in rows if row[:2] == ["7B", "projector"])
    assert alone[-4:] == ["yes"] * 4 and 14 < float(alone[-5]) < 21
    assert next(row for row in rows if row[:3] == ["70B", "whole", "LLM"])[-1] == "yes"
