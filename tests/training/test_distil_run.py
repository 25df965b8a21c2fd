"""A whole distillation step, with KL, cross-entropy and true transcripts: the same however the batch is divided."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import save_tiny, speech_cuts

from egrecho_inner.init_student import init_student

ROOT = Path(__file__).parents[2]
OPTIONS = """
kd: {reference_weight: 0.5}
targets: {text: teacher, timestamps: 0.5, previous: 0.5}
batch: {max_duration: null}
train: {max_steps: 1, learning_rate: 1.0, optimizer: sgd, schedule: constant, warmup_steps: 0, weight_decay: 0.0,
  max_grad_norm: 0.0, workers: 0, report_to: [], freeze: [encoder]}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, its student, and cuts with the teacher's text, some with times and a previous text."""
    folder = tmp_path_factory.mktemp("home")
    save_tiny(folder / "teacher", seed=3)
    init_student(str(folder / "teacher"), str(folder / "student"), decoder_layers=1)
    lines = speech_cuts(folder, 16).read_text().splitlines()
    for number, line in enumerate(lines):
        row = json.loads(line)
        said = {"text": "some words " * (1 + number % 3), "language": "en", "task": "transcribe", "previous": "before"}
        row["supervisions"][0]["custom"] = {"teacher": said | {"segments": [[0.0, 0.4, said["text"]]]}}
        lines[number] = json.dumps(row)
    (folder / "cuts.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (folder / "options.yaml").write_text(OPTIONS)
    return folder


def first_step(home: Path, out: Path, processes: int, batch_size: int, accumulation: int) -> torch.Tensor:
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*launch, str(ROOT / "egrecho_inner" / "distil.py"), "-c", str(home / "options.yaml")]
    command += ["--model.path", str(home / "student"), "--teacher", str(home / "teacher"), "--outdir", str(out)]
    command += ["--data.train", str(home / "cuts.jsonl"), "--batch.batch_size", str(batch_size)]
    command += ["--train.accumulation", str(accumulation)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = (load_file(folder / "model.safetensors") for folder in (home / "student", out / "final"))
    assert all(torch.equal(before[name], after[name]) for name in before if ".encoder." in name)
    return torch.cat([(before[name] - after[name]).flatten() for name in sorted(before)])


def test_first_step_does_not_depend_on_processes_or_accumulation(home: Path, tmp_path: Path) -> None:
    whole = first_step(home, tmp_path / "whole", processes=1, batch_size=8, accumulation=1)
    assert whole.norm() > 0.1
    for name, processes, batch_size, accumulation in (("parts", 1, 2, 4), ("both", 2, 2, 2)):
        other = first_step(home, tmp_path / name, processes, batch_size, accumulation)
        assert (whole - other).norm() < 1e-4 * whole.norm(), name
