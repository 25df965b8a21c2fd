"""From a folder's clips to manifests of cuts, the same kind that make-cuts writes, one for each split or fold.

In: what `folder.read_folder` found. Out: `cuts_train.jsonl.gz`, `cuts_dev.jsonl.gz`, `cuts_test.jsonl.gz`, or
`cuts_fold0.jsonl.gz` and so on; every clip decoded once, so that what does not read, is silent, too short or over 30 s
is in the ledger and not in a cut.
"""

from collections.abc import Iterable
from pathlib import Path

from lhotse import Recording, SupervisionSegment

from egrecho_inner.data.audio.check import AudioScan, scan_audio
from egrecho_inner.data.cuts.make import make_cuts
from egrecho_inner.data.sources.containers import SUFFIXES, to_flac
from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.folder import STAGE, FolderClip, FolderData
from egrecho_inner.data.sources.kaldi import DataDir, Utterance
from egrecho_inner.data.sources.manifests import Rules, build_manifests
from egrecho_inner.data.sources.splits import SPLITS
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import to_line, write_jsonl
from egrecho_inner.runtime.ledger import Ledger

RULES = Rules(channel="mix")


def cut_folder(data: FolderData, outdir: Path, language: str | None, ledger: Ledger) -> dict[str, Path]:
    """Write a manifest of cuts for each split or fold.

    Args:
        data: The folder's clips.
        outdir: For the manifests, and for FLAC of what libsndfile does not read.
        language: Code of the language of all clips; None leaves it to the program that reads the cuts.
        ledger: Takes clips that cannot be used; not written here.

    Returns:
        The manifest of each split (`train`, `dev`, `test`) or fold (`fold0`, ...).

    Raises:
        DataError: A split has no usable clip.
    """
    named = {f"fold{fold}": fold for fold in sorted(set(data.folds.values()))}
    parts = {name: [data.clips[uid] for uid in data.folds if data.folds[uid] == fold] for name, fold in named.items()}
    parts = parts or {split: data.of(split) for split in SPLITS}
    manifests = {}
    for name, clips in parts.items():
        if not clips:
            continue
        path = outdir / f"cuts_{name}.jsonl.gz"
        if not (lines := list(cut_lines(clips, data.folder, outdir, language, ledger))):
            reasons = ", ".join(sorted({skip.reason for skip in ledger.skips}))
            raise DataError(f"{data.folder}: nothing in {name} can be used ({reasons}); add recordings")
        write_jsonl(path, lines)
        manifests[name] = path
    return manifests


def cut_lines(
    clips: Iterable[FolderClip], folder: Path, outdir: Path, language: str | None, ledger: Ledger
) -> Iterable[str]:
    """Yield a cut for every usable clip, as a line of a manifest."""
    utterances, scans = [], {}
    for clip in clips:
        utterances.append(Utterance(clip.uid, clip.uid, 0.0, None, clip.text, language))
        scans[clip.uid] = scan_clip(clip, outdir)
    found = build_manifests(DataDir(folder, utterances=utterances), scans, RULES, ledger, STAGE, Findings())
    recordings = [Recording.from_dict(row) for row in found.recordings]
    supervisions = [SupervisionSegment.from_dict(row) for row in found.supervisions]
    for cut in make_cuts(recordings, supervisions):
        yield to_line(cut.to_dict())


def scan_clip(clip: FolderClip, outdir: Path) -> AudioScan:
    """Decode a clip once, by way of FLAC where libsndfile does not read its format; a fault is returned."""
    path = clip.path.resolve()
    if path.suffix.lower() in SUFFIXES:
        flac = outdir / "audio" / f"{clip.uid}.flac"
        try:
            if not flac.is_file() or flac.stat().st_mtime < path.stat().st_mtime:
                to_flac(path, flac)
        except DataError as error:
            return AudioScan(str(path), fault="does not decode", detail=str(error))
        path = flac.resolve()
    return scan_audio(path)
