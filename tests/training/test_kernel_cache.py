"""oneDNN reads its environment once, at its first kernel: the bound of fit() must come before that."""

import os
import subprocess
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
PROGRAM = """
import sys
from pathlib import Path
from runs import train
from tiny import speech_cuts
folder = Path(sys.argv[1])
train(speech_cuts(folder, n=12), folder / "run", max_steps=4, eval_steps=9)
"""


def hits(folder: Path, **environment: str) -> int:
    """Count the kernels that oneDNN still knows when a shape comes again."""
    folder.mkdir()
    paths = os.pathsep.join(map(str, (HERE, HERE.parent, HERE.parents[1])))
    given = {**os.environ, "PYTHONPATH": paths, "ONEDNN_VERBOSE": "2", **environment}
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.count("create:cache_hit")


def test_the_bound_takes_effect(tmp_path: Path) -> None:
    if not torch.backends.mkldnn.is_available():
        return
    many = hits(tmp_path / "many", ONEDNN_PRIMITIVE_CACHE_CAPACITY="1024")
    assert hits(tmp_path / "fit") < many
