"""FSDP2's sharding by hand on a gloo mesh: the same losses as one process, and a whole model back."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import torch
import torch.distributed as dist
from tiny import tiny_model, tiny_processor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from egrecho_inner.config import read_yaml
from egrecho_inner.training.sharding import is_sharded, whole

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
plain = whole(model)
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
