"""egs/pretrain/run.sh and its YAML: the published settings, the plan of a step, and what is refused before training."""

import os
import subprocess
from pathlib import Path

import pytest

from egrecho_inner.config import parse
from egrecho_inner.full import train_full

ROOT = Path(__file__).resolve().parents[2]
GIVEN = ["--model.path", "p", "--model.size", "large", "--data.train", "t", "--outdir", "o"]


def run(tmp_path: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a `python` that prints its arguments instead, whatever path.sh puts on PATH."""
    (tmp_path / "fake.sh").write_text('python() { echo "CALLED $*"; }\n')
    environment = os.environ | {"BASH_ENV": str(tmp_path / "fake.sh")}
    command = ["bash", "egs/pretrain/run.sh", "--exp", str(tmp_path / "exp"), *argv]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)


def test_the_published_settings() -> None:
    given = parse(train_full, ["-c", str(ROOT / "egs/pretrain/olmoasr.yaml"), *GIVEN])
    train = given["train"]
    assert (train.max_steps, train.learning_rate, train.schedule) == (524_288, 1.5e-3, "linear")
    assert (train.weight_decay, train.betas, train.eps, train.max_grad_norm) == (0.1, (0.9, 0.98), 1e-6, 1.0)
    assert round(train.warmup_steps * train.max_steps) == 1049
    assert given["window"].window == "30s" and given["augment"] is None and given["targets"].timestamps == 0.5
    assert given["data"].no_speech and given["batch"].batch_size == 32


@pytest.mark.parametrize(("size", "sharded"), [("small", False), ("medium", True)])
def test_a_size_takes_its_way_over_the_gpus(size: str, sharded: bool, tmp_path: Path) -> None:
    options = ["--train", "a.jsonl.gz b.jsonl.gz", "--dev", "d.jsonl.gz", "--size", size, "--nproc", "8"]
    done = run(tmp_path, *options, "--stage", "1", "--stop_stage", "1", "--overrides", "--train.max_steps 7")
    assert done.returncode == 0, done.stderr
    (called,) = [line for line in done.stdout.splitlines() if line.startswith("CALLED local/launch.py")]
    assert "--nproc_per_node 8 egrecho_inner/full.py -c egs/pretrain/olmoasr.yaml" in called
    assert f"--model.size {size} " in called and "--data.train [a.jsonl.gz,b.jsonl.gz]" in called
    assert "--batch.batch_size 32 --train.global_batch 512" in called and called.endswith("--train.max_steps 7")
    assert ("--train.fsdp config/fsdp.yaml" in called) is sharded
    words = called.split("egrecho_inner/full.py ")[1].split()
    assert parse(train_full, words)["train"].global_batch == 512


def test_what_is_wrong_is_said_before_anything_is_made(tmp_path: Path) -> None:
    done = run(tmp_path, "--size", "huge")
    assert done.returncode == 2 and "not 'huge'" in done.stderr
    done = run(tmp_path, "--stage", "1", "--stop_stage", "1")
    assert done.returncode == 2 and "give --train and --dev" in done.stderr
