#!/usr/bin/env python
"""Labelled cuts and their teacher in, its likeliest tokens at every target out: `distil.py --kd.teacher_logits DIR`.

Every choice of timestamps and previous text that training may draw is computed, on the clean audio. Shards of a killed
run are kept; several processes (torchrun) divide them.
"""

import itertools
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lhotse.cut import Cut
from torch import Tensor

from egrecho_inner.config import run
from egrecho_inner.data.dataset import CutBatches
from egrecho_inner.data.index import CutIndex
from egrecho_inner.data.logit_cache import FACTS, Choice, ShardWriter, is_written
from egrecho_inner.data.options import TargetOptions
from egrecho_inner.data.targets import encode
from egrecho_inner.data.transcripts import transcript_of
from egrecho_inner.decoding.batches import LONGEST
from egrecho_inner.decoding.recognizer import label_encoder
from egrecho_inner.decoding.session import Place, choose_place, model_digest, processes, wait
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.model.loading import load_model, load_processor
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.runtime.files import atomic_file, read_lines, to_line, write_jsonl
from egrecho_inner.runtime.ledger import Ledger, Skip
from egrecho_inner.text.labels import IGNORED, Labels
from egrecho_inner.text.languages import Task

logger = logging.getLogger(__name__)

STAGE = "cache-logits"
PUBLISHED = TargetOptions(text="teacher", timestamps=0.2, previous=0.2)


def cache_logits(
    cuts: str,
    outdir: str,
    teacher: str,
    targets: TargetOptions = PUBLISHED,
    language: str | None = None,
    task: Task = "transcribe",
    top_k: int = 32,
    temperature: float = 2.0,
    window: Literal["longest", "30s"] = "longest",
    batch_size: int = 16,
    shard_size: int = 2000,
    max_skip_ratio: float = 0.01,
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
    if min(top_k, batch_size, shard_size) < 1 or temperature <= 0:
        raise ConfigError("top_k, batch_size, shard_size and temperature must be above 0")
    index, folder = CutIndex(cuts), Path(outdir)
    facts = {"teacher": model_digest(teacher), "cuts": index.digest, "targets": vars(targets), "language": language}
    facts |= {"task": task, "k": top_k, "temperature": temperature, "window": window, "shard_size": shard_size}
    shards = list(range(0, len(index), shard_size))
    with processes() as (rank, world):
        place = choose_place(device, dtype, rank, world)
        if rank == 0:
            begin(folder, facts)
        wait()
        if (folder / FACTS).is_file():
            logger.info("%s is there already", outdir)
            return
        scribe = Scribe(index, teacher, targets, language, task, top_k, temperature, window == "30s", place)
        for number, first in enumerate(shards):
            if number % world == rank and not is_written(folder, number):
                writer = ShardWriter(folder, number)
                positions = range(first, min(first + shard_size, len(index)))
                for batch in scribe.batches(positions, batch_size):
                    scribe.write(batch, writer)
                write_jsonl(folder / f"skipped-{number}.jsonl", [to_line(asdict(skip)) for skip in scribe.skips])
                scribe.skips = []
                writer.write()
                logger.info("shard %d of %d", number + 1, len(shards))
        wait()
        if rank == 0:
            summary = settle(folder, len(shards), len(index), max_skip_ratio)
            save(folder / FACTS, facts | {"shards": len(shards)})
            (folder / "begun.json").unlink()
            print(f"{outdir}: {summary}; {top_k} tokens a target")


cache_logits.positional = ["cuts", "outdir"]


def begin(folder: Path, facts: dict[str, Any]) -> None:
    """Make the folder, or find it begun by the same command.

    Raises:
        ConfigError: It is of another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / FACTS, folder / "begun.json"):
        if path.is_file():
            there = json.loads(path.read_text(encoding="utf-8"))
            different = [name for name, value in facts.items() if there.get(name) != value]
            if different:
                raise ConfigError(f"{folder} was made with other {', '.join(different)}; give another folder")
            return
    save(folder / "begun.json", facts)


def settle(folder: Path, shards: int, total: int, max_skip_ratio: float) -> str:
    """Write the ledger of all shards; return its summary.

    Raises:
        DataError: Too many cuts could not be used.
    """
    ledger = Ledger(folder / "skipped.jsonl")
    for number in range(shards):
        for line in read_lines(folder / f"skipped-{number}.jsonl"):
            ledger.add(**json.loads(line))
    ledger.write(STAGE)
    ledger.check_limit(total, max_skip_ratio, str(folder))
    return ledger.summary(total, "cuts")


def save(path: Path, facts: dict[str, Any]) -> None:
    """Write facts as JSON."""
    with atomic_file(path) as file:
        file.write(json.dumps(facts, indent=1).encode() + b"\n")


class Scribe:
    """A teacher who writes down its probabilities."""

    def __init__(
        self,
        index: CutIndex,
        teacher: str,
        targets: TargetOptions,
        language: str | None,
        task: Task,
        top_k: int,
        temperature: float,
        padded: bool,
        place: Place,
    ):
        self.index = index
        self.model: Whisper = load_model(teacher, place.dtype).to(place.device).eval()
        self.labels = label_encoder(self.model, load_processor(teacher).tokenizer, language, task)
        self.targets, self.top_k, self.temperature, self.padded = targets, top_k, temperature, padded
        self.maker = CutBatches(index, self.labels, self.model.config.num_mel_bins)
        self.skips: list[Skip] = []

    def batches(self, positions: range, size: int) -> Iterator[list[tuple[Cut, Choice, Labels]]]:
        """Yield cuts with their choices, by duration; what training could not use either goes to `skips`."""
        waiting = []
        for position in sorted(positions, key=lambda at: -self.index.durations[at]):
            cut = self.index[position]
            try:
                waiting += [(cut, choice, made) for choice, made in self.lessons(cut)]
            except DataError as error:
                self.skips.append(Skip(cut.id, STAGE, "not usable", str(error), cut.duration))
            while len(waiting) >= size:
                yield waiting[:size]
                waiting = waiting[size:]
        if waiting:
            yield waiting

    def lessons(self, cut: Cut) -> Iterator[tuple[Choice, Labels]]:
        """Yield the labels of every choice that may be drawn for a cut."""
        if cut.duration > LONGEST:
            raise DataError(f"cut {cut.id} is longer than {LONGEST:g} s")
        transcript = transcript_of(cut, self.targets.text)
        with_times = drawn(self.targets.timestamps, bool(transcript.segments))
        for timestamps, previous in itertools.product(
            with_times, drawn(self.targets.previous, bool(transcript.previous))
        ):
            yield Choice(cut.id, timestamps, previous), encode(transcript, self.labels, timestamps, previous, cut.id)

    @torch.inference_mode()
    def write(self, batch: list[tuple[Cut, Choice, Labels]], writer: ShardWriter) -> None:
        """Compute a batch and add its rows to a shard."""
        features = [self.maker.features(cut, 0) for cut, _, _ in batch]
        made = [labels for _, _, labels in batch]
        inputs = self.maker.collate(
            [each for each, _ in features], [length for _, length in features], made, self.padded
        )
        place, dtype = self.model.device, self.model.dtype
        mask = inputs["attention_mask"].to(place) if "attention_mask" in inputs else None
        hidden = self.model.model(
            inputs["input_features"].to(place, dtype),
            attention_mask=mask,
            decoder_input_ids=inputs["decoder_input_ids"].to(place),
            use_cache=False,
        ).last_hidden_state  # (B, L, D)
        for row, (_, choice, labels) in enumerate(batch):
            targets = torch.tensor(np.array(labels.targets) != IGNORED, device=place)
            ids, log_q = self.top(hidden[row, : len(targets)][targets])
            writer.add(choice, labels, ids.cpu().numpy(), log_q.cpu().numpy())

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
