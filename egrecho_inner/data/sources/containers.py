"""Audio in containers that libsndfile does not read (M4A, AAC, WebM, MKA), decoded to FLAC by PyAV.

In: a file. Out: a FLAC file. The container is told by the file's first bytes and named to the decoder, and the decoder
gets an open file, not a name: playlists and formats that refer to other files or addresses are not followed.
Needs `pip install 'egrecho[web]'`.
"""

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
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xF6 == 0xF0:
        return "aac"
    return None


def to_flac(path: Path, out: Path) -> None:
    """Decode the first audio stream of a file to 16-bit mono FLAC at its own sampling rate.

    Raises:
        ConfigError: PyAV is not installed.
        DataError: The file is no such container, holds no audio, or is longer than an hour.
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
                rate = int(stream.rate or 0)
                if rate not in RATES:
                    raise DataError(f"{path}: its sampling rate is {rate} Hz; expected 4 to 192 kHz")
                resampler = av.AudioResampler("s16", "mono", rate)
                samples, count = [], 0
                for frame in container.decode(stream):
                    for piece in resampler.resample(frame):
                        samples.append(piece.to_ndarray().reshape(-1))
                        count += len(samples[-1])
                    if count > LONGEST_SECONDS * rate:
                        raise DataError(f"{path}: is longer than {LONGEST_SECONDS / 60:.0f} minutes")
        except av.error.FFmpegError as error:
            raise DataError(f"{path}: does not decode ({error.strerror})") from error
    if not count:
        raise DataError(f"{path}: holds 0 samples")
    with atomic_file(out) as sink:
        soundfile.write(sink, np.concatenate(samples), rate, format="FLAC", subtype="PCM_16")
