"""Everything that is wrong with a data directory, in one pass: tables, Kaldi's rules, audio, overlap with train.

In: a folder. Out: `Findings` and a few numbers. What an import would stop at is an error, what it would leave out a
skip, what it repairs a warning: the import's own functions decide, so that the two cannot disagree.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egrecho_inner.data.audio.check import AudioScan
from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.kaldi import DataDir, read_data_dir
from egrecho_inner.data.sources.kaldi_checks import check_kaldi
from egrecho_inner.data.sources.manifests import Manifests, Rules, build_manifests
from egrecho_inner.data.sources.scan import find_sources, scan_sources
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.text.normalize import fold_text

CLIPPED = 0.01  # share of samples at full scale from which speech sounds distorted
QUIET = 0.001  # peak (-60 dB) below which nothing is audible
DC_OFFSET = 0.05  # mean sample from which a broken recording device shows


@dataclass(frozen=True)
class Looking:
    """How to look at the audio."""

    audio: bool = True
    """Open and decode every file; false looks at the tables only."""
    allow_pipes: bool = False
    """Check commands of wav.scp for their form; they are not run here."""
    jobs: int = 1
    executor: str = "processes"
    scans: str | None = None
    """File that remembers scans."""


@dataclass
class Validation:
    """What was found, and what there is."""

    data: DataDir
    findings: Findings
    scans: Mapping[str, AudioScan] = field(default_factory=dict)
    manifests: Manifests | None = None

    def numbers(self) -> dict[str, Any]:
        """Count what the directory holds."""
        utterances = self.data.utterances
        speakers = {utterance.speaker for utterance in utterances if utterance.speaker}
        numbers: dict[str, Any] = {
            "utterances": len(utterances),
            "recordings": len(self.data.sources),
            "speakers": len(speakers),
            "languages": dict(sorted(Counter(utterance.language for utterance in utterances).items())),
        }
        if self.manifests is not None:
            rates = Counter(scan.info.sampling_rate for scan in self.scans.values() if scan.info)
            numbers["kept"] = len(self.manifests.supervisions)
            numbers["kept_hours"] = round(sum(row["duration"] for row in self.manifests.supervisions) / 3600, 4)
            numbers["sampling_rates"] = {str(rate): count for rate, count in sorted(rates.items())}
        return numbers


def validate(path: str | Path, rules: Rules, language: str | None = None, looking: Looking | None = None) -> Validation:
    """Check a data directory.

    Args:
        path: the folder.
        rules: what an import would keep.
        language: of all utterances, instead of utt2lang.
        looking: how to look at the audio; in this process, all of it, if not given.

    Raises:
        DataError: there is no such folder.
    """
    looking = looking or Looking()
    found = Validation(read_data_dir(path, findings := Findings(), language), findings)
    check_kaldi(found.data, findings)
    sources = find_sources(found.data, findings, allow_pipes=looking.allow_pipes)
    commands = [source.id for source in sources if source.command]
    if commands:
        fix = "import-kaldi --allow_pipes true runs and checks them"
        findings.add("note", "commands whose audio is not checked", ", ".join(commands[:5]), fix, len(commands))
    if looking.audio and sources:
        files = [source for source in sources if not source.command]
        found.scans = scan_sources(files, True, looking.jobs, looking.executor, looking.scans)
        _judge_audio(found, rules)
    return found


def check_overlap(test: Validation, train: Validation) -> None:
    """Look for what a test set shares with its train set: audio (an error), speakers and transcripts."""
    findings, wav_scp = test.findings, test.data.tables.get("wav.scp")
    _report_uncompared(test, train)
    if wav_scp is None:
        return  # an error already
    # silences of one length are alike, and no leak
    of_train = {scan.digest: id for id, scan in train.scans.items() if scan.digest and scan.peak}
    for id, scan in test.scans.items():
        if scan.digest in of_train:
            where = wav_scp.where(id, f"is {of_train[scan.digest]} of {train.data.path}")
            findings.error("audio that is also in train", where, "take it out of one; scores on it mean nothing")
    for id in test.data.sources:
        scans = (test.scans.get(id), train.scans.get(id))
        if id in train.data.sources and not (all(scans) and scans[0].digest == scans[1].digest):
            findings.warn("recording id that is also in train", wav_scp.where(id), "the audio differs; is it meant?")
    speakers = {utterance.speaker for utterance in train.data.utterances} - {None}
    for speaker in sorted({utterance.speaker for utterance in test.data.utterances} & speakers):
        findings.warn("speaker who is also in train", speaker, "scores are no evidence about new speakers")
    texts = {fold_text(utterance.text) for utterance in train.data.utterances}
    shared = [utterance for utterance in test.data.utterances if fold_text(utterance.text) in texts]
    if shared:
        where = f"{len(shared):,} of {len(test.data.utterances):,}, as {shared[0].id}: {shared[0].text[:60]}"
        findings.add("note", "transcripts that are also in train", where, "usual for commands and digits", len(shared))


def _report_uncompared(test: Validation, train: Validation) -> None:
    """Note what of the training data could not be compared: nothing found there is no proof that nothing is shared."""
    findings, path = test.findings, train.data.path
    for group in train.findings.of("error"):
        kind = f"fault of the training data, which is not compared as a whole: {group.kind}"
        findings.error(kind, group.first[0], f"fix it first: egrecho validate-data {path}", group.count)
    if not (test.scans and train.scans):
        findings.warn("audio not compared with train", str(path), "--audio true compares every file")
        return
    unread = [id for id in train.data.sources if not (train.scans.get(id) and train.scans[id].digest)]
    used = {utterance.recording_id for utterance in train.data.utterances}
    unread = [id for id in unread if id in used]
    if unread:
        where = f"{path}/wav.scp: {', '.join(unread[:5])}"
        fix = "broken files, and commands, which are not run here"
        findings.warn("training audio that was not compared", where, fix, len(unread))


def _judge_audio(found: Validation, rules: Rules) -> None:
    """Run the import's own checks, then those of what only a listener would mind."""
    findings, ledger = found.findings, Ledger("skipped.jsonl")
    known = DataDir(found.data.path, found.data.tables)
    known.utterances = [utterance for utterance in found.data.utterances if utterance.recording_id in found.scans]
    found.manifests = build_manifests(known, found.scans, rules, ledger, "validate", findings)
    text = found.data.tables["text"]
    for skip in ledger.skips:
        findings.add(
            "skip", skip.reason, text.where(skip.id, str(skip.value)), "import-kaldi leaves it out and counts it"
        )
    wav_scp, by_digest = found.data.tables["wav.scp"], defaultdict(list)
    for id, scan in found.scans.items():
        by_digest[scan.digest].append(id)
        if scan.clipped > CLIPPED:
            findings.warn(
                "clipped audio", wav_scp.where(id, f"{100 * scan.clipped:.0f} % at full scale"), "listen to it"
            )
        if 0 < scan.peak < QUIET or (scan.peak == 0 and rules.keep_empty):
            findings.warn("silent audio", wav_scp.where(id, f"peak {scan.peak:g}"), "is it recorded at all?")
        if abs(scan.offset) > DC_OFFSET:
            findings.warn("DC offset", wav_scp.where(id, f"mean sample {scan.offset:.2f}"), "a broken device?")
    for digest, ids in by_digest.items():
        if digest and len(ids) > 1:
            where = wav_scp.where(ids[1], f"is the same as {ids[0]}")
            findings.warn("same audio under several ids", where, "keep one, or give it weight on purpose", len(ids) - 1)
