#!/usr/bin/env python
"""Cuts in, Lhotse Shar out: tar files of some hundred utterances, audio and transcripts side by side.

    egrecho to-shar data/fbank_whisper80/mine_cuts_train.jsonl.gz data/shar/train --shard_size 500

For sets of millions of small files, which file systems and object stores are slow at. Everything on a cut travels with
it, the teacher's text too. `OUT.index` beside it has what training must know of cuts before it reads one; copy both.
`egrecho import-shar` makes plain files and a manifest of it again.
"""

import json
from pathlib import Path
from typing import Literal

from egrecho_inner.config import run
from egrecho_inner.config_types import PositiveInt
from egrecho_inner.errors import ConfigError
from egrecho_inner.runtime.files import working_folder, write_json


def to_shar(cuts: str, out: str, audio: Literal["flac", "wav"] = "flac", shard_size: PositiveInt = 1000) -> None:
    """Write cuts with their audio as a Lhotse Shar folder.

    Args:
        cuts: Manifest.
        out: Folder to write; it appears when all of it is written.
        audio: Of the utterances in the shards; both are lossless for 16-bit audio.
        shard_size: Utterances in a shard.
    """
    from lhotse import CutSet

    from egrecho_inner.data.cuts.index import CutIndex

    place, index = Path(out), CutIndex(cuts)
    marker = place.with_name(f"{place.name}.json")  # inside, Lhotse would take it for a field of the cuts
    if place.is_dir() and marker.is_file() and json.loads(marker.read_text())["digest"] == index.digest:
        index_shards(place)  # where a run was killed after its shards
        print(f"{out} is there already")
        return
    if place.exists():
        raise ConfigError(f"{out} is there and of other cuts; choose another folder")
    with working_folder(place) as working:
        CutSet(index).to_shar(working, fields={"recording": audio}, shard_size=shard_size)
        write_json(marker, {"digest": index.digest, "cuts": len(index)})
    print(f"{out}: {len(index):,} cuts in {index_shards(place)} shards")


def index_shards(place: Path) -> int:
    """Write the indexes that are missing; return how many shards there are."""
    from egrecho_inner.data.sources.shar import find_shards
    from egrecho_inner.data.sources.shard_index import ShardIndex, index_folder, index_path
    from egrecho_inner.runtime.files import sweep

    shards = find_shards(place)
    if (folder := index_folder(shards[0])).is_dir():
        sweep(folder)
    for shard in shards:
        if not index_path(shard).is_file():
            ShardIndex(shard).write()
    return len(shards)


to_shar.positional = ["cuts", "out"]

if __name__ == "__main__":
    run(to_shar)
