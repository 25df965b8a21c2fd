"""The loss is the mean over the tokens of the global batch: however it is divided, the first step is the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import speech_cuts

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuts")
    speech_cuts(folder, n=16)
    return folder


def first_step(cuts: Path, out: Path, processes: int, batch_size: int, accumulation: int) -> dict[str, torch.Tensor]:
    launch = [sys.executable]
    if processes > 1:
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, str(HERE / "first_step.py"), str(cuts), str(out), str(batch_size), str(accumulation), "-"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out / "step.pt", weights_only=True)


def test_first_step_does_not_depend_on_processes_or_accumulation(cuts: Path, tmp_path: Path) -> None:
    whole = first_step(cuts, tmp_path / "whole", processes=1, batch_size=8, accumulation=1)
    norm = torch.sqrt(sum(step.square().sum() for step in whole.values()))
    assert norm > 0.1
    for name, processes, batch_size, accumulation in (("ranks", 2, 4, 1), ("parts", 1, 2, 4), ("both", 2, 2, 2)):
        other = first_step(cuts, tmp_path / name, processes, batch_size, accumulation)
        difference = torch.sqrt(sum((whole[key] - other[key]).square().sum() for key in whole))
        assert difference < 1e-4 * norm, f"{name}: {difference / norm:.2e}"
