#!/usr/bin/env python
"""Recordings and supervisions in, cuts out: one per supervision, at 16 kHz, with speed-perturbed copies on request.

Speed is perturbed here, before features: stored features cannot follow a change of speed. A thin program over
`data/cuts.py`, which has the rules. Left out: joining and splitting of utterances.
"""

from egrecho_inner.config import run
from egrecho_inner.data.cuts import SPEEDS, read_cuts
from egrecho_inner.runtime.files import to_line, write_jsonl


def make_cuts(recordings: str, supervisions: str, out: str, perturb_speed: bool = False) -> None:
    """Join recordings and supervisions into cuts.

    Args:
        recordings: Manifest of recordings, as `egrecho import-kaldi` writes it.
        supervisions: Manifest of supervisions of the same corpus.
        out: Manifest of cuts to write, `.jsonl` or `.jsonl.gz`.
        perturb_speed: Add two copies of every cut, at 0.9 and 1.1 times the speed; for train only.
    """
    cuts = read_cuts(recordings, supervisions, SPEEDS if perturb_speed else ())
    print(f"{out}: {write_jsonl(out, (to_line(cut.to_dict()) for cut in cuts))} cuts")


make_cuts.positional = ["recordings", "supervisions"]

if __name__ == "__main__":
    run(make_cuts)
