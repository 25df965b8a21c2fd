#!/usr/bin/env python
"""Labelled cuts and their teacher in, its likeliest tokens at every target out: `distil.py --kd.teacher_logits DIR`.

    egrecho cache-logits exp/distil/labels/packed.jsonl.gz exp/distil/logits --teacher openai/whisper-large-v3

Every choice of timestamps and previous text that training may draw is computed, on the clean audio. It is a pass over
the manifest (`runtime/passes.py`): shards of a killed run are kept, several processes (torchrun) divide them, and audio
that could not be read is tried again by the same command.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval, PositiveFloat, PositiveInt
from egrecho_inner.data.batches.options import TargetOptions
from egrecho_inner.errors import ConfigError
from egrecho_inner.runtime.files import write_json
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.runtime.passes import Pass, read_note
from egrecho_inner.runtime.progress import watched
from egrecho_inner.text.languages import Task

if TYPE_CHECKING:
    from egrecho_inner.data.cuts.index import CutIndex

logger = logging.getLogger(__name__)

BEGUN = "begun.json"
"""The settings of a cache that is not finished."""
PUBLISHED = TargetOptions(text="teacher", timestamps=0.2, previous=0.2)


def cache_logits(
    cuts: str,
    out: str,
    teacher: str,
    targets: TargetOptions = PUBLISHED,
    language: str | None = None,
    task: Task = "transcribe",
    top_k: PositiveInt = 32,
    temperature: PositiveFloat = 2.0,
    window: Literal["longest", "30s"] = "longest",
    batch_size: PositiveInt = 16,
    shard_size: PositiveInt = 2000,
    max_skip_ratio: ClosedUnitInterval = 0.01,
    device: str = "auto",
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
) -> None:
    """Write down a teacher's likeliest tokens at every target of the cuts.

    Args:
        cuts: The manifest that will be trained on.
        out: Where to.
        teacher: Folder or hub id.
        targets: What is learned for a cut, as in the training.
        language: Of cuts that name none.
        task: Of the text.
        top_k: Tokens kept at each target.
        temperature: That of the training, kd.temperature.
        window: Pad to 30 s, or to the longest cut of a batch; as in the training.
        batch_size: Cuts at a time.
        shard_size: Cuts that a kill costs at most, for each process.
        max_skip_ratio: Share of the cuts that may be unusable; they are in the folder's `skipped.jsonl`.
        device: cpu, cuda, cuda:1, ...; auto is a GPU where there is one.
        dtype: Type of the weights; auto is float16 on a GPU, float32 elsewhere.
    """
    from egrecho_inner.data.cuts.index import CutIndex
    from egrecho_inner.decoding.resumable import choose_place, model_digest, processes, wait
    from egrecho_inner.decoding.teacher_logits import LogitWriter

    index, folder = CutIndex(cuts), Path(out)
    facts = {"teacher": model_digest(teacher), "cuts": index.digest, "targets": vars(targets), "language": language}
    facts |= {"task": task, "k": top_k, "temperature": temperature, "window": window, "shard_size": shard_size}
    check_folder(folder, facts)
    job = make_pass(index, folder, facts)
    with processes() as (rank, world):
        writer = LogitWriter(
            index, teacher, targets, (language, task), top_k, temperature, choose_place(device, dtype, rank, world)
        )
        writer.batch_size, writer.padded = batch_size, window == "30s"
        if rank == 0:
            if job.begin(writer.is_usable):
                write_json(folder / BEGUN, facts)
            else:
                logger.info("%s is there already%s", out, "; what was left out still fails" * job.has_faults())
        wait()
        if job.is_finished():
            return
        mine = job.open(rank, world)
        for shard in watched(mine, what="teacher's tokens", unit=f"shards of {shard_size} cuts"):
            writer.compute(shard)
        wait()
        if rank == 0:
            ledger = job.collect(Ledger(folder / "skipped.jsonl"), max_skip_ratio, str(folder))
            job.finalize(lambda: facts | {"shards": len(job.shards)})
            (folder / BEGUN).unlink()
            print(f"{out}: {ledger.summary(job.total, 'cuts')}; {top_k} tokens a target")


cache_logits.positional = ["cuts", "out"]


def check_folder(folder: Path, facts: dict[str, Any]) -> None:
    """Refuse a folder that was begun with other settings.

    Raises:
        ConfigError: It was; the message names them.
    """
    from egrecho_inner.data.batches.teacher_tokens import FACTS

    there = read_note(folder / FACTS) or read_note(folder / BEGUN)
    different = [name for name, value in facts.items() if there and there.get(name) != value]
    if different:
        raise ConfigError(f"{folder} was made with other {', '.join(different)}; give another folder")


def make_pass(index: CutIndex, folder: Path, facts: dict[str, Any]) -> Pass:
    """Divide a manifest into shards of so many cuts, whose rows stay in the folder."""
    from egrecho_inner.data.batches.teacher_tokens import FACTS
    from egrecho_inner.data.cuts.inputs import equal_runs, parts_of
    from egrecho_inner.decoding.teacher_logits import STAGE

    parts = parts_of(index, equal_runs(len(index), facts["shard_size"]))
    return Pass(STAGE, folder, "rows", folder / FACTS, facts, parts, products=("jsonl",))


if __name__ == "__main__":
    run(cache_logits)
