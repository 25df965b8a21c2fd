"""Stored features: lilcom archives (`feats-0.lca`) that Lhotse reads, each utterance with its tail behind it.

In: log-mel features (T + tail, M) of `features.log_mel`. Out: a file of compressed chunks of 500 frames, and a storage
key of offsets ("0,25840,5691") per utterance. A manifest names T frames, and Lhotse reads T; `load_stored` gives the
tail too, with which an utterance can be padded to 30 s as if the wave had been.
A value is kept to the nearest multiple of 2^tick_power; docs/features.md has the table behind the default.
Left out: half floats, which take twice the room of lilcom at the same error.
"""

from pathlib import Path
from types import TracebackType

import lilcom
import numpy as np
from lhotse import Features, MonoCut
from lhotse.features.compression import lilcom_compress_chunked
from lhotse.features.io import CHUNKY_FORMAT_CHUNK_SIZE

from egrecho_inner.config_types import TICK_POWER
from egrecho_inner.data.audio.features import HOP, SAMPLING_RATE, TAIL_FRAMES, log_mel, num_frames
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import atomic_file

STORAGE_TYPE = "lilcom_chunky"
FEATURE_TYPE = "whisper-fbank"
LARGEST_DIFFERENCE = 0.05  # mean; a tick power of -4, which recognises worse already, gives 0.016


class FeatureArchive:
    """Writes one archive; as a context manager, the file appears when all of it is written.

    Args:
        path: The file.
        tick_power: Values are kept to multiples of 2^tick_power.
        named: What manifests call it; by default its path.
    """

    def __init__(self, path: str | Path, tick_power: int = TICK_POWER, named: str = "") -> None:
        self.path, self.tick_power, self.size = Path(path), tick_power, 0
        self.named = named or str(path)
        self._context = atomic_file(self.path)

    def __enter__(self) -> "FeatureArchive":
        self._file = self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._context.__exit__(kind, error, trace)

    def add(self, feats: np.ndarray) -> str:
        """Append one utterance (T, M) and give its storage key."""
        # a copy, because lilcom writes the rounded values back into its input
        chunks = lilcom_compress_chunked(
            feats.astype(np.float32), tick_power=self.tick_power, chunk_size=CHUNKY_FORMAT_CHUNK_SIZE
        )
        key = ",".join(map(str, [self.size, *map(len, chunks)]))
        for chunk in chunks:
            self._file.write(chunk)
            self.size += len(chunk)
        return key

    def describe(self, cut: MonoCut, num_features: int, storage_key: str) -> Features:
        """Make the manifest of a cut's features, tail not counted."""
        return Features(
            type=FEATURE_TYPE,
            num_frames=num_frames(cut.num_samples),
            num_features=num_features,
            frame_shift=HOP / SAMPLING_RATE,
            sampling_rate=SAMPLING_RATE,
            start=cut.start,
            duration=cut.duration,
            storage_type=STORAGE_TYPE,
            storage_path=self.named,
            storage_key=storage_key,
            channels=cut.channel,
        )


def load_stored(cut: MonoCut) -> np.ndarray:
    """Read a cut's stored features, (T + tail, M) float32.

    The tail has `TAIL_FRAMES` rows where the cut ends with what was stored; a cut that was shortened, or features that
    Lhotse itself wrote, have none.
    """
    stored, length = cut.features, num_frames(cut.num_samples)
    if stored.storage_type != STORAGE_TYPE:
        return np.asarray(cut.load_features(), dtype=np.float32)
    try:
        feats = _read(stored)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"cut {cut.id}: its features cannot be read from {stored.storage_path} ({error}); make them again "
            "(egrecho compute-features)"
        ) from error
    begin = num_frames(round((cut.start - stored.start) * SAMPLING_RATE))
    at_end = abs(cut.start + cut.duration - stored.start - stored.duration) < 0.5 / SAMPLING_RATE
    feats = feats[begin : begin + length + (TAIL_FRAMES if at_end else 0)]
    if len(feats) < length:
        raise DataError(
            f"cut {cut.id}: {stored.storage_path} holds {len(feats)} frames of it, its manifest says {length}; make "
            "the features again (egrecho compute-features)"
        )
    return feats


def check_stored(cut: MonoCut, n_mels: int) -> None:
    """Refuse a cut whose stored features do not fit the model.

    Raises:
        DataError: the features are of another extractor, or have another number of mel bins.
    """
    stored = cut.features
    if stored is None:
        return
    if stored.type != FEATURE_TYPE:
        raise DataError(
            f"cut {cut.id}: its features are of type {stored.type}, a Whisper model needs {FEATURE_TYPE}; make them "
            "again (prepare.sh --stage 3)"
        )
    if stored.num_features != n_mels:
        raise DataError(
            f"cut {cut.id}: its features in {stored.storage_path} have {stored.num_features} mel bins, the model needs "
            f"{n_mels}; make them again (prepare.sh --stage 3 --num_mel_bins {n_mels})"
        )


def check_values(cut: MonoCut, n_mels: int) -> None:
    """Compute a cut's features again and compare: they may be of another extractor, of other settings or a later file.

    Does nothing where the audio is not there any more.

    Raises:
        DataError: They differ by more than coarse storage would explain.
    """
    try:
        wave = load_audio(cut)
    except DataError:
        return
    stored = load_stored(cut)
    made = log_mel(wave, n_mels, tail=0)
    frames = min(len(made), len(stored))
    difference = float(np.abs(made[:frames] - stored[:frames]).mean()) if frames else 0.0
    if not difference <= LARGEST_DIFFERENCE:
        raise DataError(
            f"cut {cut.id}: its features in {cut.features.storage_path} are not those of its audio as this version "
            f"makes them (mean difference {difference:.3f}); make them again (prepare.sh --stage 3)"
        )


def bytes_per_hour(n_mels: int, tick_power: int = TICK_POWER) -> float:
    """Estimate the room that an hour of speech takes; measured 8.3 bits a value at tick power -8."""
    return 360_000 * n_mels * (0.3 - tick_power) / 8


def _read(stored: Features) -> np.ndarray:
    """Read all rows of one utterance, in one piece."""
    begin, *sizes = map(int, str(stored.storage_key).split(","))
    with open(stored.storage_path, "rb") as file:
        file.seek(begin)
        data = file.read(sum(sizes))
    ends = np.cumsum(sizes)
    if not len(ends) or len(data) < ends[-1]:
        raise ValueError(f"the file ends before byte {begin + sum(sizes)}")
    return np.concatenate([lilcom.decompress(data[end - size : end]) for end, size in zip(ends, sizes, strict=True)])
