"""ReazonSpeech as it is distributed: tar files of FLAC clips, numbered in hexadecimal, and a table of texts a size.

In: a folder with `000.tar`, `001.tar`, ... and `SIZE.tsv` (`000/NAME.flac`, tab, text). Out: for each tar the clips as
files and their cuts; a clip that does not decode, or that one side lacks, is a skip. Of a member only its bytes are
taken, under a name that the table has: nothing in a tar chooses a place on the disk.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lhotse import Recording, SupervisionSegment

from egrecho_inner.data.audio.check import scan_audio
from egrecho_inner.data.cuts.make import make_cuts
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import atomic_file, to_line
from egrecho_inner.runtime.ledger import Skip
from egrecho_inner.runtime.passes import Shard

STAGE = "import-reazonspeech"
TARS = {"tiny": 1, "small": 12, "medium": 116, "large": 579, "all": 4095}
"""Tar files of each size; the 4,096th has the test set."""
PLACE = re.compile(r"(?P<tar>[0-9a-f]{3,})/(?P<name>[\w-][\w.-]*)")
LARGEST = 100_000_000
"""Bytes of a clip; of 4 s on average, and 100 kB."""
Clips = dict[str, str]
"""Transcripts by the name of the clip in its tar."""


@dataclass(frozen=True)
class TarTask:
    """One tar, for a worker."""

    tar: Path
    clips: Clips
    folder: Path
    shard: Shard


def read_table(path: Path) -> dict[str, Clips]:
    """Read the transcripts of each tar, by its name without ending.

    Raises:
        DataError: With the file and line.
    """
    found: dict[str, Clips] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                name, tab, text = line.rstrip("\n").partition("\t")
                place = PLACE.fullmatch(name)
                if not tab or place is None:
                    raise DataError(f"{path}:{number}: expected 000/NAME.flac, a tab and the text, got {line[:60]!r}")
                clips = found.setdefault(place["tar"], {})
                if place["name"] in clips:
                    raise DataError(f"{path}:{number}: {name} occurs twice")
                clips[place["name"]] = " ".join(text.split())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} does not read ({error}); SIZE.tsv lies beside the tars, or in a folder tsv") from error
    return found


def find_tars(folder: Path, first: int, behind: int) -> list[Path]:
    """Return the tars of a range of numbers.

    Raises:
        DataError: One is missing, with how to download what is missing.
    """
    paths = [folder / f"{number:03x}.tar" for number in range(first, behind)]
    if missing := [path.name for path in paths if not path.is_file()]:
        shown = ", ".join(missing[:5])
        raise DataError(f"{folder}: {len(missing)} of {len(paths)} tars are missing ({shown}); download them again")
    return paths


def unpack(task: TarTask) -> int:
    """Write the clips of a tar and their cuts; return how many cuts."""
    skips: list[Skip] = []
    lines: list[str] = []
    seen: set[str] = set()
    for name, recording in read_clips(task, skips, seen):
        text = task.clips[name]
        if not text:
            skips.append(Skip(recording.id, STAGE, "empty transcript", seconds=recording.duration))
            continue
        segment = SupervisionSegment(recording.id, recording.id, 0.0, recording.duration, text=text, language="ja")
        lines += [to_line(cut.to_dict()) for cut in make_cuts([recording], [segment])]
    for name in sorted(task.clips.keys() - seen):
        skips.append(Skip(f"{task.tar.stem}-{Path(name).stem}", STAGE, "in the table and not in its tar", name))
    return task.shard.finish(lines, skips)


def read_clips(task: TarTask, skips: list[Skip], seen: set[str]) -> Iterator[tuple[str, Recording]]:
    """Yield the clips that a table has and that decode, written to files.

    Raises:
        DataError: The tar is cut off or damaged.
    """
    try:
        with tarfile.open(task.tar, "r|*") as tar:
            for member in tar:
                name = os.path.basename(member.name)
                id = f"{task.tar.stem}-{Path(name).stem}"
                if not member.isfile() or name in seen or name not in task.clips:
                    continue  # of another size's table, most often
                seen.add(name)
                if member.size > LARGEST:
                    skips.append(Skip(id, STAGE, "too large for a clip", member.size))
                    continue
                data = tar.extractfile(member)
                path = task.folder / task.tar.stem / name
                with atomic_file(path) as file:
                    file.write(data.read() if data else b"")
                scan = scan_audio(path)
                if scan.fault or scan.info is None or scan.bad_seconds:
                    skips.append(Skip(id, STAGE, f"audio {scan.fault or 'holds samples that are no sound'}", name))
                    path.unlink()
                    continue
                yield name, Recording.from_file(path.absolute(), recording_id=id)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{task.tar} is cut off or damaged ({error}); download it again") from error
