"""FSDP2 on gloo: sharded by hand it trains as one process does; as accelerate does it, a run from start to result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from launching import launch, results
from tiny import speech_cuts

SCRIPT = """
import torch
import torch.distributed as dist
from tiny import tiny_model, tiny_processor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from egrecho_inner.config import read_yaml
from egrecho_inner.training.guards.sharding import is_sharded, unsharded
from egrecho_inner.training.whisper_family import build_plain

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(1)
features, labels = torch.randn(4, 80, 60), torch.randint(0, 200, (4, 5))
ids = labels.roll(1, 1)
alone, model = tiny_model(tiny_processor()), tiny_model(tiny_processor())
mesh = init_device_mesh("cpu", (2,))
wrapped = set(read_yaml("config/fsdp.yaml")["transformer_layer_cls_to_wrap"])
layers = [m for m in model.modules() if type(m).__name__ in wrapped]
assert len(layers) == 4, layers
for layer in layers:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
assert is_sharded(model) and not is_sharded(alone)
optimizers = [torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=1e-3) for m in (alone, model)]
mine = slice(2 * rank, 2 * rank + 2)
for step in range(3):
    losses = []
    for m, part, optimizer in ((alone, slice(None), optimizers[0]), (model, mine, optimizers[1])):
        m.train()
        loss = m(features[part], decoder_input_ids=ids[part], labels=labels[part]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    dist.all_reduce(losses[1])
    assert torch.allclose(losses[0], losses[1] / 2, rtol=1e-5), (step, losses)
plain = unsharded(model, build_plain)
for name, value in alone.state_dict().items():
    assert torch.allclose(value, plain.state_dict()[name], atol=2e-5), name
assert plain.generate(features, max_new_tokens=3).shape[0] == 4
"""


def test_sharded_layers_train_as_one_process_does(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    script = tmp_path / "shard.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def fsdp(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What became of every task of fsdp.py."""
    folder = tmp_path_factory.mktemp("fsdp")
    words = [speech_cuts(folder, n=11), speech_cuts(folder, n=3, name="dev"), folder]
    tasks = ["plain", "recomputed", "no_dropout", "own_checkpointing", "own_with_dropout", "lora", "cache", "bf16"]
    found = results(launch("fsdp.py", *words, *tasks, "kill"), killed=True)
    return found | results(launch("fsdp.py", *words, "again"))


def test_fsdp_trains_evaluates_and_saves_plain_names(fsdp: dict[str, dict]) -> None:
    for task in ("plain", "lora", "bf16", "cache"):
        losses = fsdp[task]["eval_loss"]
        assert len(losses) == 2 and losses[1] < losses[0], task
        assert not any("wrapped" in name for name in fsdp[task]["names"])


def test_fsdp_killed_and_continued_is_the_same_run(fsdp: dict[str, dict]) -> None:
    assert fsdp["again"]["same"]
    assert fsdp["again"]["eval_loss"] == fsdp["plain"]["eval_loss"]


def test_layers_computed_twice_have_the_same_gradients(fsdp: dict[str, dict]) -> None:
    assert fsdp["recomputed"]["grad_norm"] == pytest.approx(fsdp["plain"]["grad_norm"], rel=1e-4)
    for key in ("loss", "grad_norm", "eval_loss"):
        assert fsdp["own_checkpointing"][key] == pytest.approx(fsdp["no_dropout"][key], rel=1e-4)
    assert fsdp["own_checkpointing"]["names"] == fsdp["plain"]["names"]


def test_checkpointing_that_forgets_dropout_is_refused(fsdp: dict[str, dict]) -> None:
    assert "train.gradient_checkpointing true instead" in fsdp["own_with_dropout"]["error"]
