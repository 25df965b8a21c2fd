"""Short pieces of cuts as small files in memory, for pages with players; and what was measured in them.

In: ids of a manifest, waves at 16 kHz. Out: cuts; MP3 of about 27 kbit/s, which every browser plays (Opus in Ogg was
twice that size at the same effort, FLAC five times); a `Sound` with a digest, the loudest sample, the share of clipped
ones.
"""

import hashlib
import io
import json
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import soundfile
from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from egrecho_inner.data.audio.check import FULL_SCALE
from egrecho_inner.data.audio.files import SAMPLING_RATE
from egrecho_inner.data.cuts.make import scan_manifest
from egrecho_inner.runtime.files import read_lines

MAX_SECONDS = 20.0


@dataclass(frozen=True)
class Clip:
    """The beginning of a cut, encoded."""

    mime: str
    data: bytes
    seconds: float
    cut_off: bool
    """Whether there is more of it."""


@dataclass(frozen=True)
class Sound:
    """What was measured in the samples of a cut."""

    digest: bytes
    """Equal for equal samples."""
    peak: float
    """Largest absolute sample."""
    clipped: float
    """Share of samples at full scale."""
    offset: float
    """Mean sample."""


def find_cuts(path: str, ids: Collection[str]) -> dict[str, Cut]:
    """Return the cuts of a manifest that have one of these ids."""
    scan_manifest(path)
    wanted = set(ids)
    parsed = map(json.loads, read_lines(path))
    return {cut["id"]: deserialize_item(cut) for cut in parsed if cut.get("id") in wanted}


def encode_clip(samples: np.ndarray, max_seconds: float = MAX_SECONDS) -> Clip:
    """Encode the first seconds of a wave (N,) at 16 kHz."""
    kept = np.clip(samples[: int(max_seconds * SAMPLING_RATE)], -1, 1)
    file = io.BytesIO()
    if "MP3" in soundfile.available_formats():
        soundfile.write(file, kept, SAMPLING_RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=0.8)
        mime = "audio/mpeg"
    else:  # a libsndfile of the system's before 1.1
        soundfile.write(file, kept, SAMPLING_RATE, format="FLAC")
        mime = "audio/flac"
    return Clip(mime, file.getvalue(), len(kept) / SAMPLING_RATE, len(kept) < len(samples))


def measure_sound(samples: np.ndarray) -> Sound:
    """Measure a wave (N,)."""
    loudness = np.abs(samples)
    digest = hashlib.blake2b(np.ascontiguousarray(samples).data, digest_size=16).digest()
    return Sound(digest, float(loudness.max()), float((loudness >= FULL_SCALE).mean()), float(samples.mean()))
