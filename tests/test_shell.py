"""path.sh and local/shell.sh: what every script gives its user, under `set -euo pipefail`, from any folder."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import Version

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
cd "$EGRECHO_ROOT"
parse_options "$@"
later=1
if at_stage -1; then echo "stage -1"; fi
if at_stage 0 && [ -n "$known" ]; then echo "stage 0"; fi
if at_stage 1; then echo "stage 1"; fi
if at_stage 2; then echo "stage 2"; fi
echo "name=$name known=$known option=$option out_dir=$out_dir is_lora=$is_lora later=$later"
echo "at $PWD"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the real helpers and one script, in a folder with a space."""
    root = tmp_path / "my checkout"
    (root / "local").mkdir(parents=True)
    (root / "egs").mkdir()
    for name in ("path.sh", "local/shell.sh", "local/environment.sh"):
        (root / name).write_text((ROOT / name).read_text())
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
        (["--stop_stage", "-2"], "no stage from --stage 0 to --stop_stage -2; the stages are -1 0 1 2"),
        (["--stage", "3"], "no stage from --stage 3 to --stop_stage 2"),
        (["--outdir", "x"], "unknown option --outdir; did you mean --out_dir? known are --stage"),
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
     (["--stage", "1", "--stop-stage", "1"], "1")],
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


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("where", ["root", "elsewhere"])
def test_path_sh_gives_egrecho_to_ones_own_shell_and_leaves_its_folder(
    checkout: Path, tmp_path: Path, shell: str, where: str
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    cwd = {"root": checkout, "elsewhere": tmp_path / "mine"}[where]
    cwd.mkdir(exist_ok=True)
    (cwd / "local").mkdir(exist_ok=True)
    command = f'. "{os.path.relpath(checkout / "path.sh", cwd)}" && egrecho --version && echo "$EGRECHO_ROOT" && pwd'
    command = command.replace('. "path.sh"', ". ./path.sh") + ' && [ "$PYTHONUTF8" = 1 ] && ! type parse_options'
    variables = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([shell, "-c", command], capture_output=True, text=True, cwd=cwd, env=variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("egrecho ") and done.stdout.splitlines()[1:3] == [str(checkout), str(cwd)]


def fake_python(path: Path, version: str) -> Path:
    """Write a program that answers as a Python of that version does, and makes environments that install nothing."""
    path.write_text(
        f"""#!/bin/bash
case "$1 $2" in
  --version*) echo Python {version} ;;
  -c*) exec {sys.executable} -c "import sys; sys.version_info = ({version.replace(".", ", ")}); ${{2#import sys;}}" ;;
  "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  "-m pip")
    [ "$3" != --version ] || exit $([ -e "${{0%/*}}/../install.log" ] && echo 0 || echo 1)
    echo "${{@:3}}" >> "$PIP_CALLS"
    for name in $PIP_REFUSES; do case "${{@: -1}}" in *"[$name]" | *"["*test*) echo "no $name"; exit 1 ;; esac; done ;;
  *) exec {sys.executable} "$@" ;;
esac
"""
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(checkout: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run local/environment.sh on a machine that has the Pythons of a folder and nothing else."""
    for name in ("requirements.txt", "pyproject.toml"):
        (checkout / name).write_text((ROOT / name).read_text())
    (tmp_path / "bin").mkdir()

    def environment(*, refuses: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
        calls = {"PIP_CALLS": str(tmp_path / "calls"), "PIP_REFUSES": refuses}
        command = ["bash", str(checkout / "local/environment.sh")]
        return subprocess.run(command, capture_output=True, text=True, env={"PATH": path, **calls, **variables})

    return environment


def test_an_old_python_is_refused_in_one_line_before_anything_is_made(bare, checkout: Path, tmp_path: Path) -> None:
    old = fake_python(tmp_path / "bin" / "python3.10", "3.10.14")
    done = bare(EGRECHO_PYTHON=str(old))
    assert done.returncode == 5 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error: {old} (Python 3.10.14) is not Python 3.11 or newer")
    assert "EGRECHO_PYTHON" in done.stderr and not (checkout / ".venv").exists() and not (tmp_path / "calls").exists()


def test_a_newer_python_beside_an_old_one_is_found(bare, checkout: Path, tmp_path: Path) -> None:
    for name, version in (("python3", "3.10.14"), ("python3.13", "3.13.1"), ("python3.12", "3.12.1")):
        fake_python(tmp_path / "bin" / name, version)
    done = bare()
    assert done.returncode == 0 and done.stdout == f"{checkout}/.venv\n", done.stderr
    assert "with Python 3.13.1" in done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[-1].partition("=")[0] for call in calls] == ["pip", "torch", ".[mini,dev]"]
    assert bare().stderr == "" and len((tmp_path / "calls").read_text().splitlines()) == 3  # made once


def test_the_tests_extra_contains_the_default_and_is_not_installed_again(bare, tmp_path: Path) -> None:
    fake_python(tmp_path / "bin" / "python3", "3.12.1")
    for extras, installs in (("test", 3), ("mini,dev", 3), ("dask", 3), ("test,other", 6)):
        assert bare(EGRECHO_EXTRAS=extras).returncode == 0
        assert len((tmp_path / "calls").read_text().splitlines()) == installs, extras


def test_an_extra_that_cannot_be_installed_is_named_and_left_out_of_the_tests_alone(bare, tmp_path: Path) -> None:
    fake_python(tmp_path / "bin" / "python3", "3.12.1")
    done = bare(EGRECHO_EXTRAS="test", refuses="deepspeed")
    assert done.returncode == 0 and done.stderr.count("warning: extra deepspeed was not installed") == 1, done.stderr
    assert "ct2" not in done.stderr.partition("warning")[2] and bare(EGRECHO_EXTRAS="test").stderr == ""
    asked = bare(EGRECHO_EXTRAS="deepspeed", refuses="deepspeed")  # by name, so it is tried again, and an error
    assert asked.returncode == 5 and "egrecho[deepspeed] were not installed" in asked.stderr


def test_the_tests_install_every_extra() -> None:
    """Or their tests would be skipped everywhere; an extra that needs a GPU is to be named here."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (listed,) = extras.pop("test")
    del extras["quant"]  # bitsandbytes computes on CUDA
    assert set(re.findall(r"[\w-]+", listed.partition("[")[2])) == set(extras)


def test_ci_is_the_linters_and_the_readmes_command() -> None:
    text = (ROOT / ".ci/run").read_text()
    assert text.rstrip().endswith("\nbash tests/run.sh") and "EGRECHO_" not in text
    assert "\nbash tests/run.sh" in (ROOT / "README.md").read_text()


def test_python_versions_agree_wherever_they_are_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    oldest = project["project"]["requires-python"].removeprefix(">=")
    matrix = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["check"]["strategy"]["matrix"]
    assert matrix["python"][0] == oldest and project["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert f"Python {oldest} to {matrix['python'][-1]}" in (ROOT / "README.md").read_text()
    environment = (ROOT / "local/environment.sh").read_text()
    assert all(f"python{version}" in environment for version in matrix["python"])
    assert Version(oldest) in SpecifierSet(metadata.metadata("transformers")["Requires-Python"])


def scripts() -> list[Path]:
    return [
        ROOT / "path.sh",
        ROOT / "prepare.sh",
        ROOT / "finetune.sh",
        *ROOT.glob("local/*.sh"),
        *ROOT.glob("egs/*/*.sh"),
    ]


@pytest.mark.parametrize("path", scripts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_keep_to_bash_3(path: Path) -> None:
    """Before 4.4 an empty array is an unset variable; macOS has 3.2."""
    text = path.read_text()
    for name in re.findall(r'(?<!\+)"\$\{(\w+)\[[@*]\]\}"', text):
        first = re.search(rf"^\s*{name}=\((.*)\)", text, re.MULTILINE)
        never_empty = name == "launch" or (first and first[1].strip())
        assert never_empty, f'"${{{name}[@]}}" may be empty: ${{{name}[@]+"${{{name}[@]}}"}}'
    assert not re.search(r"\b(mapfile|readarray|local -n|declare -[nA])\b|\$\{\w+(,,|\^\^|@[A-Z])|&>>|\|&", text)
    assert "read -ra" not in text  # stops at the end of the first line


def test_every_script_passes_shellcheck() -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "*.sh", ".ci/run"], capture_output=True, text=True
    ).stdout.split("\0")
    scripts = [name for name in listed if name] or [str(p.relative_to(ROOT)) for p in ROOT.glob("*.sh")]
    done = subprocess.run(
        [str(BIN / "shellcheck"), "-x", "--severity=warning", *scripts], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout
