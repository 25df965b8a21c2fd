"""Two processes, really: DDP and ZeRO 1, 2, 3 take one process's first step, resume to the same bits, save it whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import needs
import pytest
import torch
from runs import same, train, weights
from tiny import speech_cuts

from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.errors import ConfigError
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints.resume import Allowance
from egrecho_inner.training.guards import strategy

HERE = Path(__file__).parent
STRATEGIES = ("ddp", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")
CONTINUED = ("ddp", "zero2", "zero3")


def launch(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run two.py with two processes on gloo."""
    paths = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return subprocess.run(
        [*command, str(HERE / "two.py"), *map(str, words)],
        env=environment, capture_output=True, text=True, timeout=900, cwd=HERE.parents[1],
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    speech_cuts(folder, n=11)
    speech_cuts(folder, n=3, name="dev")
    return folder


def rows(folder: Path, *strategies: str) -> dict[str, dict]:
    """Run two.py with some strategies; what it found about each, and what it printed where one is missing."""
    done = launch(folder / "cuts.jsonl", folder / "dev.jsonl", folder, *strategies)
    found = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return dict.fromkeys(strategies, done.stderr[-3000:]) | {row["strategy"]: row for row in found}


@pytest.fixture(scope="module")
def of_ddp(folder: Path) -> dict[str, dict]:
    return rows(folder, "ddp")


@pytest.fixture(scope="module")
def of_deepspeed(folder: Path) -> dict[str, dict]:
    needs.deepspeed()
    return rows(folder, *(name for name in STRATEGIES if name != "ddp"))


@pytest.fixture
def result(name: str, request: pytest.FixtureRequest) -> dict:
    """What two.py found about one strategy; the others may be missing or fail."""
    found = request.getfixturevalue("of_ddp" if name == "ddp" else "of_deepspeed")[name]
    assert isinstance(found, dict), found
    return found


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict:
    """The first step of one process with the same global batch."""
    batch = BatchOptions(max_duration=None, batch_size=4)
    train(folder / "cuts.jsonl", folder / "alone", batch=batch, dropout=0.0, max_steps=1)
    return json.loads((folder / "alone" / "metrics.jsonl").read_text().splitlines()[0])


@pytest.mark.parametrize("name", STRATEGIES)
def test_first_step_is_that_of_one_process(result: dict, alone: dict, name: str) -> None:
    assert result["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert result["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("name", CONTINUED)
def test_stopped_and_continued_is_the_same_run(result: dict, name: str) -> None:
    assert result["same"]


@pytest.mark.parametrize("name", CONTINUED)
def test_result_is_a_whole_model_and_the_best_one(result: dict, folder: Path, name: str) -> None:
    final = folder / name / "whole" / "final"
    made = json.loads((final / "training.json").read_text())
    best = weights(folder / name / "whole" / made["best"])
    saved = weights(final)
    assert saved and all(torch.equal(value, best[key]) for key, value in saved.items())
    assert {"config.json", "tokenizer.json", "preprocessor_config.json"} <= {path.name for path in final.iterdir()}


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_zero_to_fp32_gives_the_saved_weights(result: dict, folder: Path, name: str) -> None:
    last, final = checkpoint.newest(folder / name / "whole"), folder / name / "whole" / "final"
    command = [sys.executable, "local/zero_to_fp32.py", str(last), "--model", str(final), "--out"]
    command.append(str(folder / f"gathered-{name}"))
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=HERE.parents[1], env=environment
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    gathered, saved = weights(folder / f"gathered-{name}"), weights(last)
    assert set(saved) - set(gathered) <= {"proj_out.weight"}, "which is the embeddings again"
    assert gathered and all(torch.equal(value, saved[key]) for key, value in gathered.items())
    names, ours = ({path.name for path in place.iterdir()} for place in (final, folder / f"gathered-{name}"))
    assert names - ours == {"README.md", "training.json"}


@pytest.mark.parametrize("name", ["ddp"])
def test_two_processes_killed_at_once_and_continued(result: dict, folder: Path, name: str) -> None:
    words = (folder / "cuts.jsonl", folder / "dev.jsonl", folder)
    assert launch(*words, "kill").returncode != 0
    assert not (folder / "kill" / "final").exists()
    done = launch(*words, "again")
    assert done.returncode == 0, done.stderr[-3000:]
    assert same(folder / "kill" / "final", folder / "ddp" / "whole" / "final")


@pytest.mark.parametrize("name", ["ddp"])
def test_another_number_of_processes_is_refused_and_allowed_on_request(result: dict, folder: Path, name: str) -> None:
    batch = BatchOptions(max_duration=None, batch_size=2)
    options = {"dev": folder / "dev.jsonl", "batch": batch, "metric": "wer", "max_steps": 8}
    with pytest.raises(ConfigError, match=r"made by 2 processes, now there are 1.*--allow_reshard"):
        train(folder / "cuts.jsonl", folder / "ddp" / "parts", **options)
    train(folder / "cuts.jsonl", folder / "ddp" / "parts", allow=Allowance(reshard=True), **options)
    assert checkpoint.steps(folder / "ddp" / "parts")[0][0] == 8


@pytest.mark.parametrize("name", ["zero2"])
def test_another_number_of_processes_is_refused_under_zero(result: dict, folder: Path, name: str) -> None:
    options = {"batch": BatchOptions(max_duration=None, batch_size=2), "metric": "wer", "max_steps": 8}
    options["dev"] = folder / "dev.jsonl"
    with pytest.raises(ConfigError, match="one per process"):
        train(folder / "cuts.jsonl", folder / "zero2" / "parts", allow=Allowance(changed=True, reshard=True), **options)


def test_launcher_that_starts_one_of_two_processes_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setattr(
        strategy.Path, "read_bytes", lambda _: b"python\0accelerate\0launch\0--cpu\0--num_processes\x002\0full.py"
    )
    with pytest.raises(ConfigError, match="torchrun --nproc_per_node 2"):
        strategy.check_launcher()


def test_torchrun_with_one_process_is_a_single_process(folder: Path) -> None:
    paths = os.pathsep.join([str(HERE), str(HERE.parent), str(HERE.parents[1])])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
    words = [str(HERE / "first_step.py"), str(folder), str(folder / "one"), "4", "1", "-"]
    done = subprocess.run(
        [*command, *words], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "one" / "final" / "model.safetensors").exists()
