"""Waves of cuts: mono, 16 kHz, float32, exactly as long as the cut.

In: a Lhotse cut. Out: `(num_samples,)`. A plain cut (one file, no transform but resampling) is read straight with
soundfile, only its own segment; speed perturbation, mixes and padding go through Lhotse. Both give the same values.
`Downmix` lets a `MonoCut` stand for the mean of all channels of its file, so that stereo corpora need no second copy.
Left out: repairs of a length mismatch above 25 ms. Lhotse silently mirrors up to 0.5 s of audio; here it is an error.
"""

import os
from dataclasses import dataclass
from pathlib import Path

# Read by lhotse at every load, and inherited by worker processes. Its default of 0.5 s hides wrong sampling rates.
os.environ.setdefault("LHOTSE_AUDIO_DURATION_MISMATCH_TOLERANCE", "0.025")

import numpy as np
import soundfile
from lhotse import MonoCut
from lhotse.audio import AudioLoadingError, DurationMismatchError
from lhotse.augmentation import AudioTransform, Resample
from lhotse.cut import Cut, MixedCut
from lhotse.utils import compute_num_samples

from egrecho_inner.data.audio.files import SAMPLING_RATE, AudioInfo, explain_unreadable, probe
from egrecho_inner.errors import DataError

__all__ = ["SAMPLING_RATE", "AudioInfo", "Downmix", "load_audio", "probe"]

LENGTH_TOLERANCE = 0.025  # seconds; decoders of lossy formats and resamplers differ by a few samples, never by more


@dataclass
class Downmix(AudioTransform):
    """Replace all channels of the file by their mean; Lhotse finds it by name in a recording's `transforms`."""

    def __call__(self, samples: np.ndarray, sampling_rate: int) -> np.ndarray:
        return samples.mean(axis=0, keepdims=True, dtype=np.float32)  # (C, N) -> (1, N)

    def reverse_timestamps(
        self, offset: float, duration: float | None, sampling_rate: int
    ) -> tuple[float, float | None]:
        return offset, duration


def load_audio(cut: Cut) -> np.ndarray:
    """Load a cut's wave: mono, 16 kHz, float32, shape (num_samples,).

    Raises:
        DataError: the file is missing, unreadable, shorter than the cut (by more than 25 ms), at another
            sampling rate than in its manifest, or holds NaN or infinite samples.
    """
    if cut.sampling_rate != SAMPLING_RATE:
        cut = cut.resample(SAMPLING_RATE)
    if isinstance(cut, MixedCut) and _is_sequence(cut):
        return _read_in_turn(cut)
    samples = _read_plain(cut) if _is_plain(cut) else _read_with_lhotse(cut)
    samples = _fit_length(samples, cut)
    if not np.isfinite(samples).all():
        raise DataError(f"cut {cut.id}: {_source(cut)} holds NaN or infinite samples; remove or re-encode the file")
    return samples


def _is_plain(cut: Cut) -> bool:
    """Tell whether this cut is a piece of one file with nothing done to it but resampling and downmixing."""
    if not isinstance(cut, MonoCut) or not cut.has_recording:
        return False
    sources = cut.recording.sources
    if len(sources) != 1 or sources[0].type != "file" or ".tar/" in str(sources[0].source):
        return False
    names = [_transform(transform)[0] for transform in cut.recording.transforms or ()]
    return names in ([], ["Resample"], ["Downmix"], ["Downmix", "Resample"])


def _is_sequence(cut: MixedCut) -> bool:
    """Tell whether a mix is nothing but cuts one after the other, with silence between."""
    ends = [0.0, *(track.offset + track.cut.duration for track in cut.tracks)]
    return not cut.transforms and all(
        isinstance(track.cut, MonoCut) and track.snr is None and track.offset >= end - 1 / SAMPLING_RATE
        for track, end in zip(cut.tracks, ends, strict=False)
    )


def _read_in_turn(cut: MixedCut) -> np.ndarray:
    """Lay the waves of a sequence one behind the other; Lhotse's mixer pads each to the length of all and adds them."""
    samples = np.zeros(cut.num_samples, dtype=np.float32)
    for track in cut.tracks:
        begin = compute_num_samples(track.offset, SAMPLING_RATE)
        wave = load_audio(track.cut)[: len(samples) - begin]
        samples[begin : begin + len(wave)] += wave
    return samples


def _read_plain(cut: MonoCut) -> np.ndarray:
    """Read the cut's segment with soundfile, then do what Lhotse would do, in its order."""
    recording, path = cut.recording, str(cut.recording.sources[0].source)
    transforms = dict(_transform(transform) for transform in recording.transforms or ())
    declared_rate = transforms.get("Resample", {}).get("source_sampling_rate", recording.sampling_rate)
    start = compute_num_samples(cut.start, declared_rate)
    length = compute_num_samples(cut.duration, declared_rate)
    if abs(cut.duration - recording.duration) <= 1e-3:
        length = -1  # the whole file, as Lhotse reads it: the resampler then sees the last sample too
    try:
        with soundfile.SoundFile(path) as file:
            if file.samplerate != declared_rate:
                raise DataError(
                    f"cut {cut.id}: {path} is {file.samplerate} Hz, its manifest says {declared_rate} Hz; "
                    "make the manifests again (egrecho import-kaldi)"
                )
            file.seek(min(start, file.frames))
            samples = file.read(frames=length, dtype="float32", always_2d=True).T  # (C, N)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(cut, error) from error
    if "Downmix" in transforms:
        samples = samples.mean(axis=0, keepdims=True, dtype=np.float32)
    else:
        channels = list(recording.sources[0].channels)
        row = channels.index(cut.channel) if cut.channel in channels else len(samples)
        if row >= len(samples):
            raise DataError(
                f"cut {cut.id}: {path} has {len(samples)} channel(s), but the cut wants channel {cut.channel}"
            )
        samples = samples[row : row + 1]
    if "Resample" in transforms and samples.size:
        samples = Resample(**transforms["Resample"])(samples)
    return samples[0]


def _read_with_lhotse(cut: Cut) -> np.ndarray:
    try:
        samples = cut.load_audio()
    except (AudioLoadingError, DurationMismatchError, soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(cut, error) from error
    if samples is None:
        raise DataError(f"cut {cut.id} has no recording to load audio from; make the cuts again from recordings")
    samples = np.atleast_2d(samples).astype(np.float32, copy=False)  # (C, N)
    return samples[0] if len(samples) == 1 else samples.mean(axis=0, dtype=np.float32)


def _fit_length(samples: np.ndarray, cut: Cut) -> np.ndarray:
    """Trim or mirror a few samples so that the wave is as long as the cut; refuse more than the tolerance."""
    missing = cut.num_samples - len(samples)
    if abs(missing) > LENGTH_TOLERANCE * SAMPLING_RATE or len(samples) == 0:
        raise DataError(
            f"cut {cut.id}: {_source(cut)} holds {len(samples) / SAMPLING_RATE:.3f} s where the cut says "
            f"{cut.duration:.3f} s; the file was cut or changed: make the manifests again (egrecho import-kaldi)"
        )
    return np.pad(samples, (0, missing), mode="reflect") if missing > 0 else samples[: cut.num_samples]


def _transform(transform: AudioTransform | dict) -> tuple[str, dict]:
    """Return the name and the arguments of a transform, which Lhotse keeps as an object or as a dict."""
    as_dict = transform if isinstance(transform, dict) else transform.to_dict()
    return as_dict["name"], as_dict["kwargs"]


def _source(cut: Cut) -> str:
    """Name the audio of a cut for an error message."""
    recording = getattr(cut, "recording", None) if isinstance(cut, MonoCut) else None
    return str(recording.sources[0].source) if recording and recording.sources else "its audio"


def _unreadable(cut: Cut, error: Exception) -> DataError:
    recording = getattr(cut, "recording", None) if isinstance(cut, MonoCut) else None
    if recording and len(recording.sources) == 1 and recording.sources[0].type == "file":
        path = Path(recording.sources[0].source)
        return DataError(f"cut {cut.id}: {path} {explain_unreadable(path, str(error))}")
    return DataError(f"cut {cut.id}: its audio cannot be loaded ({str(error).splitlines()[0]})")
