"""Killed between two files it writes, each stage of a distillation is continued by its command to the same bytes."""

import gzip
import hashlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import save_tiny, speech_cuts

from egrecho_inner.cache_logits import cache_logits
from egrecho_inner.data.batches.options import BatchOptions, DataOptions, PackOptions, RuleOptions, TargetOptions
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.distil import distil
from egrecho_inner.evaluation import evaluate
from egrecho_inner.filter_cuts import filter_cuts
from egrecho_inner.import_shar import import_shar
from egrecho_inner.init_student import init_student
from egrecho_inner.model.options import ModelOptions
from egrecho_inner.pack_cuts import pack_cuts
from egrecho_inner.pseudo_label import pseudo_label
from egrecho_inner.to_shar import to_shar
from egrecho_inner.training.options import TrainOptions

QUICK = DecodeOptions(max_new_tokens=12)
TARGETS = TargetOptions(text="teacher", timestamps=0.5, previous=0.5)
EVERYTHING = RuleOptions(max_error_rate=None, truncated=True, looped=True)
TIMES = ("decode_seconds",)


def label(home: Path, out: Path) -> None:
    pseudo_label(str(home / "cuts.jsonl"), str(out / "l.jsonl.gz"), str(home / "teacher"), QUICK, shard_size=2)


def keep(home: Path, out: Path) -> None:
    filter_cuts(str(home / "labelled" / "l.jsonl.gz"), str(out / "f.jsonl.gz"), EVERYTHING)


def join(home: Path, out: Path) -> None:
    pack_cuts(str(home / "labelled" / "l.jsonl.gz"), str(out / "p.jsonl.gz"), PackOptions(by="speaker"))


def begin(home: Path, out: Path) -> None:
    init_student(str(home / "teacher"), str(out / "student"), decoder_layers=1)


def write_down(home: Path, out: Path) -> None:
    cuts = str(home / "labelled" / "l.jsonl.gz")
    cache_logits(cuts, str(out / "logits"), str(home / "teacher"), TARGETS, top_k=4, shard_size=2)


def learn(home: Path, out: Path) -> None:
    train = TrainOptions(
        max_steps=4, learning_rate=1e-3, eval_steps=2, workers=0, report_to=[], metric="loss", freeze=["encoder"]
    )
    data = DataOptions(train=str(home / "labelled" / "l.jsonl.gz"), dev=str(home / "cuts.jsonl"))
    batch = BatchOptions(max_duration=None, batch_size=2)
    distil(
        ModelOptions(str(home / "student")), str(home / "teacher"), data, str(out / "run"), batch=batch,
        targets=TARGETS, train=train,
    )  # fmt: skip


def to_tar(home: Path, out: Path) -> None:
    to_shar(str(home / "labelled" / "l.jsonl.gz"), str(out / "shar"), shard_size=2)


def from_tar(home: Path, out: Path) -> None:
    import_shar(str(home / "shar"), str(out / "cuts.jsonl.gz"))


def measure(home: Path, out: Path) -> None:
    evaluate(str(home / "teacher"), str(out / "eval"), str(home / "cuts.jsonl"), decode=QUICK)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher, a student, cuts, and the teacher's text on them."""
    folder = tmp_path_factory.mktemp("home")
    save_tiny(folder / "teacher", seed=3, ending=3.1)
    speech_cuts(folder, 5)
    label(folder, folder / "labelled")
    to_tar(folder, folder)
    init_student(str(folder / "teacher"), str(folder / "student"), decoder_layers=1)
    return folder


def killed(work: Callable[[], None], at: int) -> bool:
    """Run a stage in a child that is killed before it renames its `at`-th file or folder; tell whether it was."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(rename: Callable[..., None]) -> Callable[..., None]:
            def call(*args: object, **kwargs: object) -> None:
                nonlocal count
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                rename(*args, **kwargs)

            return call

        os.replace, os.rename = counted(os.replace), counted(os.rename)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def contents(folder: Path) -> dict[str, str]:
    """Return a digest of every result in a folder, without what tells the time and without what is hidden."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or name == "eval/results.json":
            continue
        if name.startswith("run/") and not name.startswith("run/final/model"):
            continue
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data).replace(str(folder).encode(), b"")
        if path.suffix in (".json", ".jsonl"):
            rows = [json.loads(text) for text in (data.splitlines() if path.suffix == ".jsonl" else [data])]
            data = json.dumps([{k: v for k, v in row.items() if k not in TIMES} for row in rows]).encode()
        found[name] = hashlib.sha256(data).hexdigest()
    return found


@pytest.mark.parametrize("stage", [label, keep, join, begin, write_down, learn, measure, to_tar, from_tar])
def test_a_kill_changes_nothing(stage: Callable[[Path, Path], None], home: Path, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    stage(home, tmp_path / "whole")
    whole, at, step = contents(tmp_path / "whole"), 1, 5 if stage is learn else 1
    assert whole
    while True:
        out = tmp_path / f"killed{at}"
        out.mkdir()
        if not killed(lambda out=out: stage(home, out), at):
            break
        stage(home, out)
        assert contents(out) == whole, f"killed before rename {at}"
        at += step
    assert at > 1  # it was killed at least once
