"""A pass over lines: workers and programs killed in the middle lose nothing and double nothing."""

import json
import os
import signal
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import needs
import pytest

from egrecho_inner.data.cuts import line_pass
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.data.cuts.line_pass import Result, Row, run_pass, whole_recordings
from egrecho_inner.runtime.files import to_line
from egrecho_inner.runtime.ledger import Skip, read_ledger

WINDOWS = 400


@pytest.fixture
def cuts(tmp_path: Path) -> str:
    """Windows of recordings of 7 each."""
    rows = []
    for number in range(WINDOWS):
        name = f"r{number // 7:03d}"
        rows.append(
            {
                "id": f"{name}-{number % 7}",
                "start": float(number % 7),
                "duration": 1.0,
                "channel": 0,
                "supervisions": [],
                "recording": {
                    "id": name,
                    "sources": [],
                    "sampling_rate": 16000,
                    "num_samples": 160000,
                    "duration": 10.0,
                },
                "type": "MonoCut",
            }
        )
    (tmp_path / "cuts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(tmp_path / "cuts.jsonl")


def mark(rows: list[Row], settings: Mapping[str, Any]) -> Result:
    """Number the cuts, skip one; the first worker that gets to the fatal shard dies there."""
    fatal = settings.get("fatal")
    if fatal and rows[0]["id"] > "r020" and not os.path.exists(fatal):
        Path(fatal).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    kept = [to_line({**row, "place": number}) for number, row in enumerate(rows) if row["id"] != "r003-2"]
    skips = [Skip(row["id"], "mark", "unlucky", "", row["duration"]) for row in rows if row["id"] == "r003-2"]
    return Result(kept, skips, {"seen": len(rows)})


def ids_of(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_shards_end_where_recordings_do(cuts: str) -> None:
    index = CutIndex(cuts)
    runs = whole_recordings(index, 50)
    assert runs[0] == (0, 56) and runs[-1][1] == WINDOWS
    assert all(one[1] == other[0] for one, other in pairwise(runs))
    assert all(last % 7 == 0 for _, last in runs[:-1])


@pytest.mark.parametrize("executor", ["processes", "local"])
def test_a_killed_worker_loses_and_doubles_nothing(cuts: str, tmp_path: Path, executor: str) -> None:
    if executor == "local":
        needs.extra("dask", "distributed")
    out = tmp_path / "out.jsonl"
    settings = {"fatal": str(tmp_path / "died")}
    counts, ledger = run_pass("mark", cuts, str(out), mark, settings, jobs=2, executor=executor)
    assert (tmp_path / "died").exists()
    expected = [name for name in ids_of(Path(cuts)) if name != "r003-2"]
    assert ids_of(out) == expected and counts["seen"] == WINDOWS and len(ledger.skips) == 1
    assert [skip.id for skip in read_ledger(tmp_path / "skipped.jsonl")] == ["r003-2"]
    assert not list(tmp_path.glob(".out*"))


def test_a_stopped_pass_goes_on_behind_its_last_shard(
    cuts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    run_pass("mark", cuts, str(whole), mark, {})
    monkeypatch.setattr(line_pass, "run_shard", stopped_at(line_pass.run_shard, "r030"))
    with pytest.raises(KeyboardInterrupt):
        run_pass("mark", cuts, str(out), mark, {})
    assert not out.exists() and list(tmp_path.glob(".out.jsonl.shards/*.done"))
    monkeypatch.undo()
    done: list[str] = []
    monkeypatch.setattr(line_pass, "run_shard", noted(line_pass.run_shard, done))
    counts, _ = run_pass("mark", cuts, str(out), mark, {})
    assert min(done) > "r025" and counts["seen"] == WINDOWS
    assert out.read_bytes() == whole.read_bytes()
    assert run_pass("mark", cuts, str(out), mark, {}) is None  # done


def stopped_at(function, name: str):
    def run(task) -> int:
        if json.loads(task.lines[0])["id"] > name:
            raise KeyboardInterrupt
        return function(task)

    return run


def noted(function, seen: list[str]):
    def run(task) -> int:
        seen.append(json.loads(task.lines[0])["id"])
        return function(task)

    return run
