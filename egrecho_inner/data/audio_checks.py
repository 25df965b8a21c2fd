"""One look at one audio file: is it there, whole, audible, and how long is it in truth.

In: a path. Out: an `AudioScan`, with a `fault` where the file cannot be used. Every sample is decoded once, so that
length, truncation, NaN and silence are known and not believed; `decode=False` reads headers only. Picklable on both
sides and free of lhotse and torch, for worker processes. Left out: repair, and any judgment about utterances
(`manifests.py`). One core decodes about 2,300 hours of 16 kHz FLAC in an hour.
"""

import hashlib
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from egrecho_inner.data.audio_files import AudioInfo, explain_unreadable, probe
from egrecho_inner.errors import DataError

BLOCK_SECONDS = 30  # decoded at a time: memory stays flat for day-long recordings
FULL_SCALE = 0.9995  # at and above this a sample counts as clipped (16-bit: the last 16 steps)
TRUNCATED_SECONDS = 0.025  # decoders of lossy formats may end a few frames early


@dataclass(frozen=True)
class AudioScan:
    """What was found in one file."""

    path: str
    info: AudioInfo | None = None
    """None if the file cannot be used; `num_samples` is what was decoded, not what the header says."""
    fault: str = ""
    """Why it cannot be used, short and without the file's own numbers."""
    detail: str = ""
    bad_seconds: tuple[int, ...] = ()
    """Seconds from the start in which a sample is NaN or infinite."""
    peak: float = 1.0
    """Largest absolute sample."""
    offset: float = 0.0
    """Mean sample (a DC offset if far from 0)."""
    clipped: float = 0.0
    """Share of samples at full scale."""
    digest: str = ""
    """Of the samples: equal for equal audio, whatever the file's name and lossless format."""


def scan_audio(path: str | Path, decode: bool = True) -> AudioScan:
    """Look at one audio file; faults are returned, not raised."""
    path = Path(path)
    try:
        info = probe(path)
    except DataError:
        fault = explain_unreadable(path)
        return AudioScan(str(path), fault=fault)
    if info.num_samples == 0:
        return AudioScan(str(path), fault="holds 0 samples")
    missing = missing_bytes(path)
    if missing:
        return AudioScan(str(path), fault="is truncated", detail=f"{missing:,} bytes are missing at its end")
    return _decoded(path, info) if decode else AudioScan(str(path), info)


def _decoded(path: Path, info: AudioInfo) -> AudioScan:
    """Decode a file block by block and gather what its samples tell."""
    digest, bad = hashlib.blake2b(digest_size=16), set()
    length, peak, total, clipped = 0, 0.0, 0.0, 0
    try:
        with soundfile.SoundFile(path) as file:
            # not SoundFile.blocks(): it hides short reads behind what the buffer held before
            while len(block := file.read(BLOCK_SECONDS * info.sampling_rate, dtype="float32", always_2d=True)):
                digest.update(block.data)
                finite = np.isfinite(block)
                if not finite.all():
                    rows = length + np.flatnonzero(~finite.all(axis=1))
                    bad.update((rows // info.sampling_rate).tolist())
                    block = np.where(finite, block, 0)
                loudness = np.abs(block)
                peak, total = max(peak, float(loudness.max())), total + float(block.sum(dtype=np.float64))
                clipped += int((loudness >= FULL_SCALE).sum())
                length += len(block)
    except (soundfile.LibsndfileError, OSError) as error:
        said = str(error).strip(" .") or "decoding failed"
        detail = f"decoding stops after {length / info.sampling_rate:.2f} of {info.duration:.2f} s ({said})"
        return AudioScan(str(path), fault="is truncated or corrupt", detail=detail)
    if length < info.num_samples - TRUNCATED_SECONDS * info.sampling_rate:
        detail = f"the header says {info.duration:.2f} s, {length / info.sampling_rate:.2f} s are there"
        return AudioScan(str(path), fault="is truncated", detail=detail)
    count = length * info.channels
    measured = AudioInfo(info.sampling_rate, length, info.channels, info.format, info.subtype)
    return AudioScan(
        str(path),
        measured,
        bad_seconds=tuple(sorted(bad)),
        peak=peak,
        offset=total / count,
        clipped=clipped / count,
        digest=digest.hexdigest(),
    )


def missing_bytes(path: Path) -> int:
    """Compare the length that a file's header announces with the file; libsndfile silently takes what is there.

    Knows RIFF (WAV), FORM (AIFF), AU, NIST SPHERE and Ogg (whose last page must say that it is the last).
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(4096)
        if head[:4] in (b"RIFF", b"RIFX"):
            return max(0, _riff_end(file, head[:4], size) - size)
        if head[:4] == b"FORM":
            return max(0, struct.unpack(">I", head[4:8])[0] + 8 - size)
        if head[:4] == b".snd":
            start, length = struct.unpack(">II", head[4:12])
            return 0 if length == 0xFFFFFFFF else max(0, start + length - size)
        if head.startswith(b"NIST_1A"):
            return max(0, _nist_end(head) - size)
        if head[:4] == b"OggS":
            file.seek(max(0, size - 65536))
            tail = file.read()
            last = tail.rfind(b"OggS")
            return 0 if 0 <= last < len(tail) - 5 and tail[last + 5] & 4 else 1
    return 0


def _riff_end(file: BinaryIO, kind: bytes, size: int) -> int:
    """Return where the data chunk of a WAV should end; 0 if its length is unknown, as in a stream."""
    order = "<" if kind == b"RIFF" else ">"
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack(order + "4sI", file.read(8))
        if name == b"data":
            return 0 if length >= 0xFFFFFF00 or length == 0 else position + 8 + length
        position += 8 + length + length % 2
    return 0


def _nist_end(head: bytes) -> int:
    """Return where the samples of an uncompressed NIST SPHERE file should end; 0 if its header does not say."""
    fields = dict(re.findall(rb"(sample_count|sample_n_bytes|channel_count) -i (\d+)", head))
    plain = b"sample_coding -s" not in head or re.search(rb"sample_coding -s\d+ (pcm|ulaw|alaw)\s", head)
    if len(fields) < 3 or not plain:
        return 0
    start = int(head[8:16]) if head[8:16].strip().isdigit() else 1024
    samples = int(fields[b"sample_count"]) * int(fields[b"sample_n_bytes"]) * int(fields[b"channel_count"])
    return start + samples
