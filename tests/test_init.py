"""`egrecho init`, from a wheel: a folder of scripts and configs that works where there is no checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from egrecho_inner.errors import ConfigError
from egrecho_inner.init import PARTS, init, recipe_folder

ROOT = Path(__file__).resolve().parents[1]
PACKED = ("setup.py", "pyproject.toml", "MANIFEST.in", "requirements.txt", "README.md", "LICENSE", *PARTS)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as `pip install .` puts it down, unpacked; `egrecho` beside it."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    for part in PACKED:
        for path in ROOT.glob(part):
            (source / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, source / path.relative_to(ROOT))
    shutil.copytree(ROOT / "egrecho_inner", source / "egrecho_inner", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(folder), str(source)], check=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    (folder / "bin").mkdir()
    (folder / "bin" / "egrecho").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m egrecho_inner.cli "$@"\n')
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for path in (folder / "bin").iterdir():
        path.chmod(0o755)
    shutil.rmtree(source)
    return folder


def call(installed: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("EGRECHO_ENV", "VIRTUAL_ENV")}
    environment |= {"PATH": f"{installed / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(installed / "site")}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=120)


@pytest.fixture(scope="module")
def recipe(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    done = call(installed, folder, "egrecho", "init", "my recipe")
    assert done.returncode == 0, done.stderr
    return folder / "my recipe"


def test_a_recipe_folder_holds_what_the_checkout_does(recipe: Path) -> None:
    made = {str(path.relative_to(recipe)) for path in recipe.rglob("*") if path.is_file()}
    there = {str(path.relative_to(ROOT)) for part in PARTS for path in ROOT.glob(part)}
    assert made == there | {"README.md"} and {"finetune.sh", "config/train.yaml", "local/shell.sh"} < made
    assert (recipe / "config/ds_zero2.json").read_bytes() == (ROOT / "config/ds_zero2.json").read_bytes()
    assert all(os.access(recipe / name, os.X_OK) for name in ("prepare.sh", "local/launch.py"))


def test_its_stages_reach_the_installed_programs(installed: Path, recipe: Path, tmp_path: Path) -> None:
    """With no checkout on any path: a wrong manifest is what stops the training, not a missing file of ours."""
    words = ("--stop_stage", "0", "--train_cuts", str(tmp_path / "no.jsonl"), "--model_name", str(tmp_path))
    done = call(installed, tmp_path, "bash", str(recipe / "finetune.sh"), "--is_lora", "false", *words)
    assert done.returncode in (3, 4) and done.stderr.startswith("error: ") and str(tmp_path) in done.stderr
    done = call(installed, tmp_path, "bash", str(recipe / "prepare.sh"), "--data_root", str(tmp_path), "--prefix", "x")
    assert done.returncode == 3 and "has no folder train" in done.stderr


def test_training_is_a_command_and_launched_by_name(installed: Path, tmp_path: Path) -> None:
    done = call(
        installed, tmp_path, "egrecho", "launch", "--standalone", "--nproc_per_node", "1", "lora", "--outdri", "x"
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and "starting 1 process(es) of lora" in lines[0]
    assert lines[1].startswith("error: unknown key 'outdri'") and len(lines) == 2, done.stderr


def test_the_environment_is_found_from_a_new_shell(recipe: Path, tmp_path: Path) -> None:
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    script = ["bash", str(recipe / "local/environment.sh")]
    done = subprocess.run(script, capture_output=True, text=True, env=bare, timeout=20)
    assert done.returncode == 5 or (Path(done.stdout.strip()) / "bin/egrecho").is_file()
    done = subprocess.run(script, capture_output=True, text=True, env=bare | {"EGRECHO_ENV": str(tmp_path)}, timeout=20)
    assert done.returncode == 5 and done.stderr.startswith(f"error: no egrecho in {tmp_path}; activate")


def test_changed_files_are_kept_unless_asked(tmp_path: Path) -> None:
    init(str(tmp_path / "r"))
    assert recipe_folder() == ROOT
    init(str(tmp_path / "r"))  # nothing differs
    (tmp_path / "r/config/train.yaml").write_text("train: {}\n")
    with pytest.raises(ConfigError, match=r"has files that differ: config/train.yaml; .*--overwrite true"):
        init(str(tmp_path / "r"))
    assert (tmp_path / "r/config/train.yaml").read_text() == "train: {}\n"
    init(str(tmp_path / "r"), overwrite=True)
    assert (tmp_path / "r/config/train.yaml").read_text() == (ROOT / "config/train.yaml").read_text()
    with pytest.raises(ConfigError, match="is the checkout itself"):
        init(str(ROOT))


def test_the_build_packs_what_init_reads() -> None:
    assert f"PARTS = {PARTS!r}".replace("'", '"') in (ROOT / "setup.py").read_text()
