"""Two "nodes" on one machine: the multi-node command of docs/scale.md, one torchrun for each, meets and trains."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tiny import save_tiny, speech_cuts

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_nodes_train_one_model(tmp_path: Path) -> None:
    cuts, model, port = speech_cuts(tmp_path, n=8), save_tiny(tmp_path / "base"), free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    nodes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(node)),
                *("--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", str(port)),
                *("egrecho_inner/full.py", "--model.path", str(model), "--data.train", f"[{cuts}]"),
                *("--outdir", str(tmp_path / "run"), "--train.max_steps", "2", "--train.workers", "0"),
                *("--train.report_to", "[]", "--batch.max_duration", "6"),
            ],
            env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )
        for node in (0, 1)
    ]  # fmt: skip
    said = [node.communicate(timeout=600)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "strategy: DDP, 2 process(es)" in said[0]
    assert (tmp_path / "run" / "final" / "model.safetensors").is_file()
