"""Start a script of this folder under torchrun on gloo, and read the lines of JSON that it prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def launch(script: str, *words: str | Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Run a script of this folder with some processes."""
    paths = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.run(
        [*command, str(HERE / script), *map(str, words)],
        env=environment, capture_output=True, text=True, timeout=900, cwd=HERE.parents[1],
    )  # fmt: skip


def results(done: subprocess.CompletedProcess[str], killed: bool = False) -> dict[str, dict]:
    """Return what a script said of each of its tasks; the last one may be one that kills it."""
    expected = (done.returncode != 0 and "SIGKILL" in done.stderr) if killed else done.returncode == 0
    assert expected, (
        "\n".join(line for line in done.stderr.splitlines() if "[rank" in line)[:6000] or done.stderr[-3000:]
    )
    rows = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return {row["task"]: row for row in rows}


def say(task: str, **row: object) -> None:
    """Print what `results` reads; the first process does."""
    if os.environ.get("RANK", "0") == "0":
        print("RESULT " + json.dumps({"task": task} | row), flush=True)
