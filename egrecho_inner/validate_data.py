"""Program `egrecho validate-data`: find what is wrong with a Kaldi data directory and its audio before anything runs.

    egrecho validate-data /corpora/mine/train
    egrecho validate-data /corpora/mine/test --train_dir /corpora/mine/train --language vi --json

In: a folder. Out: a report on stdout (or JSON), exit code 0 when there is nothing but warnings, 3 otherwise. `--fix`
first does what fix_data_dir.sh does: sorts, repairs and intersects the files, with the old ones in `.backup/`.
"""

import json as json_format
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt
from egrecho_inner.data.sources.kaldi_fix import Fix, fix_data_dir
from egrecho_inner.data.sources.manifests import Channel, Rules
from egrecho_inner.data.sources.validation import Looking, Validation, check_overlap, validate
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.ledger import enough


def validate_data(
    data_dir: str,
    json: bool = False,
    fix: bool = False,
    audio: bool = True,
    language: str | None = None,
    train: bool | None = None,
    train_dir: str | None = None,
    channel: Channel = "error",
    min_duration: NonNegativeFloat = 0.1,
    max_duration: PositiveFloat = 30.0,
    max_skip_ratio: ClosedUnitInterval = 0.0,
    allow_pipes: bool = False,
    scans: str | None = None,
    jobs: PositiveInt = 4,
    executor: str = "processes",
) -> None:
    """Check a Kaldi data directory: Kaldi's own rules, transcripts, languages, and every audio file.

    Args:
        data_dir: Folder with wav.scp, text, utt2lang; all other Kaldi files are checked when present.
        json: Print JSON and nothing else.
        fix: First sort, repair and intersect the files as fix_data_dir.sh does; old ones go to .backup/.
        audio: Decode every audio file; false looks at the tables only.
        language: Language of all utterances (code or English name); overrides utt2lang.
        train: Check as training data, which loses long and empty utterances; by default if the folder is called train*.
        train_dir: Training data that this folder must share no audio with.
        channel: What an import would do with files of more than one channel.
        min_duration: An import would leave out what is shorter, in seconds.
        max_duration: An import would leave out training utterances that are longer, in seconds.
        max_skip_ratio: Share of utterances that an import may leave out before this is a failure.
        allow_pipes: Accept commands of wav.scp in known forms; they are not run.
        scans: File that remembers scanned audio, to share with import-kaldi and to continue after a kill.
        jobs: Processes of this machine.
        executor: Where to scan the audio: `processes`, `local` (Dask) or the address of a Dask scheduler.
    """
    fixed = fix_data_dir(data_dir) if fix else None
    rules = Rules(channel, min_duration, max_duration)
    how = Looking(audio, allow_pipes, jobs, executor, scans)
    found = validate(data_dir, rules_for(rules, data_dir, train), language, how)
    if train_dir is not None:
        check_overlap(found, validate(train_dir, rules, language, how))
    verdict = fault_of(found, max_skip_ratio)
    if json:
        print(json_format.dumps(as_json(data_dir, found, fixed, not verdict), ensure_ascii=False, indent=2))
    else:
        print("\n".join(report(data_dir, found, fixed)))
    if verdict:
        raise DataError(f"{data_dir}: {verdict}")


def rules_for(rules: Rules, data_dir: str, train: bool | None) -> Rules:
    """Return what an import would keep: all that can be scored of a test set, what can be trained on of a train set."""
    is_train = Path(data_dir).absolute().name.startswith("train") if train is None else train
    return replace(rules, keep_long=not is_train, keep_empty=not is_train)


def fault_of(found: Validation, max_skip_ratio: float) -> str:
    """Return in one line why the data is not fit; empty where it is."""
    findings, total = found.findings, max(1, len(found.data.utterances))
    errors, skips = findings.count("error"), findings.count("skip")
    reasons = []
    if errors:
        first = findings.of("error")[0]
        reasons.append(f"{errors:,} errors, the first: {first.kind} ({first.first[0]})")
    if skips > max_skip_ratio * total:
        reasons.append(f"{skips:,} of {total:,} utterances would be left out ({100 * max_skip_ratio:g} % allowed)")
        reasons[-1] += f"; fix them, or allow it with --max_skip_ratio {enough(skips, total)}"
    return "; ".join(reasons)


def report(data_dir: str, found: Validation, fixed: Fix | None) -> list[str]:
    """Return the report as lines."""
    numbers, lines = found.numbers(), []
    if fixed:
        files = ", ".join(fixed.changed) or "nothing"
        lines.append(f"fixed {data_dir}: kept {fixed.kept:,} utterances out of {fixed.total:,}; rewrote {files}")
    languages = ", ".join(f"{code or '?'} {count:,}" for code, count in numbers["languages"].items())
    lines.append(f"{data_dir}: {numbers['utterances']:,} utterances in {numbers['recordings']:,} recordings")
    lines.append(f"  speakers {numbers['speakers']:,}; languages {languages or 'unknown'}")
    if "kept" in numbers:
        rates = ", ".join(f"{count:,} at {rate} Hz" for rate, count in numbers["sampling_rates"].items())
        lines.append(f"  usable {numbers['kept']:,} utterances, {numbers['kept_hours']:.2f} h; {rates or 'no audio'}")
    lines += found.findings.lines()
    counts = found.findings.as_dict()
    lines.append(f"{counts['errors']:,} errors, {counts['skips']:,} left out, {counts['warnings']:,} warnings")
    return lines


def as_json(data_dir: str, found: Validation, fixed: Fix | None, is_fit: bool) -> dict[str, Any]:
    """Return the report in JSON's types."""
    start = {"data_dir": data_dir, "ok": is_fit, **found.numbers()}
    return {**start, **({"fixed": asdict(fixed)} if fixed else {}), **found.findings.as_dict()}


validate_data.positional = ["data_dir"]

if __name__ == "__main__":
    run(validate_data)
