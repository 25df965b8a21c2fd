"""The quick start as a user runs it, in a copy of the repository, with a training of a few steps."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import needs
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what git tracks, so that the user's data/ and exp/ are left alone."""
    root = tmp_path_factory.mktemp("repository")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    return root


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", *words], cwd=root, capture_output=True, text=True, timeout=500, env={**os.environ, "EGRECHO_ENV": ""}
    )


def test_mini_prints_one_table_of_three_models_and_continues(copy: Path) -> None:
    needs.extra("mini", "espeakng_loader")
    few = "--train.max_steps 4 --train.eval_steps 2 --data.dev_limit 8"
    done = run(copy, "egs/mini/run.sh", "--overrides", few)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for name in ("base", "full", "LoRA", "make speech", "prepare data"):
        assert name in done.stdout
    for folder in ("orig", "full", "lora"):
        result = json.loads((copy / "exp/mini" / folder / "eval/results.json").read_text())
        assert list(result)[:6] == ["error_rate", "ins_rate", "del_rate", "sub_rate", "total", "RTF"]
        assert result["utterances"] == 200
    # a nano that hears: far under what chance gives
    assert json.loads((copy / "exp/mini/orig/eval/results.json").read_text())["error_rate"] < 0.95
    again = run(copy, "egs/mini/run.sh", "--stage", "1", "--stop_stage", "1")
    assert again.returncode == 0, again.stderr[-2000:]


def test_unknown_option_of_a_recipe_is_one_line_and_leaves_nothing(copy: Path) -> None:
    done = run(copy, "egs/fsdd/run.sh", "--recordigns", "x")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown option --recordigns") and done.stderr.count("\n") == 1
