#!/usr/bin/env python
"""Cuts in, the same cuts with a teacher's text on them out: `supervision.custom["teacher"]`, nothing else is changed.

    egrecho pseudo-label data/fbank_whisper80/mine_cuts_train.jsonl.gz exp/distil/labels/labelled.jsonl.gz \\
      --model openai/whisper-large-v3 --decode.timestamps true
    torchrun --nproc_per_node 8 egrecho_inner/pseudo_label.py ...

A pass over the manifest (`runtime/passes.py`) whose shards lie in a hidden folder beside the output until all are done:
the same command goes on behind the last finished one, another teacher begins anew. Several processes (torchrun) divide
the shards. Cuts that cannot be decoded go to the ledger `skipped.jsonl` and are tried again by the same command.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval, PositiveInt
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.results.utterance import Hypothesis
from egrecho_inner.runtime.files import to_line
from egrecho_inner.runtime.ledger import Ledger, Skip
from egrecho_inner.runtime.passes import Fault, Pass, Shard, make_key
from egrecho_inner.runtime.progress import watched
from egrecho_inner.text.constants import WINDOW_SECONDS

if TYPE_CHECKING:
    from egrecho_inner.data.cuts.index import CutIndex
    from egrecho_inner.decoding.resumable import Decoder

logger = logging.getLogger(__name__)

STAGE = "pseudo-label"
MADE_OTHERWISE = (
    "made by another teacher, from other cuts or audio, or with other options; take another name or --overwrite"
)


def pseudo_label(
    cuts: str,
    out: str,
    model: str,
    decode: DecodeOptions = DecodeOptions(),
    device: str = "auto",
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
    shard_size: PositiveInt = 2000,
    max_skip_ratio: ClosedUnitInterval = 0.01,
    overwrite: bool = False,
) -> None:
    """Write a teacher's text, its likelihood and its origin onto cuts.

    Args:
        cuts: Manifest; references are not needed.
        out: Manifest to write, `.jsonl` or `.jsonl.gz`; `OUT.json` beside it has what it was made with.
        model: The teacher, a folder or a hub id.
        decode: How to search; greedy is enough where a filter follows. With timestamps the parts are kept, timed.
        device: cpu, cuda, cuda:1, ...; auto is a GPU where there is one.
        dtype: Type of the weights; auto is float16 on a GPU, float32 elsewhere.
        shard_size: Cuts that a kill costs at most, for each process.
        max_skip_ratio: Share of the cuts that may be unreadable or over 30 s.
        overwrite: Replace an output that was made otherwise.
    """
    from egrecho_inner.data.cuts.index import CutIndex
    from egrecho_inner.decoding.resumable import Decoder, choose_place, processes, wait

    if shard_size < 1:
        raise ConfigError(f"shard_size is {shard_size}; expected at least 1 cut")
    index, place = CutIndex(cuts), Path(out)
    with processes() as (rank, world):
        decoder = Decoder(model, decode, choose_place(device, dtype, rank, world))
        job = make_pass(index, place, decoder.key(index, len(index)), shard_size)
        if rank == 0 and not job.begin(partial(is_usable, decoder, index), "" if overwrite else MADE_OTHERWISE):
            logger.info("%s is there already%s", out, "; what was left out still fails" * job.has_faults())
        wait()
        if job.is_finished():
            return
        mine = job.open(rank, world)
        for _ in watched(label_shards(decoder, index, mine), sum(map(len, mine)), "labelling", "cuts"):
            pass
        wait()
        if rank == 0:
            finalize(job, max_skip_ratio, decoder.facts(index, len(index)))


pseudo_label.positional = ["cuts", "out"]


def make_pass(index: CutIndex, out: Path, decoding: str, shard_size: int) -> Pass:
    """Divide a manifest into shards of so many cuts; another teacher begins in a folder of its own."""
    from egrecho_inner.data.cuts.inputs import equal_runs, parts_of

    settings = {"decoding": decoding, "shard_size": shard_size}
    folder = out.with_name(f".{out.name}.{make_key(**settings)}")
    parts = parts_of(index, equal_runs(len(index), shard_size))
    note = out.with_name(f"{out.name}.json")
    return Pass(f"{STAGE} {out.name}", folder, "labels", note, settings, parts, out)


def label_shards(decoder: Decoder, index: CutIndex, shards: list[Shard]) -> Iterator[int]:
    """Decode shards one after the other; yield each position when its shard is written."""
    for shard in shards:
        label_shard(decoder, index, shard)
        yield from shard.positions


def label_shard(decoder: Decoder, index: CutIndex, shard: Shard) -> None:
    """Decode one shard and write it."""
    usable, skips = usable_positions(decoder, index, shard.positions)
    try:
        hypotheses = list(decoder.transcriber(index, usable)) if usable else []
    except DataError:
        usable, broken = readable(decoder, index, usable)  # a whole batch fails for one file: find which
        skips += broken
        hypotheses = list(decoder.transcriber(index, usable)) if usable else []
    shard.finish(labelled(decoder, index, usable, {each.id: each for each in hypotheses}), skips)


def is_usable(decoder: Decoder, index: CutIndex, position: int) -> bool:
    """Try a cut again that could not be decoded at an earlier start."""
    return not readable(decoder, index, [position])[1]


def usable_positions(decoder: Decoder, index: CutIndex, positions: range) -> tuple[list[int], list[Skip]]:
    """Divide positions into those that can be labelled and skips.

    What is longer than 30 s cannot be trained on; what names a language without a token cannot be decoded in it.
    """
    faults: dict[str | None, str | None] = {None: None}
    if not decoder.options.force_language:
        faults |= {code: decoder.transcriber.labels.language_fault(code) for code in index.languages if code}
    usable, skips = [], []
    for position in positions:
        seconds, code = float(index.durations[position]), index.languages[index.language[position]]
        if seconds > WINDOW_SECONDS:
            reason = f"longer than {WINDOW_SECONDS:g} s"
            skips.append(Skip(index[position].id, STAGE, reason, round(seconds, 3), seconds))
        elif fault := faults.get(code):
            skips.append(Skip(index[position].id, STAGE, fault, code, seconds))
        else:
            usable.append(position)
    return usable, skips


def readable(decoder: Decoder, index: CutIndex, positions: list[int]) -> tuple[list[int], list[Skip]]:
    """Divide positions into those that can be loaded and skips."""
    from egrecho_inner.decoding.pieces import load_pieces

    fine, skips = [], []
    forced = decoder.options.language if decoder.options.force_language else None
    for position in positions:
        cut = index[position]
        try:
            for piece in load_pieces(cut, position, decoder.transcriber.model.config.num_mel_bins):
                decoder.transcriber.labels.prefix(forced or piece.language or "en")
            fine.append(position)
        except DataError as error:
            skips.append(Fault(cut.id, STAGE, "cannot be decoded", str(error), cut.duration, position))
    return fine, skips


def labelled(decoder: Decoder, index: CutIndex, positions: list[int], found: dict[str, Hypothesis]) -> Iterator[str]:
    """Yield the lines of cuts with the teacher's text on them."""
    from egrecho_inner.data.cuts.fields import make_supervision

    origin = {"model": decoder.model_path, "revision": decoder.digest}
    for position in positions:
        row = json.loads(index.line(position))
        supervision = make_supervision(row)
        label = teacher_label(found[row["id"]], decoder) | origin
        supervision["custom"] = {**(supervision.get("custom") or {}), "teacher": label}
        yield to_line(row)


def teacher_label(hypothesis: Hypothesis, decoder: Decoder) -> dict[str, Any]:
    """Return what is kept of a hypothesis."""
    from egrecho_inner.text.segments import as_rows, segments_of

    label: dict[str, Any] = {
        "text": hypothesis.text,
        "language": hypothesis.language,
        "task": decoder.options.task,
        "avg_logprob": hypothesis.avg_logprob,
        "compression_ratio": hypothesis.compression_ratio,
        "no_speech": hypothesis.no_speech,
        "tokens": sum(token < decoder.transcriber.labels.eot for token in hypothesis.tokens),
        "truncated": hypothesis.truncated,
        "looped": hypothesis.looped,
    }
    if decoder.options.timestamps:
        label["segments"] = as_rows(segments_of(hypothesis.tokens, decoder.transcriber.labels, hypothesis.duration))
    return label


def finalize(job: Pass, max_skip_ratio: float, facts: dict[str, Any]) -> None:
    """Make one manifest of all shards, and count what is odd about its texts."""
    from egrecho_inner.data.cuts.fields import make_supervision

    out = job.out
    ledger = job.collect(Ledger(out.with_name("skipped.jsonl")), max_skip_ratio, str(out))
    counts = Counter(cuts=0, truncated=0, looped=0, empty=0)

    def counted() -> Iterator[str]:
        for line in job.lines():
            label = make_supervision(json.loads(line))["custom"]["teacher"]
            counts.update(cuts=1, truncated=label["truncated"], looped=label["looped"], empty=not label["text"])
            yield line

    job.finalize(lambda: {**counts, **facts}, counted())
    print(f"{out}: {ledger.summary(job.total, 'cuts')}")
    print(f"  {counts['truncated']} truncated, {counts['looped']} looped, {counts['empty']} empty")


if __name__ == "__main__":
    run(pseudo_label)
