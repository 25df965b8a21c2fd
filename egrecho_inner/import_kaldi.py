"""Program `egrecho import-kaldi`: a Kaldi data directory becomes recordings and supervisions.

    egrecho import-kaldi /corpora/mine/train --prefix mine --split train --language vi --jobs 8

In: `wav.scp`, `text`, `utt2lang` (and `segments`, `utt2spk`, `spk2gender`, ... when present). Out, in one folder:
`{prefix}_recordings_{split}.jsonl` and `{prefix}_supervisions_{split}.jsonl`, byte for byte the same when repeated, and
`skipped.jsonl`. Every fault of the tables is an error with file and line, all of them in one go; audio that cannot be
used is left out, counted and limited. Ids are unique over the splits of a corpus, or made so.
"""

from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt
from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.kaldi import read_data_dir
from egrecho_inner.data.sources.manifests import Channel, Manifests, Rules, build_manifests
from egrecho_inner.data.sources.scan import find_sources, scan_sources
from egrecho_inner.data.sources.unique_ids import Ids, find_clashes, other_manifests, put_before, unique_prefix
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.runtime.files import to_line, write_jsonl
from egrecho_inner.runtime.ledger import Ledger


def import_kaldi(
    data_dir: str,
    prefix: str,
    split: str,
    out: str = "data/manifests",
    language: str | None = None,
    ids: Ids = "auto",
    other_splits: list[str] | None = None,
    channel: Channel = "error",
    min_duration: NonNegativeFloat = 0.1,
    max_duration: PositiveFloat = 30.0,
    keep_long: bool | None = None,
    max_skip_ratio: ClosedUnitInterval | None = None,
    allow_pipes: bool = False,
    quick: bool = False,
    scans: str | None = None,
    jobs: PositiveInt = 4,
    executor: str = "processes",
) -> None:
    """Turn a Kaldi data directory into recording and supervision manifests.

    Args:
        data_dir: Folder with wav.scp, text, utt2lang; segments, utt2spk, spk2gender and others are used when present.
        prefix: Name of the corpus, first part of the files' names.
        split: Name of the part, last part of the files' names; one that begins with `train` is training data.
        out: Folder for the manifests.
        language: Language of all utterances (code or English name); overrides utt2lang.
        ids: `auto` puts `PREFIX-SPLIT-` before all ids where another split of the corpus has one of them, `prefix`
            always; `keep` refuses ids that two splits share.
        other_splits: Data directories of the corpus's other splits; with them the order of imports changes no id.
            Splits that were imported into `out` are looked at in any case.
        channel: What to do with files of more than one channel: mix them, take channel 0 or 1, or refuse.
        min_duration: Leave out utterances shorter than this, in seconds.
        max_duration: Leave out training utterances longer than this, in seconds.
        keep_long: Keep longer ones; by default in all splits but training.
        max_skip_ratio: Largest share of utterances that may be left out; by default 0.01 for training, 0 for others.
        allow_pipes: Run commands of wav.scp that end in `|`: plain forms of sox, sph2pipe, flac, ffmpeg; no shell.
        quick: Read the headers of audio files only; then NaN, silence and broken FLAC are found much later.
        scans: File that remembers scanned audio, to share with validate-data and to continue after a kill.
        jobs: Processes of this machine.
        executor: Where to scan the audio: `processes`, `local` (Dask) or the address of a Dask scheduler.
    """
    train, stage = split.startswith("train"), f"import {prefix} {split}"
    for option, value in (("prefix", prefix), ("split", split)):
        if not value or "/" in value or value.startswith(".") or len(value.split()) != 1:
            raise ConfigError(f"--{option} '{value}' becomes part of file names; use letters, digits, - and _")
    rules = Rules(channel, min_duration, max_duration, not train if keep_long is None else keep_long, not train)
    limit = (0.01 if train else 0.0) if max_skip_ratio is None else max_skip_ratio
    folder, findings = Path(out), Findings()
    ledger = Ledger(folder / "skipped.jsonl")

    data = read_data_dir(data_dir, findings, language)
    sources = find_sources(data, findings, folder / f"{prefix}_transcoded_{split}", allow_pipes)
    findings.raise_errors()
    clashes = find_clashes(data, map(Path, other_splits or ()), other_manifests(folder, prefix, split))
    begin = unique_prefix(f"{prefix}-{split}-", ids, clashes, findings)
    scanned = scan_sources(sources, not quick, jobs, executor, scans)
    manifests = build_manifests(data, scanned, rules, ledger, stage, findings)
    findings.raise_errors()

    ledger.write(stage)
    ledger.check_limit(len(data.utterances), limit, data_dir)
    if not manifests.supervisions:
        raise DataError(f"{data_dir}: none of {len(data.utterances):,} utterances is left; see {ledger.path}")
    put_before(begin, manifests)
    write_jsonl(folder / f"{prefix}_recordings_{split}.jsonl", map(to_line, manifests.recordings))
    write_jsonl(folder / f"{prefix}_supervisions_{split}.jsonl", map(to_line, manifests.supervisions))
    report(f"{prefix} {split}", manifests, ledger, findings)


def report(name: str, manifests: Manifests, ledger: Ledger, findings: Findings) -> None:
    """Print what was kept, left out and repaired."""
    hours = sum(row["duration"] for row in manifests.supervisions) / 3600
    print(f"{name}: {ledger.summary(len(manifests.supervisions) + len(ledger.skips))}")
    print(f"  {hours:.2f} h in {len(manifests.recordings):,} recordings")
    for line in findings.lines(findings.of("warning", "note")):
        print(f"  {line}")


import_kaldi.positional = ["data_dir"]

if __name__ == "__main__":
    run(import_kaldi)
