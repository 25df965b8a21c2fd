"""Audio files as they lie on disk: what the header holds, with errors that name the file.

In: a path. Out: an `AudioInfo`. libsndfile (through soundfile) reads WAV, FLAC, OGG, Opus, MP3, AIFF, AU, CAF, NIST
SPHERE and their kin; what it cannot read is an error here, and `import-kaldi` turns it into a counted skip.
Kept apart from `audio.py` so that scanning a corpus imports neither lhotse nor torch (2 s in every worker process).
"""

import stat
from dataclasses import dataclass
from pathlib import Path

import soundfile

from egrecho_inner.errors import DataError

SAMPLING_RATE = 16000  # Hz, of every wave and feature inside; Whisper knows no other


@dataclass(frozen=True)
class AudioInfo:
    """The header of one audio file."""

    sampling_rate: int
    """In Hz, as the header gives it."""
    num_samples: int
    """Per channel."""
    channels: int
    format: str
    """libsndfile's name of the container: WAV, FLAC, OGG, MP3, NIST, ..."""
    subtype: str
    """libsndfile's name of the encoding: PCM_16, FLOAT, VORBIS, ..."""

    @property
    def duration(self) -> float:
        """Return the exact duration in seconds."""
        return self.num_samples / self.sampling_rate


def probe(path: str | Path) -> AudioInfo:
    """Read the header of an audio file.

    Raises:
        DataError: the file is missing, empty, no regular file, or nothing that libsndfile can read.
    """
    path = Path(path)
    if kind := special_file(path):
        raise DataError(f"{path}: {kind}")
    try:
        with soundfile.SoundFile(path) as file:
            return AudioInfo(file.samplerate, max(file.frames, 0), file.channels, file.format, file.subtype)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path}: {explain_unreadable(path, str(error))}") from error


def special_file(path: Path) -> str:
    """Name what is there instead of a file, or return nothing; opening a FIFO or a device may wait for ever."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    if stat.S_ISREG(mode):
        return ""
    names = {stat.S_IFDIR: "folder", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
    return f"is a {names.get(stat.S_IFMT(mode), 'device')}, not an audio file"


def explain_unreadable(path: Path, reason: str = "") -> str:
    """Return in a few words why this file is no audio."""
    if not path.exists():
        return "no such file"
    if kind := special_file(path):
        return kind
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    if not head:
        return "is empty (0 bytes)"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return "looks like HTML (a failed download?)"
    if head[4:8] == b"ftyp" or head.startswith((b"\x1a\x45\xdf\xa3", b"\x30\x26\xb2\x75")):
        return f"{path.suffix or 'its'} is no format of libsndfile; transcode to FLAC first (ffmpeg -i IN OUT.flac)"
    return f"is not audio that libsndfile can read ({reason.rsplit(':', 1)[-1].strip(' .') or 'unknown format'})"
