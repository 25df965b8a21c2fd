#!/usr/bin/env python
"""Labelled cuts and their teacher in, its likeliest tokens at every target out: `distil.py --kd.teacher_logits DIR`.

Every choice of timestamps and previous text that training may draw is computed, on the clean audio. It is a pass over
the manifest (`runtime/passes.py`): shards of a killed run are kept, several processes (torchrun) divide them, and audio
that could not be read is tried again by the same command.
"""

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lhotse.cut import Cut
from torch import Tensor

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval, PositiveFloat, PositiveInt
from egrecho_inner.data.batches.options import TargetOptions
from egrecho_inner.data.batches.targets import encode
from egrecho_inner.data.batches.teacher_tokens import FACTS, Choice, ShardWriter
from egrecho_inner.data.batches.tensors import CutBatches
from egrecho_inner.data.cuts.fields import transcript_of
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.data.cuts.inputs import equal_runs, parts_of
from egrecho_inner.decoding.recognize import label_encoder
from egrecho_inner.decoding.resumable import Place, choose_place, model_digest, processes, wait
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.model.loading import load_model, load_processor
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.runtime.files import write_json
from egrecho_inner.runtime.ledger import Ledger, Skip
from egrecho_inner.runtime.passes import Fault, Pass, Shard, read_note
from egrecho_inner.text.constants import IGNORED, WINDOW_SECONDS
from egrecho_inner.text.labels import LabelEncoder, Labels
from egrecho_inner.text.languages import Task

logger = logging.getLogger(__name__)

STAGE = "cache-logits"
BEGUN = "begun.json"
"""The settings of a cache that is not finished."""
PUBLISHED = TargetOptions(text="teacher", timestamps=0.2, previous=0.2)


def cache_logits(
    cuts: str,
    outdir: str,
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
        outdir: Where to.
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
    index, folder = CutIndex(cuts), Path(outdir)
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
                logger.info("%s is there already%s", outdir, "; what was left out still fails" * job.has_faults())
        wait()
        if job.is_finished():
            return
        mine = job.open(rank, world)
        for count, shard in enumerate(mine, 1):
            writer.compute(shard)
            logger.info("shard %d of %d", count, len(mine))
        wait()
        if rank == 0:
            ledger = job.collect(Ledger(folder / "skipped.jsonl"), max_skip_ratio, str(folder))
            job.finalize(lambda: facts | {"shards": len(job.shards)})
            (folder / BEGUN).unlink()
            print(f"{outdir}: {ledger.summary(job.total, 'cuts')}; {top_k} tokens a target")


cache_logits.positional = ["cuts", "outdir"]


def check_folder(folder: Path, facts: dict[str, Any]) -> None:
    """Refuse a folder that was begun with other settings.

    Raises:
        ConfigError: It was; the message names them.
    """
    there = read_note(folder / FACTS) or read_note(folder / BEGUN)
    different = [name for name, value in facts.items() if there and there.get(name) != value]
    if different:
        raise ConfigError(f"{folder} was made with other {', '.join(different)}; give another folder")


def make_pass(index: CutIndex, folder: Path, facts: dict[str, Any]) -> Pass:
    """Divide a manifest into shards of so many cuts, whose rows stay in the folder."""
    parts = parts_of(index, equal_runs(len(index), facts["shard_size"]))
    return Pass(STAGE, folder, "rows", folder / FACTS, facts, parts, products=("jsonl",))


@dataclass(frozen=True)
class Example:
    """A cut's features with the labels of one choice."""

    choice: Choice
    labels: Labels
    feats: np.ndarray
    """(T + tail, F)."""
    length: int
    """T."""


class LogitWriter:
    """A teacher whose likeliest tokens are written down.

    Args:
        index: The cuts.
        teacher: Folder or hub id.
        targets: What is learned for a cut.
        spoken: Language of cuts that name none, and the task of the text.
        top_k: Tokens kept at each target.
        temperature: Of the softmax.
        place: Where it computes.
    """

    batch_size = 16
    padded = False
    """Whether batches are padded to 30 s, or to their longest cut."""

    def __init__(
        self,
        index: CutIndex,
        teacher: str,
        targets: TargetOptions,
        spoken: tuple[str | None, Task],
        top_k: int,
        temperature: float,
        place: Place,
    ):
        self.index, self.teacher, self.targets, self.spoken = index, teacher, targets, spoken
        self.top_k, self.temperature, self.place = top_k, temperature, place

    @cached_property
    def model(self) -> Whisper:
        """The teacher; loaded when there is something to compute."""
        return load_model(self.teacher, self.place.dtype).to(self.place.device).eval()

    @cached_property
    def labels(self) -> LabelEncoder:
        """Its label encoder."""
        return label_encoder(self.model, load_processor(self.teacher).tokenizer, *self.spoken)

    @cached_property
    def maker(self) -> CutBatches:
        """What makes features and batches."""
        return CutBatches(self.index, self.labels, self.model.config.num_mel_bins)

    def compute(self, shard: Shard) -> None:
        """Compute and write one shard."""
        rows, skips = ShardWriter(shard), []
        waiting: list[Example] = []
        for position in sorted(shard.positions, key=lambda at: -self.index.durations[at]):
            waiting += self.examples(position, skips)
            while len(waiting) >= self.batch_size:
                self.add(waiting[: self.batch_size], rows)
                waiting = waiting[self.batch_size :]
        if waiting:
            self.add(waiting, rows)
        rows.write(skips)

    def examples(self, position: int, skips: list[Skip]) -> list[Example]:
        """Return a cut with the labels of each choice; one that training could not use either goes to `skips`."""
        cut = self.index[position]
        try:
            variants = list(self.variants(cut))
        except DataError as error:
            skips.append(Skip(cut.id, STAGE, "not usable", str(error), cut.duration))
            return []
        try:
            feats, length = self.maker.features(cut, 0)
        except DataError as error:
            skips.append(Fault(cut.id, STAGE, "unusable audio", str(error), cut.duration, position))
            return []
        return [Example(choice, labels, feats, length) for choice, labels in variants]

    def is_usable(self, position: int) -> bool:
        """Try a cut again whose audio could not be used at an earlier start."""
        skips: list[Skip] = []
        return bool(self.examples(position, skips)) and not skips

    def variants(self, cut: Cut) -> Iterator[tuple[Choice, Labels]]:
        """Yield the labels of every choice that may be drawn for a cut.

        Raises:
            DataError: It is too long, or has no text that fits.
        """
        if cut.duration > WINDOW_SECONDS:
            raise DataError(f"cut {cut.id} is longer than {WINDOW_SECONDS:g} s")
        transcript = transcript_of(cut, self.targets.text)
        with_times = drawn(self.targets.timestamps, bool(transcript.segments))
        for timestamps, previous in itertools.product(
            with_times, drawn(self.targets.previous, bool(transcript.previous))
        ):
            yield Choice(cut.id, timestamps, previous), encode(transcript, self.labels, timestamps, previous, cut.id)

    @torch.inference_mode()
    def add(self, batch: list[Example], rows: ShardWriter) -> None:
        """Compute a batch and add its rows to a shard."""
        feats, lengths = [each.feats for each in batch], [each.length for each in batch]
        inputs = self.maker.collate(feats, lengths, [each.labels for each in batch], self.padded)
        place, dtype = self.model.device, self.model.dtype
        mask = inputs["attention_mask"].to(place) if "attention_mask" in inputs else None
        hidden = self.model.model(
            inputs["input_features"].to(place, dtype),
            attention_mask=mask,
            decoder_input_ids=inputs["decoder_input_ids"].to(place),
            use_cache=False,
        ).last_hidden_state  # (B, L, D)
        for row, each in enumerate(batch):
            targets = torch.tensor(np.array(each.labels.targets) != IGNORED, device=place)
            ids, log_q = self.top(hidden[row, : len(targets)][targets])
            rows.add(each.choice, each.labels, ids.cpu().numpy(), log_q.cpu().numpy())

    def top(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the likeliest tokens (N, K) after hidden states (N, D), and their log probabilities."""
        logits = self.model.proj_out(hidden).float() / self.temperature
        log_q, ids = logits.log_softmax(-1).topk(min(self.top_k, logits.shape[-1]), -1)
        return ids, log_q


def drawn(probability: float, there: bool) -> list[bool]:
    """Return the outcomes of a draw that can happen and make a difference."""
    if not there or probability == 0:
        return [False]
    return [True] if probability == 1 else [False, True]


if __name__ == "__main__":
    run(cache_logits)
