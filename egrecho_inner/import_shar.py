#!/usr/bin/env python
"""A Lhotse Shar folder in, plain FLAC files and a manifest of cuts out: training reads single cuts by position, which
tar files of compressed audio do not allow. Everything on a cut but its stored features and arrays is kept.


    egrecho import-shar my_shar_folder data/cuts/mine_cuts_train.jsonl.gz
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile

from egrecho_inner.config import run
from egrecho_inner.runtime.files import atomic_file, to_line, write_jsonl
from egrecho_inner.runtime.progress import watched

if TYPE_CHECKING:
    from lhotse import MonoCut
    from lhotse.cut import Cut

SAFE_NAME = re.compile(r"[\w\-=+@][\w.\-=+@ ]*")
LONGEST_NAME = 180
"""Bytes; file systems take 255, and a temporary file has more in its name."""


def import_shar(shar: str, out: str) -> None:
    """Make plain files and a manifest of a Lhotse Shar folder.

    Args:
        shar: The folder, with cuts.*.jsonl.gz and recording.*.tar.
        out: Manifest to write; the audio goes to a folder `audio` beside it, in a folder for each thousand.
    """
    from egrecho_inner.data.cuts.index import check_unique_over
    from egrecho_inner.data.sources.shar import find_shards, read_shard
    from egrecho_inner.data.sources.shard_index import ShardIndex

    place, shards = Path(out), find_shards(shar)
    check_unique_over([ShardIndex(shard) for shard in shards])  # and that every line may be read, before any work

    def lines() -> Iterator[str]:
        cuts = (cut for shard in shards for cut in read_shard(shard))
        for number, cut in enumerate(watched(cuts, what="unpacking", unit="cuts")):
            yield to_line(as_files(cut, place.parent / "audio" / f"{number // 1000:06d}").to_dict())

    print(f"{out}: {write_jsonl(place, lines()):,} cuts")


import_shar.positional = ["shar", "out"]


def as_files(cut: Cut, folder: Path) -> MonoCut:
    """Write a cut's audio to a file of its own and return the cut over that file."""
    from lhotse import MonoCut, Recording

    from egrecho_inner.data.audio.load import SAMPLING_RATE, load_audio

    wave, path = load_audio(cut), folder / f"{file_name(cut.id)}.flac"
    with atomic_file(path) as file:
        soundfile.write(file, wave, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    recording = Recording.from_file(path, recording_id=cut.recording.id)
    return MonoCut(
        cut.id, 0, recording.duration, 0, supervisions=cut.supervisions, recording=recording, custom=cut.custom
    )


def file_name(name: str) -> str:
    """Return an id as the name of a file: another for each id, in the folder it is meant for."""
    if SAFE_NAME.fullmatch(name) and len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    readable = re.sub(r"[^\w.-]", "_", name)[:60].lstrip(".")
    return f"{readable}-{digest}"


if __name__ == "__main__":
    run(import_shar)
