"""From a checked data directory and its scanned audio to manifests: which utterance stays, and how long it is.

In: a `DataDir` and one `AudioScan` per recording. Out: recordings and supervisions as dicts in Lhotse's JSON form,
sorted by recording, and a ledger of what was left out. Nothing is read or written here, and Lhotse is not imported: the
import of a large corpus runs in worker processes that only need numpy and soundfile.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from egrecho_inner.data.audio.check import LOUDEST, SHORT_SECONDS, AudioScan
from egrecho_inner.data.audio.files import SAMPLING_RATE
from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.kaldi import DataDir, Utterance
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.text.constants import WINDOW_SECONDS

Channel = Literal["mix", "0", "1", "error"]
OVERHANG = 0.5  # seconds that a segment may reach past its recording and is trimmed; beyond, its times are wrong
ROUNDING = 0.01  # seconds past the end that are not worth a warning; many corpora write segments in hundredths


@dataclass(frozen=True)
class Rules:
    """What an import keeps."""

    channel: Channel = "error"
    """Of files with more than one: their mean, one of them, or refuse."""
    min_duration: float = 0.1
    """In seconds; below, Whisper's feature extractor has no window to work on."""
    max_duration: float = WINDOW_SECONDS
    """In seconds; Whisper's window."""
    keep_long: bool = False
    """Keep what is longer; evaluation decodes it in several windows, training cannot use it."""
    keep_empty: bool = False
    """Keep utterances without words, and silent ones with words; evaluation scores what is recognised there."""


@dataclass
class Manifests:
    """What an import writes."""

    recordings: list[dict[str, Any]]
    supervisions: list[dict[str, Any]]


def build_manifests(
    data: DataDir, scans: Mapping[str, AudioScan], rules: Rules, ledger: Ledger, stage: str, findings: Findings
) -> Manifests:
    """Decide about every utterance and write it down as a manifest or as a skip.

    Args:
        data: of `read_data_dir`, without errors.
        scans: of every recording that an utterance names.
        rules: what to keep.
        ledger: takes every utterance that is left out.
        stage: names this import in the ledger.
        findings: takes errors (stereo without a rule) and warnings (clipping, rates, wrong `reco2dur`).
    """
    by_recording = defaultdict(list)
    for utterance in data.utterances:
        by_recording[utterance.recording_id].append(utterance)
    manifests = Manifests([], [])
    for id in sorted(by_recording):
        scan, kept, gap = scans[id], [], False
        for utterance in sorted(by_recording[id], key=lambda u: (u.start, u.id)):
            reason, value, end = _judge(utterance, scan, rules)
            if reason:
                seconds = max(0.0, end - utterance.start)
                ledger.add(utterance.id, stage, reason, value, seconds)
                gap = True
            else:
                kept.append(_supervision(utterance, end, scan, rules))
                if gap:  # cuts are numbered without a hole: `egrecho pack` sees it by this
                    kept[-1]["custom"] = {"gap_before": True}
                gap = False
                _report_trimmed(utterance, end, data, findings)
        if kept:
            if scan.info.channels > 1 and rules.channel == "error":
                where = f"{data.tables['wav.scp'].where(id)}: {scan.info.channels} channels in {scan.path}"
                findings.error("more than one channel", where, "choose with --channel mix, 0 or 1")
            if scan.short:
                where = data.tables["wav.scp"].where(id, f"{scan.path} lacks {scan.short:.3f} s at its end")
                fix = f"used as long as it is; what lacks more than {SHORT_SECONDS:g} s is left out"
                findings.warn("audio shorter than its header announces", where, fix)
            manifests.recordings.append(_recording(id, scan, rules))
            manifests.supervisions += kept
    _compare_durations(data, scans, findings)
    _report_rates(scans.values(), findings)
    return manifests


def _judge(utterance: Utterance, scan: AudioScan, rules: Rules) -> tuple[str, str | float, float]:
    """Return why an utterance is left out (or nothing), the value behind that, and where it ends in seconds."""
    length = scan.info.duration if scan.info else 0.0
    end = length if utterance.end is None else utterance.end
    if scan.fault or scan.info is None:
        subject = "audio" if scan.fault.startswith(("is ", "looks ", "holds ")) else "audio:"
        return f"{subject} {scan.fault}", f"{scan.path}{f': {scan.detail}' if scan.detail else ''}", end
    if utterance.start >= length or end > length + OVERHANG:
        return "segment past the end of its recording", f"{utterance.start:g}-{end:g} of {length:.3f} s", end
    end = min(end, length)
    duration = end - utterance.start
    if any(utterance.start < second + 1 and second < end for second in scan.bad_seconds):
        reason = f"samples beyond {LOUDEST:g} times full scale" if scan.peak > LOUDEST else "NaN or infinite samples"
        return reason, f"{scan.path}, peak {scan.peak:.3g}" if scan.peak > LOUDEST else scan.path, end
    if duration < rules.min_duration:
        return f"shorter than {rules.min_duration:g} s", round(duration, 4), end
    if duration > rules.max_duration and not rules.keep_long:
        return f"longer than {rules.max_duration:g} s", round(duration, 3), end
    if not utterance.text and not rules.keep_empty:
        return "empty transcript", "", end
    if utterance.text and scan.peak == 0 and not rules.keep_empty:
        return "digital silence with a transcript", utterance.text[:60], end
    return "", "", end


def _report_trimmed(utterance: Utterance, end: float, data: DataDir, findings: Findings) -> None:
    """Count a segment that reached past its recording and ends with it now."""
    if utterance.end is not None and utterance.end > end + ROUNDING:
        where = data.tables["segments"].where(utterance.id, f"ends at {utterance.end:g} s, its recording at {end:.3f}")
        findings.warn("segment trimmed to its recording's end", where, "its last words may be missing: check the times")


def _recording(id: str, scan: AudioScan, rules: Rules) -> dict[str, Any]:
    """Describe a recording in Lhotse's JSON form; a mix is one channel with Lhotse doing the mixing."""
    channels = [0] if rules.channel == "mix" else list(range(scan.info.channels))
    recording = {
        "id": id,
        "sources": [{"type": "file", "channels": channels, "source": scan.path}],
        "sampling_rate": scan.info.sampling_rate,
        "num_samples": scan.info.num_samples,
        "duration": scan.info.duration,
        "channel_ids": channels,
    }
    if rules.channel == "mix" and scan.info.channels > 1:
        recording["transforms"] = [{"name": "Downmix", "kwargs": {}}]  # registered by data/audio/load.py
    return recording


def _supervision(utterance: Utterance, end: float, scan: AudioScan, rules: Rules) -> dict[str, Any]:
    """Describe an utterance in Lhotse's JSON form, with the fields of the spec and speaker and gender where known."""
    whole = utterance.start == 0 and end == scan.info.duration
    supervision = {
        "id": utterance.id,
        "recording_id": utterance.recording_id,
        "start": utterance.start,
        # a difference of decimals from the file is a decimal again; a whole recording's length stays exact
        "duration": end if whole else round(end - utterance.start, 8),
        "channel": 1 if rules.channel == "1" and scan.info.channels > 1 else 0,
        "text": utterance.text,
        "language": utterance.language,
    }
    if utterance.speaker:
        supervision["speaker"] = utterance.speaker
    if utterance.gender:
        supervision["gender"] = utterance.gender
    return supervision


def _compare_durations(data: DataDir, scans: Mapping[str, AudioScan], findings: Findings) -> None:
    """Report where `reco2dur`, or `utt2dur` of whole recordings, differs from the audio by more than 25 ms."""
    for name in ("reco2dur", "utt2dur"):
        table = data.tables.get(name)
        if table is None or (name == "utt2dur" and "segments" in data.tables):
            continue
        for id, value in table.rows.items():
            scan = scans.get(id)
            try:
                difference = float(value) - scan.info.duration if scan and scan.info else 0.0
            except ValueError:
                difference = math.nan
            if not abs(difference) <= 0.025:
                measured = scan.info.duration if scan and scan.info else math.nan
                where = table.where(id, f"says {value} s, the audio has {measured:.3f} s")
                findings.warn(f"{name} is wrong", where, "measured durations are used")


def _report_rates(scans: Iterable[AudioScan], findings: Findings) -> None:
    """Report what is resampled; audio below 16 kHz lacks the upper part of Whisper's spectrum."""
    rates = Counter(scan.info.sampling_rate for scan in scans if scan.info)
    for rate, count in sorted(rates.items()):
        if rate < SAMPLING_RATE:
            where = f"{count:,} recordings at {rate} Hz: nothing above {rate // 2} Hz is in them"
            findings.warn("upsampled to 16000 Hz", where, "nothing to fix; test on audio of the same kind", count)
        elif rate > SAMPLING_RATE:
            findings.add("note", "downsampled to 16000 Hz", f"{count:,} recordings at {rate} Hz", count=count)
