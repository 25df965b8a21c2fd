#!/usr/bin/env python
"""A local copy of a published test set in, cuts out, prepared as the published figures were.

    egrecho import-eval-set librispeech-clean /corpora/LibriSpeech data/eval

Short: librispeech-clean librispeech-other tedlium wsj callhome switchboard common-voice artie coraal chime6 ami-ihm
ami-sdm voxpopuli fleurs. Long: tedlium-long meanwhile rev16 kincaid46 earnings21 earnings22 coraal-long. Unpack
archives first; a wrong folder is answered with what it should hold. Writes `NAME.jsonl.gz`, of which `egrecho eval`
makes the set NAME, and `skipped.jsonl`: what the set's own rules do not score, and audio that cannot be used, which
is an error unless `max_skip_ratio` allows it. Sets in parquet are read by import-datasets.
"""

import difflib
from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval, PositiveInt
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.runtime.files import write_jsonl
from egrecho_inner.runtime.ledger import Ledger


def import_eval_set(
    name: str,
    folder: str,
    out: str,
    allow_pipes: bool = False,
    max_skip_ratio: ClosedUnitInterval = 0.0,
    jobs: PositiveInt = 4,
) -> None:
    """Import a published test set as cuts.

    Args:
        name: Of the set.
        folder: The local copy, or a folder around it.
        out: Where NAME.jsonl.gz, skipped.jsonl and copies of audio go.
        allow_pipes: Run commands of a wav.scp that end in `|`: plain forms of sox, sph2pipe, flac, ffmpeg; no shell.
        max_skip_ratio: Share of the utterances whose audio may be unusable.
        jobs: Processes that read the audio.
    """
    from egrecho_inner.data.sources.eval_sets import all_readers
    from egrecho_inner.data.sources.eval_sets.listing import EvalSet
    from egrecho_inner.data.sources.eval_sets.writing import EXCLUDED, STAGE, cut_lines

    readers = all_readers()
    if name not in readers:
        near = difflib.get_close_matches(name, readers, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(readers)}"
        raise ConfigError(f"no test set is called '{name}'; {hint}")
    place = Path(out)
    found = EvalSet(allow_pipes=allow_pipes, copies=place / "audio")
    try:
        readers[name].read(Path(folder), found)
        if not found.utterances:
            raise DataError(f"{folder}: no utterance")
    except DataError as error:
        raise DataError(f"{error} (set {name} is laid out as {readers[name].layout})") from error
    ledger = Ledger(place / "skipped.jsonl")
    lines = cut_lines(name, found, place, ledger, jobs)
    ledger.write(f"{STAGE} {name}", f"{EXCLUDED} {name}")
    ledger.check_limit(len(found.utterances), max_skip_ratio, folder, (f"{STAGE} {name}",))
    write_jsonl(place / f"{name}.jsonl.gz", lines)
    total = len(found.utterances) + len(found.excluded)
    print(f"{place / name}.jsonl.gz: {ledger.summary(total)}")


import_eval_set.positional = ["name", "folder", "out"]

if __name__ == "__main__":
    run(import_eval_set)
