#!/usr/bin/env python3
"""Print how many cuts a manifest has and how long they are.

In: one or more `.jsonl` or `.jsonl.gz` cut manifests; out: a table for each, and for several
one more of all.

    . ./path.sh
    ./local/display_manifests.py data/fbank_whisper80/aishell_vi_cuts_train.jsonl.gz
"""

import argparse
import json
import signal
import sys

from egrecho_inner.data.cuts.statistics import DurationStatistics, join, read_statistics
from egrecho_inner.errors import UserError


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cuts", nargs="+", metavar="CUTS", help="cut manifest, .jsonl or .jsonl.gz")
    parser.add_argument("--json", action="store_true", help="print one JSON object, all figures in seconds, unrounded")
    options = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends us quietly
    try:
        statistics = {path: read_statistics(path) for path in options.cuts}
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    if options.json:
        print(json.dumps({path: part.as_dict() for path, part in statistics.items()}, indent=2, ensure_ascii=False))
    else:
        print(as_tables(statistics))


def as_tables(statistics: dict[str, DurationStatistics]) -> str:
    """Return the table alone for one manifest, tables under their names and the sum for several."""
    if len(statistics) == 1:
        return next(iter(statistics.values())).table()
    named = statistics | {f"all {len(statistics)} manifests": join(list(statistics.values()))}
    return "\n\n".join(f"{name}\n{part.table()}" for name, part in named.items())


if __name__ == "__main__":
    main()
