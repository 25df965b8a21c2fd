"""From `wav.scp` to scanned audio: where each recording lies, by which command it is made, and what is in it.

In: a `DataDir`. Out: one `AudioScan` per recording that an utterance uses, found by worker processes. Commands
(`... |`) are refused unless a folder for their output is given; then they run once, without a shell, and are FLAC from
there on.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from egrecho_inner.data.audio.check import NO_SAMPLES, AudioScan, scan_audio
from egrecho_inner.data.audio.headers import close_wav
from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.kaldi import DataDir
from egrecho_inner.data.sources.pipes import copy_name, find_file, parse_pipe, transcode
from egrecho_inner.data.sources.scan_cache import ScanCache
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.executor import map_unordered
from egrecho_inner.runtime.progress import watched

CHUNK = 32  # files sent to a worker at a time: a short one takes less than a millisecond to scan
# What one more process must have to do to be worth its start of about a second: bytes of FLAC, or short files.
BYTES_PER_JOB, FILES_PER_JOB = 40e6, 4000


@dataclass(frozen=True)
class Source:
    """Where a recording comes from."""

    id: str
    path: str
    """Absolute, if it was found."""
    tried: str = ""
    """For a relative path that was not found: the folders it was looked for in."""
    command: tuple[str, ...] = ()
    """Program and arguments that make it."""
    folder: str = ""
    """Where copies are kept: a command's output, a WAV with its length filled in. Without one they are passing."""


def find_sources(
    data: DataDir, findings: Findings, copies: Path | None = None, allow_pipes: bool = False
) -> list[Source]:
    """Find the audio of every recording in use.

    Args:
        data: of `read_data_dir`.
        findings: takes commands that will not be run.
        copies: folder for audio that cannot be read where it lies.
        allow_pipes: accept commands in known forms.
    """
    roots = [Path.cwd(), data.path.absolute()]
    folder = str(copies.absolute()) if copies else ""
    sources = []
    for id in sorted({utterance.recording_id for utterance in data.utterances}):
        value = data.sources[id]
        if not value.endswith("|"):
            sources.append(replace(_file_source(id, value, roots), folder=folder))
            continue
        where = data.tables["wav.scp"].where(id, value[:160])
        if not allow_pipes:
            fix = "--allow_pipes true runs sox, sph2pipe, flac and ffmpeg in plain forms, without a shell"
            findings.error("command in wav.scp is not run", where, fix)
            continue
        try:
            command = tuple(parse_pipe(value, roots))
        except DataError as error:
            fix = "run it yourself and list the files it makes"
            findings.error("command in wav.scp of no known form", f"{where}: {error}", fix)
        else:
            sources.append(Source(id, "", command=command, folder=folder))
    return sources


def scan_sources(
    sources: Iterable[Source],
    decode: bool = True,
    jobs: int = 1,
    executor: str = "processes",
    remembered: str | Path | None = None,
) -> dict[str, AudioScan]:
    """Scan all sources, in any order.

    Args:
        sources: of `find_sources`.
        decode: every sample, not only the headers.
        jobs: processes of this machine.
        executor: of `map_unordered`.
        remembered: file of scans; files that are in it unchanged are not scanned again.

    Returns:
        What was found for each recording id.
    """
    with ScanCache(remembered, decode) as cache:
        scans = {source.id: scan for source in sources if not source.command and (scan := cache.get(source.path))}
        left = [source for source in sources if source.id not in scans]
        for id, scan in watched(_scan(left, decode, jobs, executor), len(left), "reading audio", "files"):
            scans[id] = scan
            cache.put(scan)
    return scans


def _scan(sources: list[Source], decode: bool, jobs: int, executor: str) -> Iterator[tuple[str, AudioScan]]:
    if executor == "processes":
        jobs = min(jobs, _worthwhile_jobs(sources))
    scanned = map_unordered(partial(scan_source, decode=decode), sources, jobs, executor, CHUNK)
    return ((source.id, scan) for source, scan in scanned)


def scan_source(source: Source, decode: bool = True) -> AudioScan:
    """Scan one source, after running its command if it has one."""
    if source.tried:
        return AudioScan(source.path, fault="no such file", detail=f"tried {source.tried}")
    path = source.path
    if source.command:
        try:
            path = str(transcode(source.id, list(source.command), Path(source.folder)))
        except DataError as error:
            return AudioScan(" ".join(source.command), fault="command failed", detail=str(error))
    scan = scan_audio(path, decode)
    return _scan_closed(source, decode) or scan if scan.fault == NO_SAMPLES else scan


def _scan_closed(source: Source, decode: bool) -> AudioScan | None:
    """Scan a copy, with its length filled in, of a WAV that was never closed; None if that is not what is wrong."""
    with tempfile.TemporaryDirectory() as passing:
        words = ["close", os.path.abspath(source.path)]
        copy = copy_name(source.id, words, Path(source.folder or passing), ".wav")
        if not source.path or not (copy.exists() or close_wav(Path(source.path), copy)):
            return None
        scan = scan_audio(copy, decode)
        return scan if source.folder else replace(scan, path=source.path)


def _worthwhile_jobs(sources: list[Source]) -> int:
    size = sum(os.path.getsize(source.path) for source in sources if os.path.isfile(source.path))
    return 1 + int(size / BYTES_PER_JOB + len(sources) / FILES_PER_JOB)


def _file_source(id: str, value: str, roots: list[Path]) -> Source:
    """Find a plain path: as it is if absolute, else from the working folder, then from the data directory."""
    if value.startswith("/"):
        return Source(id, os.path.normpath(value))
    found = find_file(value, roots)
    if found:
        return Source(id, os.path.normpath(found))
    return Source(id, value, tried=" and ".join(os.path.normpath(root / value) for root in dict.fromkeys(roots)))
