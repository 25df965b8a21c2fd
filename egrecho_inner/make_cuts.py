#!/usr/bin/env python
"""Recordings and supervisions in, cuts out: one per supervision, at 16 kHz, with speed-perturbed copies on request.

    egrecho make-cuts data/manifests/mine_recordings_train.jsonl data/manifests/mine_supervisions_train.jsonl \\
      --out data/cuts/mine_cuts_train.jsonl --perturb_speed

Speed is perturbed here, before features: stored features cannot follow a change of speed. A thin program over
`data/cuts/make.py`, which has the rules. Left out: joining and splitting of utterances.
"""

from collections import Counter
from collections.abc import Iterator

from egrecho_inner.config import run
from egrecho_inner.config_types import PositiveFloat
from egrecho_inner.runtime.files import to_line, write_jsonl
from egrecho_inner.runtime.progress import watched
from egrecho_inner.text.constants import WINDOW_SECONDS


def make_cuts(
    recordings: str,
    supervisions: str,
    out: str,
    perturb_speed: bool = False,
    longest_copy: PositiveFloat = WINDOW_SECONDS,
) -> None:
    """Join recordings and supervisions into cuts.

    Args:
        recordings: Manifest of recordings, as `egrecho import-kaldi` writes it.
        supervisions: Manifest of supervisions of the same corpus.
        out: Manifest of cuts to write, `.jsonl` or `.jsonl.gz`.
        perturb_speed: Add two copies of every cut, at 0.9 and 1.1 times the speed; for train only.
        longest_copy: Copies longer than this are not made, in seconds; training cannot use them.
    """
    from egrecho_inner.data.cuts.make import SPEEDS, read_cuts

    speeds = SPEEDS if perturb_speed else ()
    made: Counter[float] = Counter()

    def lines() -> Iterator[str]:
        for cut in watched(read_cuts(recordings, supervisions, speeds, longest_copy), what="cuts"):
            made[next((speed for speed in speeds if cut.id.endswith(f"_sp{speed}")), 1.0)] += 1
            yield to_line(cut.to_dict())

    print(f"{out}: {write_jsonl(out, lines())} cuts")
    for speed in speeds:
        if missing := made[1.0] - made[speed]:
            print(f"  {missing:,} copies at {speed} times the speed would be longer than {longest_copy:g} s: not made")


make_cuts.positional = ["recordings", "supervisions"]

if __name__ == "__main__":
    run(make_cuts)
