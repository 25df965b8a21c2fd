"""Audio in containers of the web (M4A, AAC, WebM, MKA, MP3, Opus, ...), decoded to FLAC by PyAV.

In: a file. Out: a FLAC file. The container is known by the file's first bytes and named to the decoder, and the decoder
gets an open file, not a name: playlists and formats that refer to other files or addresses are not followed. Samples
are written as they are decoded, so that memory does not grow with the recording. Needs `pip install 'egrecho[web]'`.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile

from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.runtime.files import atomic_file

SUFFIXES = (".m4a", ".mp4", ".aac", ".webm", ".mka")
LONGEST_SECONDS = 3600.0
RATES = range(4_000, 192_001)


def container_of(head: bytes) -> str | None:
    """Name the container that a file's first bytes belong to; None where it is not one of ours."""
    if head[4:8] == b"ftyp":
        return "mov"
    for magic, name in ((b"\x1a\x45\xdf\xa3", "matroska"), (b"OggS", "ogg"), (b"fLaC", "flac"), (b"ID3", "mp3")):
        if head.startswith(magic):
            return name
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return "wav"
    if head[:1] == b"\xff" and len(head) > 1:
        if head[1] & 0xF6 == 0xF0:  # no layer: ADTS
            return "aac"
        if head[1] & 0xE0 == 0xE0 and head[1] & 0x06:
            return "mp3"
    return None


def to_flac(path: Path, out: Path, rate: int | None = None, longest: float = LONGEST_SECONDS) -> None:
    """Decode the first audio stream of a file to 16-bit mono FLAC.

    Args:
        path: The file.
        out: The FLAC file.
        rate: Sampling rate to write, in Hz; None keeps the file's own.
        longest: Seconds that a recording may have.

    Raises:
        ConfigError: PyAV is not installed.
        DataError: The file is no such container, holds no audio, or is longer than allowed.
    """
    try:
        import av  # an optional package
    except ImportError as error:
        raise ConfigError(f"{path}: {path.suffix} needs PyAV: pip install 'egrecho[web]'") from error
    with open(path, "rb") as file:
        name = container_of(file.read(64))
        if name is None:
            raise DataError(f"{path}: is not {path.suffix} inside; export the recording again")
        file.seek(0)
        try:
            with av.open(file, mode="r", format=name) as container:
                if not container.streams.audio:
                    raise DataError(f"{path}: holds no audio")
                stream = container.streams.audio[0]
                own = int(stream.rate or 0)
                if own not in RATES:
                    raise DataError(f"{path}: its sampling rate is {own} Hz; expected 4 to 192 kHz")
                resampler = av.AudioResampler("s16", "mono", rate or own)
                decoded = chain(container.decode(stream), [None])  # None: what the resampler still holds
                frames = (piece for frame in decoded for piece in resampler.resample(frame))
                write_flac((each.to_ndarray().reshape(-1) for each in frames), path, out, rate or own, longest)
        except av.error.FFmpegError as error:
            raise DataError(f"{path}: does not decode ({error.strerror})") from error


def write_flac(pieces: Iterator[np.ndarray], path: Path, out: Path, rate: int, longest: float) -> None:
    """Write int16 samples as they come.

    Raises:
        DataError: There are none, or too many.
    """
    count = 0
    with atomic_file(out) as sink:
        with soundfile.SoundFile(sink, "w", rate, 1, subtype="PCM_16", format="FLAC") as flac:
            for piece in pieces:
                flac.write(piece)
                count += len(piece)
                if count > longest * rate:
                    raise DataError(f"{path}: is longer than {longest / 60:.0f} minutes")
        if not count:
            raise DataError(f"{path}: holds 0 samples")
