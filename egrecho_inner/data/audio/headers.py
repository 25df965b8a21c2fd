"""Lengths that the headers of audio files announce, for those containers whose files end early unnoticed.

In: a path. Out: how much is missing at its end; and a copy with its true length of a WAV whose writer died, or wrote to
a pipe, before it could fill in the length. Left out: FLAC and MP3, whose decoders notice; RF64 and W64.
"""

import math
import os
import re
import shutil
import struct
from pathlib import Path
from typing import BinaryIO

from egrecho_inner.data.audio.files import AudioInfo
from egrecho_inner.runtime.files import atomic_file

# What writers to a pipe (sox, arecord, GStreamer, ffmpeg) put where they cannot come back to fill in the length.
UNKNOWN_LENGTHS = {0, 0x7FFF0000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000}


def missing_audio(path: Path, info: AudioInfo) -> tuple[int, float]:
    """Compare the length that a file's header announces with the file; libsndfile silently takes what is there.

    Knows RIFF (WAV), FORM (AIFF), AU, NIST SPHERE and Ogg (whose last page must be marked as the last).

    Returns:
        Bytes and seconds that are missing; of Ogg, where nobody knows how much, infinitely many seconds.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(4096)
        if head[:4] == b"OggS":
            file.seek(max(0, size - 65536))
            missing = _missing_ogg(file.read())
            return missing, math.inf if missing else 0.0
        start, end = _announced(file, head, size)
    missing = max(0, end - size)
    return missing, missing * info.duration / max(1, size - start)


def _missing_ogg(tail: bytes) -> int:
    """Return how many bytes at least are missing at the end of an Ogg file: its last page is marked (RFC 3533)."""
    at = tail.rfind(b"OggS")
    page = tail[at:] if at >= 0 else b""
    if len(page) < 27 or not page[5] & 4:
        return 1
    segments = page[27 : 27 + page[26]]
    return max(0, 27 + page[26] + sum(segments) - len(page))


def _announced(file: BinaryIO, head: bytes, size: int) -> tuple[int, int]:
    """Return where the samples begin and should end; an end of 0 where the header does not give it."""
    if head[:4] in (b"RIFF", b"RIFX"):
        start, length = wav_data(file, size)
        return start, 0 if length >= 0xFFFFFF00 or length in UNKNOWN_LENGTHS else start + length
    if head[:4] == b"FORM" and len(head) >= 12:
        return 0, struct.unpack(">I", head[4:8])[0] + 8
    if head[:4] == b".snd" and len(head) >= 12:
        start, length = struct.unpack(">II", head[4:12])
        return start, 0 if length == 0xFFFFFFFF else start + length
    if head.startswith(b"NIST_1A"):
        return _nist_span(head)
    return 0, 0


def wav_data(file: BinaryIO, size: int) -> tuple[int, int]:
    """Return where the samples of a WAV begin and the length its header announces; zeros where it has none."""
    file.seek(0)
    order = "<" if file.read(4) == b"RIFF" else ">"
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack(order + "4sI", file.read(8))
        if name == b"data":
            return position + 8, length
        position += 8 + length + length % 2
    return 0, 0


def close_wav(path: Path, copy: Path) -> bool:
    """Copy a WAV whose writer left a length of 0, with its true length; False where this is not what is wrong.

    libsndfile reads other marks of an unknown length to the end of the file, but takes this one at its word.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        kind = file.read(4)
        start, length = wav_data(file, size) if kind in (b"RIFF", b"RIFX") else (0, 0)
        if not start or length or size <= start:
            return False
        file.seek(0)
        with atomic_file(copy) as out:
            shutil.copyfileobj(file, out)
            order = "<I" if kind == b"RIFF" else ">I"
            for position, value in ((4, size - 8), (start - 4, size - start)):
                out.seek(position)
                out.write(struct.pack(order, min(value, 0xFFFFFFFF)))
    return True


def _nist_span(head: bytes) -> tuple[int, int]:
    """Return where the samples of an uncompressed NIST SPHERE file begin and end; zeros if its header does not."""
    fields = dict(re.findall(rb"(sample_count|sample_n_bytes|channel_count) -i (\d+)", head))
    plain = b"sample_coding -s" not in head or re.search(rb"sample_coding -s\d+ (pcm|ulaw|alaw)\s", head)
    if len(fields) < 3 or not plain:
        return 0, 0
    start = int(head[8:16]) if head[8:16].strip().isdigit() else 1024
    samples = int(fields[b"sample_count"]) * int(fields[b"sample_n_bytes"]) * int(fields[b"channel_count"])
    return start, start + samples
