#!/usr/bin/env python
"""Cuts in, the same cuts with a teacher's text on them out: `supervision.custom["teacher"]`, nothing else is changed.

The manifest is gone through in shards. A finished shard is a file in a hidden folder beside the output, whose name is
a digest of model, data and options: the same command goes on behind the last finished one, another teacher begins anew.
Several processes (torchrun) divide the shards. Cuts that cannot be decoded go to the ledger `skipped.jsonl`.

    egrecho pseudo-label --cuts C.jsonl.gz --out L.jsonl.gz --model_path openai/whisper-large-v3 --decode.timestamps
    torchrun --nproc_per_node 8 egrecho_inner/pseudo_label.py ...
"""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from egrecho_inner.config import run
from egrecho_inner.data.features import WHISPER_FRAMES
from egrecho_inner.data.index import CutIndex
from egrecho_inner.data.transcripts import make_supervision
from egrecho_inner.decoding.batches import FRAMES_PER_SECOND, load_pieces
from egrecho_inner.decoding.decode import Hypothesis
from egrecho_inner.decoding.hypotheses import make_key
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.session import Decoder, choose_place, processes, wait
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.runtime.files import atomic_file, read_lines, to_line, write_jsonl
from egrecho_inner.runtime.ledger import Ledger, Skip
from egrecho_inner.text.segments import as_rows, segments_of

logger = logging.getLogger(__name__)

LONGEST = WHISPER_FRAMES / FRAMES_PER_SECOND
STAGE = "pseudo-label"


def pseudo_label(
    cuts: str,
    out: str,
    model_path: str,
    decode: DecodeOptions = DecodeOptions(),
    device: str = "auto",
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
    shard_size: int = 2000,
    max_skip_ratio: float = 0.01,
    overwrite: bool = False,
) -> None:
    """Write a teacher's text, its likelihood and its origin onto cuts.

    Args:
        cuts: Manifest; references are not needed.
        out: Manifest to write, `.jsonl` or `.jsonl.gz`; `OUT.json` beside it says what it was made with.
        model_path: The teacher, a folder or a hub id.
        decode: How to search; greedy is enough where a filter follows. With timestamps the parts are kept, timed.
        device: cpu, cuda, cuda:1, ...; auto is a GPU where there is one.
        dtype: Type of the weights; auto is float16 on a GPU, float32 elsewhere.
        shard_size: Cuts that a kill costs at most, for each process.
        max_skip_ratio: Share of the cuts that may be unreadable or over 30 s.
        overwrite: Replace an output that was made otherwise.
    """
    if shard_size < 1:
        raise ConfigError(f"shard_size is {shard_size}; expected at least 1 cut")
    index, place = CutIndex(cuts), Path(out)
    with processes() as (rank, world):
        decoder = Decoder(model_path, decode, choose_place(device, dtype, rank, world))
        key = make_key(decoding=decoder.key(index, len(index)), shard_size=shard_size)
        if finished(place, key, overwrite):
            logger.info("%s is there already", out)
            return
        working = place.with_name(f".{place.name}.{key}")
        working.mkdir(parents=True, exist_ok=True)
        shards = range(0, len(index), shard_size)
        for number, begin in enumerate(shards):
            if number % world == rank and not (working / f"{number:06d}.jsonl").is_file():
                label_shard(decoder, index, range(begin, min(begin + shard_size, len(index))), working, number)
                logger.info("shard %d of %d", number + 1, len(shards))
        wait()
        if rank == 0:
            join(place, working, len(shards), len(index), max_skip_ratio, decoder.facts(index, len(index)), key)


pseudo_label.positional = ["cuts", "out"]


def finished(place: Path, key: str, overwrite: bool) -> bool:
    """Tell whether the output is there, made with the same teacher, data and options.

    Raises:
        ConfigError: It is there, made otherwise.
    """
    if not place.exists() or overwrite:
        return False
    facts = place.with_name(f"{place.name}.json")
    if facts.is_file() and json.loads(facts.read_text(encoding="utf-8")).get("key") == key:
        return True
    raise ConfigError(f"{place} is there, made by another teacher, data or options; take another name or --overwrite")


def label_shard(decoder: Decoder, index: CutIndex, positions: range, working: Path, number: int) -> None:
    """Decode one shard and write it, what was left out before what was labelled."""
    usable, skips = usable_positions(index, positions)
    try:
        heard = list(decoder.transcriber(index, usable)) if usable else []
    except DataError:
        usable, broken = readable(decoder, index, usable)  # a whole batch fails for one file: find which
        skips += broken
        heard = list(decoder.transcriber(index, usable)) if usable else []
    found = {each.id: each for each in heard}
    write_jsonl(working / f"{number:06d}.skipped", [to_line(asdict(skip)) for skip in skips])
    lines = labelled(decoder, index, usable, found)
    write_jsonl(working / f"{number:06d}.jsonl", lines)


def usable_positions(index: CutIndex, positions: range) -> tuple[list[int], list[Skip]]:
    """Divide positions into those of up to 30 s and skips: what is longer cannot be trained on."""
    usable, skips = [], []
    for position in positions:
        seconds = float(index.durations[position])
        if seconds > LONGEST:
            skips.append(Skip(index[position].id, STAGE, f"longer than {LONGEST:g} s", round(seconds, 3), seconds))
        else:
            usable.append(position)
    return usable, skips


def readable(decoder: Decoder, index: CutIndex, positions: list[int]) -> tuple[list[int], list[Skip]]:
    """Divide positions into those that can be loaded and skips."""
    fine, skips = [], []
    for position in positions:
        cut = index[position]
        try:
            for piece in load_pieces(cut, position, decoder.transcriber.model.config.num_mel_bins):
                decoder.transcriber.labels.prefix(piece.language or "en")
            fine.append(position)
        except DataError as error:
            skips.append(Skip(cut.id, STAGE, "cannot be decoded", str(error), cut.duration))
    return fine, skips


def labelled(decoder: Decoder, index: CutIndex, positions: list[int], found: dict[str, Hypothesis]) -> Iterator[str]:
    """Yield the lines of cuts with the teacher's text on them."""
    origin = {"model": decoder.model_path, "revision": decoder.digest}
    for position in positions:
        row = json.loads(index.line(position))
        supervision = make_supervision(row)
        label = teacher_label(found[row["id"]], decoder) | origin
        supervision["custom"] = {**(supervision.get("custom") or {}), "teacher": label}
        yield to_line(row)


def teacher_label(heard: Hypothesis, decoder: Decoder) -> dict[str, Any]:
    """Return what is kept of a hypothesis."""
    label: dict[str, Any] = {
        "text": heard.text,
        "language": heard.language,
        "task": decoder.options.task,
        "avg_logprob": heard.avg_logprob,
        "compression_ratio": heard.compression_ratio,
        "no_speech": heard.no_speech,
        "truncated": heard.truncated,
        "looped": heard.looped,
    }
    if decoder.options.timestamps:
        label["segments"] = as_rows(segments_of(heard.tokens, decoder.transcriber.labels, heard.duration))
    return label


def join(
    place: Path, working: Path, shards: int, total: int, max_skip_ratio: float, facts: dict[str, Any], key: str
) -> None:
    """Make one manifest of all shards, the output last."""
    ledger = Ledger(place.with_name("skipped.jsonl"))
    for number in range(shards):
        for line in read_lines(working / f"{number:06d}.skipped"):
            ledger.add(**json.loads(line) | {"stage": f"{STAGE} {place.name}"})
    ledger.write(f"{STAGE} {place.name}")
    ledger.check_limit(total, max_skip_ratio, str(place))
    tally = {"cuts": 0, "truncated": 0, "looped": 0, "empty": 0}

    def lines() -> Iterator[str]:
        for number in range(shards):
            for line in read_lines(working / f"{number:06d}.jsonl"):
                row = json.loads(line)
                said = make_supervision(row)["custom"]["teacher"]
                tally["cuts"] += 1
                tally["truncated"] += said["truncated"]
                tally["looped"] += said["looped"]
                tally["empty"] += not said["text"]
                yield line

    place.unlink(missing_ok=True)
    written = place.with_name(f".{place.name}.joined{''.join(place.suffixes[-2:])}")
    write_jsonl(written, lines())
    with atomic_file(place.with_name(f"{place.name}.json")) as file:
        file.write(json.dumps({"key": key, **tally, **facts}, indent=1, ensure_ascii=False).encode() + b"\n")
    written.replace(place)
    shutil.rmtree(working)
    print(f"{place}: {ledger.summary(total, 'cuts')}")
    print(f"  {tally['truncated']} truncated, {tally['looped']} looped, {tally['empty']} empty")


if __name__ == "__main__":
    run(pseudo_label)
