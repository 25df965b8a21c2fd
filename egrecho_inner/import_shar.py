#!/usr/bin/env python
"""A Lhotse Shar folder in, plain FLAC files and a manifest of cuts out: training reads single cuts by position, which
tar files of compressed audio do not allow. Everything on a cut but its stored features is kept.
"""

from collections.abc import Iterator
from pathlib import Path

import soundfile
from lhotse import CutSet, MonoCut, Recording

from egrecho_inner.config import run
from egrecho_inner.data.audio import SAMPLING_RATE, load_audio
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import atomic_file, to_line, write_jsonl

READERS = {"shard_origin", "shar_epoch"}
"""What Lhotse notes on a cut while it reads: of this reading, not of the cut."""


def import_shar(shar: str, out: str) -> None:
    """Make plain files and a manifest of a Lhotse Shar folder.

    Args:
        shar: The folder, with cuts.*.jsonl.gz and recording.*.tar.
        out: Manifest to write; the audio goes to a folder `audio` beside it, in a folder for each thousand.
    """
    place, folder = Path(out), Path(shar)
    if not list(folder.glob("cuts.*")) or not list(folder.glob("recording.*.tar")):
        raise DataError(f"{shar} is no Lhotse Shar folder with audio; expected cuts.*.jsonl.gz and recording.*.tar")

    def lines() -> Iterator[str]:
        for number, cut in enumerate(CutSet.from_shar(in_dir=folder)):
            yield to_line(as_files(cut, place.parent / "audio" / f"{number // 1000:06d}").to_dict())

    print(f"{out}: {write_jsonl(place, lines()):,} cuts")


import_shar.positional = ["shar", "out"]


def as_files(cut: MonoCut, folder: Path) -> MonoCut:
    """Write a cut's audio to a file of its own and return the cut over that file."""
    wave, path = load_audio(cut), folder / f"{cut.id.replace('/', '_')}.flac"
    with atomic_file(path) as file:
        soundfile.write(file, wave, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    recording = Recording.from_file(path, recording_id=cut.recording.id)
    custom = {name: value for name, value in (cut.custom or {}).items() if name not in READERS} or None
    return MonoCut(cut.id, 0, recording.duration, 0, supervisions=cut.supervisions, recording=recording, custom=custom)


if __name__ == "__main__":
    run(import_shar)
