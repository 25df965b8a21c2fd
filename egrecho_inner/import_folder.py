#!/usr/bin/env python
"""A folder of recordings in, cuts out: `UID.wav` (mp3, flac, m4a, ogg, ...) beside `UID.txt`, split as in CSV files.

    egrecho import-folder my_recordings exp/me/cuts --language en

Out: `cuts_train.jsonl.gz`, `cuts_dev.jsonl.gz`, `cuts_test.jsonl.gz`, or `cuts_fold0.jsonl.gz` and so on for a folder
too small for three splits; `recordings.html`, which plays them all; `skipped.jsonl`, the ledger of what was left out;
`audio/` with FLAC of what libsndfile does not read. Missing `{train,dev,test}_files.csv` are written into the folder:
the same clips are tested on next time; one that is there is never written over.
"""

from collections import Counter
from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval
from egrecho_inner.data.sources.folder import STAGE, FolderData, SplitOptions, read_folder, write_splits
from egrecho_inner.errors import MachineError
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.text.languages import language_code


def import_folder(
    folder: str,
    out: str,
    language: str | None = None,
    split: SplitOptions = SplitOptions(),
    write_csv: bool = True,
    page: bool = True,
    max_skip_ratio: ClosedUnitInterval = 0.1,
) -> None:
    """Import a folder of recordings and transcripts as cuts.

    Args:
        folder: With UID.wav (or mp3, flac, m4a, ogg, ...) and UID.txt for each recording.
        out: Where the cuts go.
        language: Code of the language of all recordings; null leaves it to training and evaluation.
        split: How clips are divided where no CSV file does.
        page: Write `recordings.html`, which plays every recording.
        write_csv: Write the CSV files of the splits that are missing into the folder.
        max_skip_ratio: Share of the recordings that may be unusable.
    """
    from egrecho_inner.data.sources.folder_cuts import cut_folder
    from egrecho_inner.report.page import write_page
    from egrecho_inner.report.personal_page import recordings_page

    ledger = Ledger(Path(out) / "skipped.jsonl")
    code = language_code(language) if language else None
    data = read_folder(Path(folder), split, ledger)
    total = len(data.clips) + len(ledger.skips)
    if write_csv and data.splits:
        try:
            written = write_splits(data)
        except MachineError as error:  # a folder that is only read is no reason to stop
            data.notes.append(f"the splits are not written into {folder}: {error}")
        else:
            data.notes += [f"wrote {path}" for path in written]
    manifests = cut_folder(data, Path(out), code, ledger)
    ledger.write(STAGE)
    ledger.check_limit(total, max_skip_ratio, folder)
    if page:
        write_page(Path(out) / "recordings.html", recordings_page(folder, manifests, ledger.skips, data.notes))
    print(f"{folder}: {ledger.summary(total, 'recordings')}")
    print(f"  {counts(data)}")
    for note in data.notes:
        print(f"  {note}")
    for name, path in manifests.items():
        print(f"  {name}: {path}")


import_folder.positional = ["folder", "out"]


def counts(data: FolderData) -> str:
    """Count the clips of each split or fold."""
    sizes = Counter(data.splits.values()) or Counter(f"fold {fold}" for fold in data.folds.values())
    return ", ".join(f"{name} {sizes[name]}" for name in sorted(sizes))


if __name__ == "__main__":
    run(import_folder)
