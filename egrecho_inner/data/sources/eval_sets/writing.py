"""From the list of a test set to cuts: every file decoded once, so that what cannot be decoded is no error of a model.

In: an `EvalSet`. Out: lines of a manifest, one cut an utterance, long ones too; a ledger with what the set does not
score under one stage and with unusable audio under another, since only the second is a fault.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from lhotse import Recording, SupervisionSegment

from egrecho_inner.data.audio.check import AudioScan
from egrecho_inner.data.cuts.make import make_cuts
from egrecho_inner.data.sources.containers import SUFFIXES, to_flac
from egrecho_inner.data.sources.eval_sets.listing import EvalSet
from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.kaldi import DataDir
from egrecho_inner.data.sources.manifests import Rules, build_manifests
from egrecho_inner.data.sources.scan import Source, scan_sources
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import to_line
from egrecho_inner.runtime.ledger import Ledger

STAGE, EXCLUDED = "import", "not scored"


def cut_lines(name: str, found: EvalSet, outdir: Path, ledger: Ledger, jobs: int) -> list[str]:
    """Make the cuts of a test set.

    Args:
        name: Of the set.
        found: Its utterances.
        outdir: For FLAC of what libsndfile does not read.
        ledger: Takes what is left out.
        jobs: Processes.

    Raises:
        DataError: Two utterances have the same id.
    """
    check_unique(found)
    for each in found.excluded:
        ledger.add(each.id, f"{EXCLUDED} {name}", each.reason, seconds=each.seconds)
    readable, scans = transcode(found, outdir / "audio")
    scans |= scan_sources(readable, jobs=jobs)
    lines: list[str] = []
    for channel in sorted(set(found.channels.values())):
        rules = Rules(channel, min_duration=0.0, keep_long=True)
        utterances = [each for each in found.utterances if found.channels[each.recording_id] == channel]
        data = DataDir(outdir, utterances=utterances)
        made = build_manifests(data, scans, rules, ledger, f"{STAGE} {name}", Findings())
        recordings = [Recording.from_dict(row) for row in made.recordings]
        supervisions = [SupervisionSegment.from_dict(row) for row in made.supervisions]
        lines += [to_line(cut.to_dict()) for cut in make_cuts(recordings, supervisions)]
    return lines


def check_unique(found: EvalSet) -> None:
    """Refuse two utterances of one id.

    Raises:
        DataError: Naming the first.
    """
    (id, count), *_ = Counter(each.id for each in found.utterances).most_common(1)
    if count > 1:
        raise DataError(f"utterance {id} occurs {count} times; the copy has files of several versions or parts")


def transcode(found: EvalSet, folder: Path) -> tuple[list[Source], dict[str, AudioScan]]:
    """Decode containers that libsndfile does not read to FLAC; return what is to be scanned, and what is a fault."""
    sources, faults = [], {}
    for id, source in found.sources.items():
        path = Path(source.path)
        if path.suffix.lower() in SUFFIXES and path.is_file():
            flac = folder / f"{id}.flac"
            try:
                if not flac.is_file() or flac.stat().st_mtime < path.stat().st_mtime:
                    to_flac(path, flac)
            except DataError as error:
                faults[id] = AudioScan(source.path, fault="does not decode", detail=str(error))
                continue
            path = flac
        sources.append(replace(source, id=id, path=str(path.absolute())) if not source.command else source)
    return sources, faults
