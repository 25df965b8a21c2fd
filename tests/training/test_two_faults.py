"""What one of two processes meets, both know: nobody waits for ever, nothing counts twice."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import same
from tiny import speech_cuts

from egrecho_inner.errors import MachineError
from egrecho_inner.training.checkpoints import folder as checkpoint

HERE = Path(__file__).parent
NAMES = ("plain", "apart", "halve", "accumulate", "floor", "rehearsal", "loader", "again", "figures", "skips")
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    speech_cuts(folder, n=11)
    speech_cuts(folder, n=11, name="broken")
    for wave in sorted((folder / "broken").glob("*.wav"))[4:6]:
        wave.write_bytes(b"RIFF")
    speech_cuts(folder, n=2, name="dev")
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Rows:
    """What both processes know at the end of each run of two_faults.py."""
    paths = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = [*(str(folder / f"{name}.jsonl") for name in ("cuts", "broken", "dev")), str(folder), *NAMES]
    done = subprocess.run(
        [*command, str(HERE / "two_faults.py"), *words],
        env=environment, capture_output=True, text=True, timeout=600, cwd=HERE.parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    rows: Rows = {name: [{}, {}] for name in NAMES}
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            row = json.loads(line[7:])
            rows[row["name"]][row["rank"]] = row
    return rows


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row]


def test_a_broken_cut_counts_once_whoever_meets_it(results: Rows, folder: Path) -> None:
    first, second = results["skips"]
    assert first["skipped"] == second["skipped"] == ["broken004-0", "broken005-0"]
    assert "code" not in first, "two of eleven are no more than the limit"
    assert lines(folder, "skips")[-1]["skipped"] == 2


@pytest.mark.parametrize("name", ["halve", "accumulate"])
def test_both_halve_when_memory_runs_out_on_one(results: Rows, folder: Path, name: str) -> None:
    first, second = results[name]
    assert first["halvings"] == second["halvings"] == 1
    assert "code" not in first and (folder / name / "final").is_dir()
    steps = [line["step"] for line in lines(folder, name)]
    assert steps == list(range(1, len(steps) + 1)), "no step is lost or taken twice"
    assert checkpoint.facts(checkpoint.newest(folder / name))["halvings"] == 1


def test_nothing_left_to_halve_is_exit_5_on_both_with_the_last_step_saved(results: Rows, folder: Path) -> None:
    for row in results["floor"]:
        assert row["code"] == MachineError.exit_code
        assert "with 1 cuts" in row["message"] and "train.gradient_checkpointing" in row["message"]
    assert checkpoint.steps(folder / "floor")[0][0] == 4


def test_a_rehearsal_that_fails_on_one_ends_both(results: Rows) -> None:
    for row in results["rehearsal"]:
        assert row["code"] == MachineError.exit_code and "step 0 (rehearsal)" in row["message"]


def test_gradients_averaged_apart_from_backward_are_the_same(results: Rows, folder: Path) -> None:
    assert same(folder / "apart" / "final", folder / "plain" / "final")


def test_a_dead_loader_of_one_ends_both_after_the_step(results: Rows, folder: Path) -> None:
    for row in results["loader"]:
        assert row["code"] == MachineError.exit_code and row["step"] >= 5
        assert f"checkpoint-{row['step']} is complete" in row["message"]
    assert same(folder / "loader" / "final", folder / "plain" / "final"), "and the same command goes on"


def test_figures_of_the_log_are_those_of_both(results: Rows, folder: Path) -> None:
    line, rows = lines(folder, "figures")[0], results["figures"]
    assert rows[0]["audio"] != rows[1]["audio"], "or the test could not tell"

    def total(name: str) -> float:
        return sum(row[name] for row in rows)

    assert line["padding"] == pytest.approx(1 - total("audio") / total("padded"), abs=1e-4)
    for name in ("ce", "kl"):
        assert line[name] == pytest.approx(total(name) / total("items"), abs=1e-4)
    assert line["loss"] == pytest.approx(0.8 * line["ce"] + line["kl"], rel=1e-3)
