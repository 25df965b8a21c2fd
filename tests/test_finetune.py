"""finetune.sh and egs/distil/train.sh: which programs they call with which words, without running them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FAKE = f"""#!{sys.executable}
import json, os, sys
if sys.argv[1] == "-c":
    os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
if sys.argv[1] != "--version":
    with open(os.environ["CALLS"], "a") as file:
        file.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the scripts; python and egrecho write down how they are called."""
    root = tmp_path / "checkout"
    for name in ("path.sh", "finetune.sh", "local/shell.sh", "egs/distil/train.sh"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (tmp_path / "bin").mkdir()
    for name in ("python", "egrecho"):
        (tmp_path / "bin" / name).write_text(FAKE)
        (tmp_path / "bin" / name).chmod(0o755)
    return root


def run(checkout: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "EGRECHO_ENV"}
    environment |= {"PATH": f"{checkout.parent / 'bin'}:{os.environ['PATH']}", "CALLS": str(checkout.parent / "calls")}
    command = ["bash", str(checkout / script), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def calls(checkout: Path, script: str, *words: str) -> list[list[str]]:
    """Run a script; the command lines that it has run."""
    done = run(checkout, script, *words)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (checkout.parent / "calls").read_text().splitlines()]


def prepared(checkout: Path, *splits: str) -> None:
    """Let prepare.sh have written these splits of mine."""
    folder = checkout / "data/fbank_whisper80"
    folder.mkdir(parents=True)
    for split in splits:
        (folder / f"mine_cuts_{split}.jsonl.gz").touch()


def option(call: list[str], name: str) -> str:
    return call[call.index(name) + 1]


MINE = ("--prefix", "mine", "--model_name", "m", "--exp", "e")


def test_the_four_calls_of_lora(checkout: Path) -> None:
    prepared(checkout, "train", "val", "test")
    train, merge, evaluate, report = calls(checkout, "finetune.sh", *MINE, "--language", "vi")
    assert train[:3] == ["python", "-m", "egrecho_inner.lora"] and merge[:2] == ["egrecho", "merge-lora-whisper"]
    assert evaluate[:3] == ["python", "-m", "egrecho_inner.evaluation"] and report[:2] == ["egrecho", "report-scores"]
    assert option(train, "--data.language") == option(merge, "--language") == "vi"  # or cuts without one prove nothing
    assert option(evaluate, "--decode.language") == "vi"
    assert option(merge, "--cuts") in option(train, "--data.dev") and option(evaluate, "--cuts").endswith(
        "_test.jsonl.gz"
    )


@pytest.mark.parametrize("script", ["finetune.sh", "egs/distil/train.sh"])
def test_overrides_of_several_lines_arrive(checkout: Path, script: str) -> None:
    prepared(checkout, "train", "val", "test")
    stage = {"finetune.sh": "0", "egs/distil/train.sh": "4"}[script]
    words = ["--train.num_epochs", "1", "--batch.max_duration", "60", "--train.report_to", "[]", "*"]
    text = "--train.num_epochs 1\n  --batch.max_duration 60\n\t--train.report_to []\n*\n"
    (train,) = calls(checkout, script, "--prefix", "mine", "--stage", stage, "--stop_stage", stage, "--overrides", text)
    assert train[-len(words) :] == words


def test_all_of_distillation_takes_several_lines_and_processes(checkout: Path) -> None:
    prepared(checkout, "train", "val", "test")
    more = ("--label_overrides", "--a 1\n--b 2", "--filter_overrides", "--c 3\n--d 4", "--nproc", "2")
    made = calls(checkout, "egs/distil/train.sh", "--prefix", "mine", "--stop_stage", "5", *more)
    launched = [call[5] for call in made if call[1] == "local/launch.py"]
    assert launched == [f"egrecho_inner/{name}.py" for name in ("pseudo_label", "distil", "evaluation", "evaluation")]
    assert made[0][-4:] == ["--a", "1", "--b", "2"] and made[1][-4:] == ["--c", "3", "--d", "4"]


def test_several_processes_train_and_evaluate(checkout: Path) -> None:
    prepared(checkout, "train", "val", "test")
    made = calls(checkout, "finetune.sh", *MINE, "--nproc", "2", "--stage", "-1", "--is_lora", "false")
    launcher = ["python", "local/launch.py", "--standalone", "--nproc_per_node", "2"]
    assert [call[5:7] for call in made if call[:5] == launcher] == [
        ["-m", f"egrecho_inner.{name}"] for name in ("evaluation", "full", "evaluation")
    ]


def test_deepspeed_has_a_launcher_for_one_process_too(checkout: Path) -> None:
    prepared(checkout, "train", "val")
    (train,) = calls(checkout, "finetune.sh", *MINE, "--stop_stage", "0", "--deepspeed", "config/ds_zero2.json")
    assert train[:5] == ["python", "local/launch.py", "--standalone", "--nproc_per_node", "1"]


def test_without_a_test_set_val_is_evaluated_and_without_val_train_is_trained_on(checkout: Path) -> None:
    prepared(checkout, "train", "val")
    *_, evaluate, _ = calls(checkout, "finetune.sh", *MINE)
    assert option(evaluate, "--cuts").endswith("mine_cuts_val.jsonl.gz")
    (checkout / "data/fbank_whisper80/mine_cuts_val.jsonl.gz").unlink()
    (checkout.parent / "calls").unlink()
    train, merge = calls(checkout, "finetune.sh", *MINE)
    assert "--data.dev" not in train and option(merge, "--cuts").endswith("mine_cuts_train.jsonl.gz")
    done = run(checkout, "finetune.sh", *MINE, "--stage", "-1")
    assert done.returncode == 2 and "--test_cuts FILE" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--stage", "9"), "no stage from --stage 9 to --stop_stage 1; the stages are -1 0 1"),
        (("--stage", "9", "--stop_stage", "10"), "no stage from --stage 9 to --stop_stage 10"),
        (("--lora", "true"), "unknown option --lora; did you mean --is_lora? known are --stage --stop_stage"),
        (("--nproc", "two"), "--nproc is a number of processes"),
        (("--nproc", "0"), "--nproc is a number of processes"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(checkout: Path, words: tuple[str, ...], message: str) -> None:
    done = run(checkout, "finetune.sh", *words)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
    assert " -- " not in done.stderr and not done.stderr.rstrip().endswith("--")
    assert not (checkout.parent / "calls").exists()
