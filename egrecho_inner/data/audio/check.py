"""One look at one audio file: is it there, whole, audible, and how long is it in truth.

In: a path. Out: an `AudioScan`, with a `fault` where the file cannot be used. Every sample is decoded once, so that
length, truncation, NaN and silence are known and not believed; `decode=False` reads headers only. Picklable on both
sides and free of lhotse and torch, for worker processes. Left out: repair, and any verdict on utterances
(`manifests.py`). One core decodes about 2,300 hours of 16 kHz FLAC in an hour.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from egrecho_inner.data.audio.files import AudioInfo, explain_unreadable, probe
from egrecho_inner.data.audio.headers import missing_audio
from egrecho_inner.errors import DataError

BLOCK_SECONDS = 30  # decoded at a time: memory stays flat for day-long recordings
FULL_SCALE = 0.9995  # at and above this a sample counts as clipped (16-bit: the last 16 steps)
LOUDEST = 100.0  # times full scale; beyond, floats hold integers or garbage, and squares of 1e20 are infinite
NO_SAMPLES = "holds 0 samples"
EARLY_SECONDS = 0.025  # decoders of lossy formats may end a few frames early
SHORT_SECONDS = 0.1  # one lost buffer of a recorder is no lost word; Kaldi reads such files, too


@dataclass(frozen=True)
class AudioScan:
    """What was found in one file."""

    path: str
    info: AudioInfo | None = None
    """None if the file cannot be used; `num_samples` is what was decoded, not the header's figure."""
    fault: str = ""
    """Why it cannot be used, short and without the file's own numbers."""
    detail: str = ""
    short: float = 0.0
    """Seconds that the header announces and the file lacks; more than 0.1 s is a fault."""
    bad_seconds: tuple[int, ...] = ()
    """Seconds from the start in which a sample is NaN, infinite or far beyond full scale."""
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
        return AudioScan(str(path), fault=NO_SAMPLES)
    missing, short = missing_audio(path, info)
    if short > SHORT_SECONDS:
        return AudioScan(str(path), fault="is truncated", detail=f"{missing:,} bytes are missing at its end")
    return _decoded(path, info, short) if decode else AudioScan(str(path), info, short=short)


def _decoded(path: Path, info: AudioInfo, short: float) -> AudioScan:
    """Decode a file block by block and measure its samples."""
    digest, bad = hashlib.blake2b(digest_size=16), set()
    length, peak, total, clipped = 0, 0.0, 0.0, 0
    try:
        with soundfile.SoundFile(path) as file:
            # not SoundFile.blocks(): it hides short reads behind what the buffer held before
            while len(block := file.read(BLOCK_SECONDS * info.sampling_rate, dtype="float32", always_2d=True)):
                digest.update(block.data)
                loudness = np.abs(block)
                loudest = float(loudness.max())
                if not loudest <= LOUDEST:  # also of NaN
                    usable = loudness <= LOUDEST
                    rows = length + np.flatnonzero(~usable.all(axis=1))
                    bad.update((rows // info.sampling_rate).tolist())
                    loudest = float(loudness.max(initial=0, where=np.isfinite(loudness)))
                    block, loudness = np.where(usable, block, 0), np.where(usable, loudness, 0)
                peak = max(peak, loudest)
                total += float(block.sum(dtype=np.float64))
                clipped += int((loudness >= FULL_SCALE).sum())
                length += len(block)
    except (soundfile.LibsndfileError, OSError) as error:
        reason = str(error).strip(" .") or "decoding failed"
        detail = f"decoding stops after {length / info.sampling_rate:.2f} of {info.duration:.2f} s ({reason})"
        return AudioScan(str(path), fault="is truncated or corrupt", detail=detail)
    early = info.duration - length / info.sampling_rate
    if early > SHORT_SECONDS:
        detail = f"the header says {info.duration:.2f} s, {length / info.sampling_rate:.2f} s are there"
        return AudioScan(str(path), fault="is truncated", detail=detail)
    count = length * info.channels
    measured = AudioInfo(info.sampling_rate, length, info.channels, info.format, info.subtype)
    return AudioScan(
        str(path),
        measured,
        short=max(short, early if early > EARLY_SECONDS else 0.0),
        bad_seconds=tuple(sorted(bad)),
        peak=peak,
        offset=total / count,
        clipped=clipped / count,
        digest=digest.hexdigest(),
    )
