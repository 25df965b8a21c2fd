"""A whole distillation step, with KL, cross-entropy and true transcripts: the same however the batch is divided."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import needs
import pytest
import torch
from safetensors.torch import load_file
from tiny import save_tiny, speech_cuts

from egrecho_inner.cache_logits import cache_logits
from egrecho_inner.data.batches.options import TargetOptions
from egrecho_inner.distil import load_teacher, open_cache
from egrecho_inner.errors import ConfigError
from egrecho_inner.init_student import init_student
from egrecho_inner.model.loading import load_model
from egrecho_inner.training.options import KdOptions, TrainOptions, WindowOptions

ROOT = Path(__file__).parents[2]
OPTIONS = """
kd: {reference_weight: 0.5}
targets: {text: teacher, timestamps: 0.5, previous: 0.5}
batch: {max_duration: null}
train: {max_steps: 1, learning_rate: 1.0, optimizer: sgd, schedule: constant, warmup_steps: 0, weight_decay: 0.0,
  max_grad_norm: 0.0, workers: 0, report_to: [], freeze: [encoder]}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, its student, and cuts with the teacher's text, some with times and a previous text."""
    folder = tmp_path_factory.mktemp("home")
    save_tiny(folder / "teacher", seed=3)
    init_student(str(folder / "teacher"), str(folder / "student"), decoder_layers=1)
    lines = speech_cuts(folder, 16).read_text().splitlines()
    for number, line in enumerate(lines):
        row = json.loads(line)
        said = {"text": "some words " * (1 + number % 3), "language": "en", "task": "transcribe", "previous": "before"}
        row["supervisions"][0]["custom"] = {"teacher": said | {"segments": [[0.0, 0.4, said["text"]]]}}
        lines[number] = json.dumps(row)
    (folder / "cuts.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (folder / "options.yaml").write_text(OPTIONS)
    return folder


def first_step(home: Path, out: Path, processes: int, batch_size: int, accumulation: int, *more: str) -> torch.Tensor:
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*launch, str(ROOT / "egrecho_inner" / "distil.py"), "-c", str(home / "options.yaml")]
    command += ["--model", str(home / "student"), "--teacher", str(home / "teacher"), "--out", str(out)]
    command += ["--data.train", str(home / "cuts.jsonl"), "--batch.batch_size", str(batch_size)]
    command += ["--train.accumulation", str(accumulation), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = (load_file(folder / "model.safetensors") for folder in (home / "student", out / "final"))
    assert all(torch.equal(before[name], after[name]) for name in before if ".encoder." in name)
    return torch.cat([(before[name] - after[name]).flatten() for name in sorted(before)])


def test_first_step_does_not_depend_on_processes_or_accumulation(home: Path, tmp_path: Path) -> None:
    whole = first_step(home, tmp_path / "whole", processes=1, batch_size=8, accumulation=1)
    assert whole.norm() > 0.1
    for name, processes, batch_size, accumulation in (("parts", 1, 2, 4), ("both", 2, 2, 2)):
        other = first_step(home, tmp_path / name, processes, batch_size, accumulation)
        assert (whole - other).norm() < 1e-4 * whole.norm(), name


def test_first_step_is_the_same_under_zero(home: Path, tmp_path: Path) -> None:
    needs.deepspeed()
    whole = first_step(home, tmp_path / "whole", 1, 8, 1)
    for stage in (2, 3):
        config = str(ROOT / "config" / f"ds_zero{stage}.json")
        other = first_step(home, tmp_path / f"zero{stage}", 2, 4, 1, "--train.deepspeed", config)
        assert (whole - other).norm() < 1e-4 * whole.norm(), stage


def test_half_precision_leaves_the_weights_in_full(home: Path, tmp_path: Path) -> None:
    # published students were loaded and updated in bfloat16 itself, where small steps are rounded away
    whole = first_step(home, tmp_path / "whole", 1, 8, 1)
    half = first_step(home, tmp_path / "half", 1, 8, 1, "--train.precision", "bf16", "--train.learning_rate", "1e-3")
    assert {value.dtype for value in load_file(tmp_path / "half" / "final" / "model.safetensors").values()} == {
        torch.float32
    }
    assert (whole - 1e3 * half).norm() < 0.05 * whole.norm()


def test_cached_logits_teach_what_the_teacher_does(home: Path, tmp_path: Path) -> None:
    # 2000 is more than the 1,900 tokens there are, so that only the rounding of the cache to half precision is left
    targets = TargetOptions(text="teacher", timestamps=0.5, previous=0.5)
    cache = tmp_path / "cache"
    cache_logits(str(home / "cuts.jsonl"), str(cache), str(home / "teacher"), targets=targets, top_k=2000)
    by_teacher = first_step(home, tmp_path / "teacher", 1, 8, 1)
    by_cache = first_step(home, tmp_path / "cached", 1, 8, 1, "--kd.teacher_logits", str(cache))
    without = first_step(home, tmp_path / "without", 1, 8, 1, "--kd.kl_weight", "0")
    assert (by_teacher - by_cache).norm() < 1e-2 * by_teacher.norm()
    assert (by_teacher - without).norm() > 0.1 * by_teacher.norm()  # or the test could not tell


def test_a_cache_of_something_else_is_refused(home: Path, tmp_path: Path) -> None:
    cache_logits(str(home / "cuts.jsonl"), str(tmp_path / "cache"), str(home / "teacher"), top_k=2)
    kd = KdOptions(teacher_logits=str(tmp_path / "cache"))
    assert open_cache(kd, str(home / "teacher"), WindowOptions()) is not None
    with pytest.raises(ConfigError, match="made with temperature 2"):
        open_cache(replace(kd, temperature=1.0), str(home / "teacher"), WindowOptions())
    with pytest.raises(ConfigError, match="made with window longest, the training has 30s"):
        open_cache(kd, str(home / "teacher"), WindowOptions(window="30s"))
    with pytest.raises(ConfigError, match="made with teacher"):
        open_cache(kd, str(home / "student"), WindowOptions())


def test_a_teacher_in_half_precision_shares_the_encoder_too(home: Path) -> None:
    # compared after rounding, no encoder would be the student's, and the teacher's would run beside it
    student = load_model(str(home / "student"))
    kd = KdOptions(teacher_dtype="bfloat16")
    teacher, shared = load_teacher(str(home / "teacher"), student, kd, TrainOptions(freeze=["encoder"]))
    assert shared
    assert teacher.model.encoder is student.model.encoder
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    assert {p.dtype for p in teacher.model.decoder.parameters()} == {torch.bfloat16}
    assert teacher.proj_out.weight is teacher.model.decoder.embed_tokens.weight
    other, shared = load_teacher(str(home / "teacher"), student, kd, TrainOptions(freeze=[]))
    assert not shared
    assert {p.dtype for p in other.parameters()} == {torch.bfloat16}
