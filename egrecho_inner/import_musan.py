#!/usr/bin/env python
"""A folder of noises in, their manifests and ten-second noise cuts out.

    egrecho import-musan /corpora/musan data/cuts/musan_cuts.jsonl

In: `DIR/{music,noise,speech}/**` as MUSAN (openslr.org/17) is laid out, or a folder of one's own with some of these
parts, in any format libsndfile reads, at any rate. Out: `musan_recordings_{part}.jsonl.gz`, and
`musan_supervisions_music.jsonl.gz` of the ANNOTATIONS files (with none, an empty manifest), both as
`lhotse prepare musan` writes them; and cuts that know their part (`custom: {"part": "noise"}`).
Left out: ANNOTATIONS of noise and speech, which mixing does not need; downloading.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval
from egrecho_inner.data.audio.check import scan_audio
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import to_line, write_jsonl
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.runtime.progress import watched

if TYPE_CHECKING:
    from lhotse import MonoCut, Recording, SupervisionSegment

PARTS = ("music", "noise", "speech")
ENDINGS = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".sph"}
WINDOW, SHORTEST = 10.0, 5.0  # seconds; icefall's choice: long enough to cover an utterance, short enough to vary


def import_musan(
    musan_dir: str,
    out: str,
    manifests: str = "data/manifests",
    max_skip_ratio: ClosedUnitInterval = 0.01,
    ledger: str = "",
) -> None:
    """Write the manifests and the cuts of a MUSAN folder.

    Args:
        musan_dir: Folder with at least one of `music`, `noise` and `speech`.
        out: Manifest of noise cuts to write, `.jsonl` or `.jsonl.gz`.
        manifests: Folder for the manifests of recordings.
        max_skip_ratio: Largest share of files that may be no audio.
        ledger: File that names what was left out and why; by default `skipped.jsonl` in `manifests`.
    """
    root = Path(musan_dir)
    if (root / "musan").is_dir() and not any((root / part).is_dir() for part in PARTS):
        root = root / "musan"  # what unpacking musan.tar.gz leaves in a folder
    parts = [part for part in PARTS if (root / part).is_dir()]
    if not parts:
        raise DataError(f"{root}: no folder {', '.join(PARTS)} in it; give the folder that holds them (--musan_dir)")
    skipped = Ledger(ledger or Path(manifests) / "skipped.jsonl")
    found = {part: list(_scan(root / part, skipped)) for part in parts}
    total = sum(map(len, found.values())) + len(skipped.skips)
    if skipped.skips or skipped.path.exists():
        skipped.write("import musan")
    skipped.check_limit(total, max_skip_ratio, str(root))
    _check(root, [recording for recordings in found.values() for recording in recordings])
    for part, recordings in found.items():
        write_jsonl(Path(manifests) / f"musan_recordings_{part}.jsonl.gz", (to_line(r.to_dict()) for r in recordings))
    if "music" in found:
        music = (to_line(segment.to_dict()) for segment in _music_supervisions(root / "music", found["music"]))
        write_jsonl(Path(manifests) / "musan_supervisions_music.jsonl.gz", music)
    cuts = (cut for part, recordings in found.items() for recording in recordings for cut in _windows(recording, part))
    count = write_jsonl(out, (to_line(cut.to_dict()) for cut in cuts))
    print(f"{out}: {skipped.summary(total, 'files')}; {count} cuts of {', '.join(parts)}")


def _scan(folder: Path, skipped: Ledger) -> Iterator[Recording]:
    """Describe all audio files under a folder, sorted by path; every sample is read once."""
    from lhotse import Recording
    from lhotse.audio import AudioSource

    for path in watched(sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS), what=folder.name):
        scan = scan_audio(path)
        fault = scan.fault or (
            scan.bad_seconds and "holds samples that are no sound"
        )  # one spoils all it is mixed with
        if fault:
            skipped.add(path.stem, "import musan", f"audio {fault}", f"{path} {scan.detail}".strip())
            continue
        info = scan.info
        yield Recording(
            id=path.stem,
            sources=[AudioSource("file", list(range(info.channels)), str(path.resolve()))],
            sampling_rate=info.sampling_rate,
            num_samples=info.num_samples,
            duration=info.duration,
            channel_ids=list(range(info.channels)),
        )


def _check(root: Path, recordings: list[Recording]) -> None:
    """Refuse what cannot be mixed: only short noises, or two files of one name, since names become ids."""
    if not any(recording.duration > SHORTEST for recording in recordings):
        raise DataError(f"{root}: no recording is longer than {SHORTEST:g} s; give longer noises")
    seen: dict[str, str] = {}
    for recording in recordings:
        source = recording.sources[0].source
        if recording.id in seen:
            raise DataError(f"{seen[recording.id]} and {source} have the same name; rename one of them")
        seen[recording.id] = source


def _music_supervisions(folder: Path, recordings: list[Recording]) -> Iterator[SupervisionSegment]:
    """Read genres, vocals and musician of each piece; lines about other files, or torn ones, are passed over."""
    from lhotse import SupervisionSegment

    durations = {recording.id: recording.duration for recording in recordings}
    for path in sorted(folder.rglob("ANNOTATIONS")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split()
            if len(fields) >= 4 and fields[0] in durations:
                piece, genres, vocals, musician = fields[:4]
                custom = {"genres": genres.split(","), "vocals": vocals == "Y"}
                yield SupervisionSegment(piece, piece, 0, durations[piece], speaker=musician, custom=custom)


def _windows(recording: Recording, part: str) -> Iterator[MonoCut]:
    """Cut a recording into windows at 16 kHz; of several channels the first is taken."""
    from lhotse import MonoCut

    from egrecho_inner.data.audio.load import SAMPLING_RATE

    recording = recording.resample(SAMPLING_RATE)
    length, end = int(WINDOW * SAMPLING_RATE), recording.num_samples
    for index, begin in enumerate(range(0, end, length)):
        samples = min(length, end - begin)
        if samples > SHORTEST * SAMPLING_RATE:
            yield MonoCut(
                id=f"{recording.id}-{index}",
                start=begin / SAMPLING_RATE if begin else 0,
                duration=samples / SAMPLING_RATE,
                channel=recording.channel_ids[0],
                recording=recording,
                custom={"part": part},
            )


import_musan.positional = ["musan_dir", "out"]

if __name__ == "__main__":
    run(import_musan)
