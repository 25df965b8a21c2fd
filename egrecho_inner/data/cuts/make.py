"""Cuts from manifests: one `MonoCut` per supervision, trimmed to it, at 16 kHz, perturbed copies beside it.

In: recordings and supervisions as `import-kaldi` writes them (plain JSONL, both sorted by recording id). Out: a lazy
`CutSet` that can be walked again and again; one recording is in memory at a time, whatever the size of the corpus.
`scan_manifest` comes before anything that Lhotse opens: Lhotse runs `command` sources and unpickles `memory_raw`
features from a manifest, so only plain files are let in.
Left out: random cut ids and several supervisions per cut; Whisper is trained on one transcript per cut.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.utils import compute_num_samples

from egrecho_inner.data.audio.load import SAMPLING_RATE  # importing it also registers `Downmix` with Lhotse
from egrecho_inner.errors import DataError
from egrecho_inner.text.constants import WINDOW_SECONDS

SPEEDS = (0.9, 1.1)  # Ko et al. 2015, "Audio augmentation for speech recognition"; together with 1.0 three-fold data

# What a manifest may point at. Everything else makes Lhotse start a shell, open a socket or unpickle.
AUDIO_TYPES = {"file", "memory"}
STORAGE_TYPES = {
    *("lilcom_chunky", "lilcom_files", "lilcom_hdf5", "chunked_lilcom_hdf5"),
    *("numpy_files", "numpy_hdf5", "memory_lilcom", "memory_npy"),
}
SUSPICIOUS = (b"\\", b"://", b'"pipe:', b'command"', b'url"', b'raw"', b'shar"', b"kaldiio", b"pickle", b"pillow")
"""A line without any of these has no other kinds of sources; a backslash could spell them otherwise."""
MEDIA = {
    **{b"RIFF": "audio (WAV)", b"fLaC": "audio (FLAC)", b"OggS": "audio (Ogg)", b"NIST": "audio (SPHERE)"},
    **{b"ID3": "audio (MP3)", b"\xff\xfb": "audio (MP3)", b"\xff\xf3": "audio (MP3)", b"PK": "a zip archive"},
}
"""What is given by mistake where a manifest is wanted, by the first bytes."""


def make_cuts(
    recordings: Iterable[Recording],
    supervisions: Iterable[SupervisionSegment],
    speeds: Sequence[float] = (),
    longest_copy: float = WINDOW_SECONDS,
) -> CutSet:
    """Join recordings and supervisions into cuts at 16 kHz.

    The cut of a recording's n-th supervision is called `{recording_id}-{n}`, counted from 0; it spans exactly its
    supervision. A perturbed copy follows its original and ends in `_sp{speed}`, as do its recording and supervision.
    An utterance of 28 s has none at 0.9 times the speed, for that would be longer than Whisper's window.

    Args:
        recordings: sorted by id; may be lazy, must be iterable more than once.
        supervisions: in the order of the recordings; recordings without one are passed over.
        speeds: factors of perturbed copies besides the original, for train only; `SPEEDS` is the usual choice.
        longest_copy: copies longer than this are not made, in seconds.

    Returns:
        A lazy set, which reads the manifests anew at every iteration; `to_file` or `to_eager` makes it real.
    """
    return CutSet(_Join(recordings, supervisions, tuple(speeds), longest_copy))


def read_cuts(
    recordings: str | Path,
    supervisions: str | Path,
    speeds: Sequence[float] = (),
    longest_copy: float = WINDOW_SECONDS,
) -> CutSet:
    """Make cuts from two manifest files, after a look at what they point at."""
    scan_manifest(recordings)
    scan_manifest(supervisions)
    lazy = RecordingSet.from_jsonl_lazy(recordings), SupervisionSet.from_jsonl_lazy(supervisions)
    return make_cuts(*lazy, speeds, longest_copy)


def scan_manifest(path: str | Path) -> int:
    """Refuse a manifest (recordings, supervisions or cuts) that is torn or points at anything but plain files.

    Returns:
        The number of lines.

    Raises:
        DataError: the file is missing, a line is not JSON, or it holds a command, URL, pipe or pickled source.
    """
    path, number = Path(path), 0
    refuse_media(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, 1):
                ended = line.rstrip()
                if not (ended.startswith(b"{") and ended.endswith(b"}")):
                    raise DataError(f"{path}:{number}: torn or not a JSON line; make the manifest again")
                check_line(line, f"{path}:{number}")
    except (OSError, EOFError, zlib.error) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"unreadable after line {number} ({error})"
        raise DataError(f"{path}: {reason}; make the manifest again") from error
    except ValueError as error:
        raise DataError(f"{path}:{number}: torn or not a JSON line; make the manifest again") from error
    return number


def refuse_media(path: Path) -> None:
    """Refuse a recording, or a packed file without `.gz` in its name, where a manifest is expected.

    Raises:
        DataError: It is one; the message names the programs that make a manifest. A missing file passes.
    """
    with suppress(FileNotFoundError), open(path, "rb") as file:
        start = file.read(4)
        if start.startswith(b"\x1f\x8b") and path.suffix != ".gz":
            raise DataError(f"{path} is packed; expected a name that ends in .gz, rename it")
        for magic, kind in MEDIA.items():
            if start.startswith(magic):
                raise DataError(
                    f"{path} is {kind}; expected a manifest of cuts (.jsonl, .jsonl.gz): prepare.sh makes one of Kaldi "
                    "data, egrecho import-folder of a folder of recordings"
                )


def check_line(line: bytes, where: str, in_shar: bool = False) -> None:
    """Refuse a line of a manifest that points at anything but plain files, in the impulse response of a transform too.

    Args:
        line: JSON.
        where: File and line.
        in_shar: Let placeholders stand for what is in a tar beside it.

    Raises:
        DataError: It holds a command, URL, pipe or pickled source.
    """
    if any(map(line.__contains__, SUSPICIOUS)):  # one by one: as one expression it takes as long as parsing
        _check_sources(json.loads(line), where, {"shar"} if in_shar else set())


@dataclass(frozen=True)
class _Join:
    """The iterable under a lazy `CutSet`: two sorted streams walked side by side."""

    recordings: Iterable[Recording]
    supervisions: Iterable[SupervisionSegment]
    speeds: tuple[float, ...]
    longest_copy: float

    def __iter__(self) -> Iterator[MonoCut]:
        recordings = iter(self.recordings)
        recording = at_16_khz = next(recordings, None)
        index = 0
        for supervision in self.supervisions:
            while recording is not None and recording.id != supervision.recording_id:
                recording, index = next(recordings, None), 0
            if recording is None:
                raise DataError(
                    f"supervision {supervision.id}: no recording {supervision.recording_id} from here on; both "
                    "manifests must be complete and in the same order: make them again (egrecho import-kaldi)"
                )
            if index == 0:
                at_16_khz = recording.resample(SAMPLING_RATE)
            cut = _cut(at_16_khz, supervision, index)
            yield cut
            copies = (cut.perturb_speed(speed) for speed in self.speeds)
            yield from (copy for copy in copies if copy.duration <= self.longest_copy)
            index += 1


def _cut(recording: Recording, supervision: SupervisionSegment, index: int) -> MonoCut:
    """Cut a supervision out of its recording, on the grid of 16 kHz samples and inside the recording."""
    first = min(compute_num_samples(supervision.start, SAMPLING_RATE), recording.num_samples)
    last = min(compute_num_samples(supervision.end, SAMPLING_RATE), recording.num_samples)
    if last <= first:
        raise DataError(
            f"supervision {supervision.id}: nothing of it lies inside recording {recording.id} "
            f"({supervision.start:.3f}-{supervision.end:.3f} s of {recording.duration:.3f} s); make the manifests again"
        )
    channel = supervision.channel[0] if isinstance(supervision.channel, list) else supervision.channel
    if channel not in recording.channel_ids:
        raise DataError(f"supervision {supervision.id}: recording {recording.id} has no channel {channel}")
    duration = (last - first) / SAMPLING_RATE
    return MonoCut(
        id=f"{recording.id}-{index}",
        start=first / SAMPLING_RATE if first else 0,  # an integer 0 is what Lhotse writes for whole recordings
        duration=duration,
        channel=channel,
        supervisions=[replace(supervision, start=0.0, duration=duration, channel=channel)],
        recording=recording,
    )


def _check_sources(node: Any, where: str, more: Set[str]) -> None:
    """Walk a parsed line and refuse every source that is not a plain file, plain bytes in memory, or of more types."""
    if isinstance(node, list):
        for item in node:
            _check_sources(item, where, more)
    if not isinstance(node, dict):
        return
    bad = _bad_source(node, more)
    if bad:
        raise DataError(f"{where}: {bad} is refused: manifests may only point at plain files; import the audio anew")
    for value in node.values():
        if isinstance(value, (dict, list)):
            _check_sources(value, where, more)


def _bad_source(node: dict[str, Any], more: Set[str]) -> str:
    """Name what is wrong with this node, or return nothing."""
    if "source" in node and "channels" in node:  # an AudioSource
        if node.get("type") not in AUDIO_TYPES | more:
            return f"an audio source of type '{node.get('type')}'"
        if node["type"] == "file" and _is_remote(node["source"]):
            return f"the audio source '{node['source']}'"
    if "storage_type" in node and node["storage_type"] not in STORAGE_TYPES | more:
        return f"a feature storage of type '{node['storage_type']}'"
    if "storage_path" in node and _is_remote(node["storage_path"]):
        return f"the storage path '{node['storage_path']}'"
    return ""


def _is_remote(path: Any) -> bool:
    return not isinstance(path, str) or path.startswith("pipe:") or "://" in path
