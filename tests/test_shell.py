"""path.sh and local/shell.sh: what every script gives its user, under `set -euo pipefail`, from any folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
SCRIPT = """#!/usr/bin/env bash
# Say what the options are.
#   --stage N   where to begin
set -euo pipefail
# not part of the help
stage=0
stop_stage=2
name=nobody
known=yes
option=
out_dir=
is_lora=false
. "$(dirname "$0")/../path.sh"
parse_options "$@"
later=1
for n in -1 0 1 2 3; do if at_stage $n; then echo "stage $n"; fi; done
echo "name=$name known=$known option=$option out_dir=$out_dir is_lora=$is_lora later=$later"
echo "at $PWD"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the two real files and one script, in a folder with a space."""
    root = tmp_path / "my checkout"
    (root / "local").mkdir(parents=True)
    (root / "egs").mkdir()
    (root / "path.sh").write_text((ROOT / "path.sh").read_text())
    (root / "local/shell.sh").write_text((ROOT / "local/shell.sh").read_text())
    (root / "egs/run.sh").write_text(SCRIPT)
    return root


def run(checkout: Path, *argv: str, cwd: Path | None = None, script: str = "", **environment: str):
    variables = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(checkout), **environment}
    command = ["bash", script or str(checkout / "egs/run.sh"), *argv]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd or checkout, env=variables, timeout=60)


def values(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("name="))
    return dict(word.split("=", 1) for word in line.split(" ") if "=" in word)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("error: "), (done.stdout, done.stderr)
    return done.stderr


def test_options_set_the_variables_the_script_has_and_no_helper_shares_their_names(checkout) -> None:
    done = run(checkout, "--name", "ann", "--known", "no", "--option", "x", "--out-dir", "/a", "--is_lora", "true")
    assert values(done) == {
        "name": "ann", "known": "no", "option": "x", "out_dir": "/a", "is_lora": "true", "later": "1"
    }  # fmt: skip
    assert values(run(checkout))["name"] == "nobody"


@pytest.mark.parametrize("value", ["$(touch PWN)", "`touch PWN`", "x; touch PWN", "a b'c\"d", "*", "", "--a=b"])
def test_values_arrive_as_written_and_nothing_in_them_is_run(checkout, value: str) -> None:
    done = run(checkout, "--name", value)
    assert f"name={value} known=yes" in done.stdout
    assert not list(checkout.rglob("PWN"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--later", "1"], "unknown option --later; known are --stage --stop_stage --name"),
        (["--PATH", "x"], "unknown option --PATH"),
        (["--name[$(touch PWN)]", "x"], "unknown option"),
        (["--stage", "1", "--name"], "option --name needs a value"),
        (["--name=ann"], "write '--name ann'"),
        (["ann"], "unexpected argument 'ann'"),
        (["--stage", "one"], "whole numbers"),
        (["--stage", "1.5"], "whole numbers"),
        (["--stage", ""], "whole numbers"),
        (["--stop_stage", "1 2"], "whole numbers"),
        (["--is_lora", "yes"], "--is_lora is true or false, not 'yes'"),
        (["--is_lora", ""], "true or false"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(checkout, argv: list[str], message: str) -> None:
    assert message in refused(run(checkout, *argv))
    assert not list(checkout.rglob("PWN"))


@pytest.mark.parametrize(
    ("argv", "stages"),
    [([], "012"), (["--stage", "1"], "12"), (["--stage", "-1", "--stop_stage", "0"], "-10"),
     (["--stop_stage", "-2"], ""), (["--stage", "1", "--stop-stage", "1"], "1")],
)  # fmt: skip
def test_exactly_the_stages_asked_for_run(checkout, argv: list[str], stages: str) -> None:
    done = run(checkout, *argv)
    assert "".join(line[6:] for line in done.stdout.splitlines() if line.startswith("stage ")) == stages


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("where", ["beside", "root", "elsewhere"])
def test_help_is_the_head_comment_from_wherever_it_is_called(checkout, tmp_path, flag: str, where: str) -> None:
    cwd = {"beside": checkout / "egs", "root": checkout, "elsewhere": tmp_path}[where]
    done = run(checkout, flag, cwd=cwd, script=os.path.relpath(checkout / "egs/run.sh", cwd))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Say what the options are.\n  --stage N   where to begin\n"


def test_a_script_works_in_the_repository_from_wherever_it_is_called(checkout, tmp_path) -> None:
    # a folder of the same name on CDPATH would lead `cd egs/..` astray
    (tmp_path / "other/egs").mkdir(parents=True)
    for cwd in (checkout, checkout / "egs", tmp_path):
        done = run(
            checkout, "--name", "x", cwd=cwd, script=os.path.relpath(checkout / "egs/run.sh", cwd),
            CDPATH=str(tmp_path / "other"),
        )  # fmt: skip
        assert values(done)["name"] == "x" and done.stdout.endswith(f"at {checkout}\n")


def test_path_sh_gives_egrecho_to_ones_own_shell(checkout) -> None:
    command = 'cd egs && . ../path.sh && egrecho --version && pwd && [ "$PYTHONUTF8" = 1 ]'
    variables = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=checkout, env=variables)
    assert done.returncode == 0 and done.stdout.startswith("egrecho ") and done.stdout.endswith(f"{checkout}\n")


def test_an_old_python_is_refused_in_one_line(checkout, tmp_path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for name in ("requirements.txt", "pyproject.toml"):
        (checkout / name).write_text("")
    done = run(checkout, EGRECHO_ENV=str(tmp_path / "env"), EGRECHO_PYTHON=str(old))
    assert done.returncode == 5 and "older than Python 3.10" in done.stderr and not (tmp_path / "env").exists()


def test_every_script_passes_shellcheck() -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "*.sh", ".ci/run"], capture_output=True, text=True
    ).stdout.split("\0")
    scripts = [name for name in listed if name] or [str(p.relative_to(ROOT)) for p in ROOT.glob("*.sh")]
    done = subprocess.run(
        [str(BIN / "shellcheck"), "-x", "--severity=warning", *scripts], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout
