"""Recordings to transcribe: files, folders and standard input, each as a cut that covers it.

In: paths; `-` is standard input. Out: cuts. What libsndfile reads (WAV, FLAC, OGG, Opus, MP3) is read where it lies;
M4A, MP4, MOV, WebM, MKV and AAC are decoded to FLAC in a working folder first, by PyAV.
"""

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import soundfile
from lhotse import MonoCut, Recording
from lhotse.audio import AudioSource

from egrecho_inner.data.audio.files import SAMPLING_RATE, probe
from egrecho_inner.data.audio.load import Downmix
from egrecho_inner.data.sources.containers import SUFFIXES, container_of, to_flac
from egrecho_inner.errors import ConfigError, DataError

STDIN = "-"
KNOWN = {
    *SUFFIXES,
    ".mov",
    ".mkv",
    ".opus",
    ".oga",
    ".sph",
    *(f".{name.lower()}" for name in soundfile.available_formats()),
}
"""Endings of the files that are taken from a folder."""
LONGEST_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class AudioFile:
    """A file to transcribe."""

    path: Path
    name: Path
    """Of its results, without ending; a path below a folder that was named."""


def find_sources(paths: Iterable[str]) -> list[AudioFile]:
    """Return the recordings that words of a command line stand for.

    Raises:
        ConfigError: None, or standard input beside files.
        DataError: A path is not there, or a folder holds no audio.
    """
    words = list(paths)
    if not words:
        raise ConfigError("no recordings; name files or folders, or - for standard input")
    if STDIN in words and len(words) > 1:
        raise ConfigError("- is standard input, which cannot be one of several; name files, or - alone")
    found: dict[Path, AudioFile] = {}
    for word in words:
        path = Path(word)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in KNOWN and p.is_file())
            if not inside:
                raise DataError(f"{path}: no audio files in this folder; known are {', '.join(sorted(KNOWN))}")
            found |= {p.resolve(): AudioFile(p, p.relative_to(path)) for p in inside}
        elif path.exists() or word == STDIN:
            found[path.resolve()] = AudioFile(path, Path(path.name))
        else:
            raise DataError(f"{path}: no such file or folder")
    stems = [source.name.with_suffix("") for source in found.values()]
    # talk.wav and talk.mp3 become talk.wav.srt and talk.mp3.srt, a single one talk.srt
    return [
        AudioFile(source.path, stem if stems.count(stem) == 1 else source.name)
        for source, stem in zip(found.values(), stems, strict=True)
    ]


def save_stdin(folder: Path) -> Path:
    """Write standard input to a file.

    Raises:
        DataError: Nothing came.
    """
    path = folder / "stdin"
    with open(path, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if not path.stat().st_size:
        raise DataError("standard input is empty; expected an audio file")
    return path


def open_recording(source: AudioFile, number: int, folder: Path) -> MonoCut:
    """Return the cut that covers a recording, all channels mixed.

    Args:
        source: The file.
        number: Its place in the list, which makes its id.
        folder: For what must be decoded first.

    Raises:
        DataError: It is no audio.
    """
    path = source.path
    with open(path, "rb") as file:
        head = file.read(64)
    if container_of(head) is not None:
        flac = folder / f"{number}.flac"
        to_flac(path, flac, longest=LONGEST_SECONDS)
        path = flac
    info = probe(path)
    if not info.num_samples:
        raise DataError(f"{source.path}: holds 0 samples")
    name = str(number)
    audio = AudioSource("file", list(range(info.channels)), str(path.resolve()))
    recording = Recording(name, [audio], info.sampling_rate, info.num_samples, info.duration)
    if info.channels > 1:
        recording.transforms = [Downmix()]
    cut = MonoCut(name, 0.0, info.duration, 0, recording=recording)
    return cut if info.sampling_rate == SAMPLING_RATE else cut.resample(SAMPLING_RATE)
