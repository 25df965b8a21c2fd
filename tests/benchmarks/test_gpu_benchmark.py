"""benchmarks/gpu.sh on a machine without a GPU: the whole table with the smallest model, and what is not possible."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the script with this Python's environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here; benchmarks/gpu.sh shows it all")
def test_every_kind_of_job_has_its_row_or_a_reason(tmp_path: Path) -> None:
    done = run("--smoke", "true", "--stop_stage", "0", "--out", str(tmp_path), "--minutes", "14")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    found = {(row["task"], row["way"].split(",")[0]) for row in rows}
    ways = {("train nano", "fit()"), ("train nano", "Seq2SeqTrainer"), ("decode nano", "generate()")}
    assert {(task.split(",")[0], way) for task, way in found} == ways | {("decode nano", "ours")}
    assert all(speed > 0 for row in rows for speed in row["speeds"])
    table = (tmp_path / "gpu.md").read_text()
    assert "| fit(), 20 s, lora " in table and "train nano, fsdp: " in table and "train.fsdp needs GPUs" in table
    assert table in done.stdout and not (tmp_path / "scratch").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_the_table_is_refused(tmp_path: Path) -> None:
    done = run("--stop_stage", "0", "--out", str(tmp_path / "gpu"))
    assert done.returncode == 5 and "no GPU is visible" in done.stderr and not (tmp_path / "gpu").exists()
