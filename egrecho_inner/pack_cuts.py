#!/usr/bin/env python
"""Cuts of single utterances in, windows near 30 s out; a thin program over `data/cuts/packing.py`, which has the rules.

    egrecho pack exp/distil/labels/filtered.jsonl.gz exp/distil/labels/packed.jsonl.gz --pack.by speaker

After a filter the dropped utterances break windows apart, so what is between two utterances was never left out.
"""

from collections.abc import Iterator

from egrecho_inner.config import run
from egrecho_inner.data.batches.options import PackOptions
from egrecho_inner.runtime.files import to_line, write_jsonl
from egrecho_inner.runtime.progress import watched


def pack_cuts(cuts: str, out: str, pack: PackOptions = PackOptions()) -> None:
    """Join neighbouring utterances of a recording to windows near 30 s, with their times and the text before.

    Args:
        cuts: Manifest, in the order of its recordings as `egrecho make-cuts` writes it.
        out: Manifest to write, `.jsonl` or `.jsonl.gz`.
        pack: What is joined.
    """
    from egrecho_inner.data.cuts.index import CutIndex
    from egrecho_inner.data.cuts.packing import pack as join

    index = CutIndex(cuts)
    seconds = [0.0]

    def lines() -> Iterator[str]:
        for cut in watched(join(index, pack), what="packing", unit="windows"):
            seconds[0] += cut.duration
            yield to_line(cut.to_dict())

    windows = write_jsonl(out, lines())
    mean = seconds[0] / max(windows, 1)
    print(f"{out}: {len(index):,} utterances in {windows:,} windows of {mean:.1f} s on average")


pack_cuts.positional = ["cuts", "out"]

if __name__ == "__main__":
    run(pack_cuts)
