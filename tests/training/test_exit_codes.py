"""finetune.sh leaves with the program's exit code, also through torchrun, which turns every code into 1."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import save_tiny, speech_cuts

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    speech_cuts(home, n=8)
    save_tiny(home / "base")
    torn = (home / "cuts.jsonl").read_text().splitlines()
    for place, line in enumerate(torn):
        cut = json.loads(line)
        cut["recording"]["sources"][0]["source"] = "/nonexistent.wav"
        torn[place] = json.dumps(cut)
    (home / "lost.jsonl").write_text("\n".join(torn) + "\n")
    return home


def finetune(home: Path, processes: int, cuts: str, model: str, overrides: str) -> subprocess.CompletedProcess[str]:
    """Train and evaluate with finetune.sh."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = ["--model_name", str(home / model), "--is_lora", "false", "--nproc", str(processes), "--exp"]
    words += [str(home / f"exp{processes}"), "--train_cuts", str(home / cuts), "--dev_cuts", str(home / "cuts.jsonl")]
    words += ["--test_cuts", str(home / "cuts.jsonl"), "--overrides"]
    words.append(f"--train.workers 0 --train.report_to [] --batch.max_duration 4 --train.max_steps 2 {overrides}")
    command = ["bash", str(ROOT / "finetune.sh"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("cuts", "model", "overrides", "code"),
    [
        ("cuts.jsonl", "base", "--train.save_steps 7", 2),
        ("lost.jsonl", "base", "", 3),
        ("cuts.jsonl", "nowhere", "", 4),
        ("cuts.jsonl", "base", "--train.max_hours 1e-7", 75),
    ],
)
def test_codes_arrive_and_nothing_half_trained_is_evaluated(
    home: Path, processes: int, cuts: str, model: str, overrides: str, code: int
) -> None:
    done = finetune(home, processes, cuts, model, overrides)
    assert done.returncode == code, done.stderr[-3000:]
    assert "stage 1" not in done.stdout and not (home / f"exp{processes}" / "full" / "final").exists()
