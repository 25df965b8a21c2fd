"""Two "nodes" on one machine, started by local/slurm.sh with Slurm's commands played by scripts."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import weights
from tiny import save_tiny, speech_cuts

from egrecho_inner.config import run
from egrecho_inner.full import train_full

ROOT = Path(__file__).resolve().parents[2]
SRUN = """#!/bin/bash
while [ "${1#--}" != "$1" ]; do echo "$1" >> "$HOME/srun_options"; shift; done
for node in 0 1; do SLURM_NODEID=$node "$@" & started="$started $!"; done
status=0; for each in $started; do wait "$each" || status=$?; done
exit $status
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo 127.0.0.1; echo localhost; else echo "$@" > "$HOME/requeued"; fi
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Cuts, a model, and a PATH with Slurm."""
    speech_cuts(tmp_path, n=8)
    save_tiny(tmp_path / "base")
    (tmp_path / "bin").mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def options(home: Path, out: str, batch_size: int, *more: str) -> list[str]:
    return [
        *("--model", str(home / "base"), "--data.train", f"[{home / 'cuts.jsonl'}]", "--out", str(home / out)),
        *("--train.max_steps", "3", "--train.workers", "0", "--train.report_to", "[]", "--train.optimizer", "sgd"),
        *("--train.learning_rate", "0.1", "--train.schedule", "constant", "--train.warmup_steps", "0"),
        *("--batch.max_duration", "null", "--batch.batch_size", str(batch_size), *more),
    ]


def test_the_job_asks_for_cpus() -> None:
    assert "\n#SBATCH --cpus-per-task=" in (ROOT / "local" / "slurm.sh").read_text()


def free_job() -> int:
    """A job number whose port nobody uses."""
    for number in range(os.getpid() % 1000, 20000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 20000 + number)):
                return number
    raise AssertionError("no free port")


def sbatch(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the launch script as Slurm does: a copy of it, in a folder of its own."""
    (home / "spool").mkdir(exist_ok=True)
    script = home / "spool" / "slurm_script"
    script.write_text((ROOT / "local" / "slurm.sh").read_text())
    path = f"{home / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    slurm = {
        "SLURM_CPUS_PER_TASK": "3",
        "SLURM_NNODES": "2",
        "SLURM_JOB_ID": str(free_job()),
        "SLURM_JOB_NODELIST": "n[1-2]",
    }
    environment = {
        **os.environ, **slurm, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(home),
        "SLURM_SUBMIT_DIR": str(ROOT),
    }  # fmt: skip
    command = ["bash", str(script), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, cwd=home)


def test_two_nodes_train_the_model_of_one_process(home: Path) -> None:
    done = sbatch(home, "full", *options(home, "two", 2))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "strategy: DDP, 2 process(es)" in done.stderr
    assert (home / "srun_options").read_text() == "--cpus-per-task=3\n"
    run(train_full, options(home, "one", 4))
    base, one, two = (weights(home / name) for name in ("base", "one/final", "two/final"))
    moved = torch.sqrt(sum((one[name] - base[name]).square().sum() for name in one))
    apart = torch.sqrt(sum((one[name] - two[name]).square().sum() for name in one))
    assert moved > 0.05 and apart < 1e-4 * moved, (moved, apart)
    assert not (home / "requeued").exists()


def test_a_job_out_of_time_is_queued_again(home: Path) -> None:
    done = sbatch(home, "full", *options(home, "two", 2, "--train.max_hours", "1e-7"))
    assert done.returncode == 75 and "queueing again" in done.stdout, done.stderr[-3000:]
    assert (home / "requeued").read_text().startswith("requeue ")
    assert not (home / "two" / "final").exists()


@pytest.mark.parametrize(
    ("words", "message"), [([], "which program?"), (["ful"], "no program 'ful'"), (["full"], "--out DIR is needed")]
)
def test_a_job_that_cannot_run_says_so(home: Path, words: list[str], message: str) -> None:
    done = sbatch(home, *words)
    assert done.returncode == 2 and message in done.stderr
