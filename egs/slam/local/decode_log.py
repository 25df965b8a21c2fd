#!/usr/bin/env python3
"""Write the hypotheses of a result folder as SLAM-LLM does: PREFIX_pred and PREFIX_gt, lines of key, tab, text.

decode_log.py exp/slam_decode/eval exp/slam_decode/decode
"""

import json
from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import read_lines, write_text


def decode_log(results: str, prefix: str) -> None:
    """Write the pair of files.

    Args:
        results: Folder of `egrecho eval`.
        prefix: Beginning of both names.
    """
    path = Path(results) / "hyps.jsonl"
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a folder in which egrecho eval has finished")
    rows = [json.loads(line) for line in read_lines(path)]
    for name, key in (("pred", "hyp"), ("gt", "ref")):
        lines = [f"{row['id']}\t{' '.join(row[key].split())}\n" for row in rows]
        write_text(Path(f"{prefix}_{name}"), "".join(lines))
    print(f"{prefix}_pred, {prefix}_gt: {len(rows):,} lines")


decode_log.positional = ["results", "prefix"]


if __name__ == "__main__":
    run(decode_log)
