#!/usr/bin/env python
"""Cuts in, those that share no run of words with an evaluation set out; each set is named.

    egrecho decontaminate windows.jsonl.gz clean.jsonl.gz \\
        --against "[librispeech=data/cuts/test_clean.jsonl.gz, ted=data/cuts/ted_test.jsonl.gz]"

A run has ten words by default (OLMoASR, Ngo et al. 2025, appendix C). The ledger `skipped.jsonl` has each
drop with its set and the words.
"""

from __future__ import annotations

from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.config_names import name_manifests
from egrecho_inner.config_types import PositiveInt
from egrecho_inner.errors import ConfigError


def decontaminate(
    cuts: str,
    out: str,
    against: list[str],
    ngram: PositiveInt = 10,
    shortest: PositiveInt = 5,
    jobs: PositiveInt = 1,
    executor: str = "processes",
) -> None:
    """Drop training cuts that hold words of evaluation sets.

    Args:
        cuts: Manifest of documents or windows.
        out: Manifest to write.
        against: Manifests of evaluation sets, NAME=PATH or a file.
        ngram: Words in a row that a cut and a test may not share.
        shortest: Words of a test transcript that is looked for as a whole where it is shorter than an n-gram; what is
            shorter still is not compared.
        jobs: Processes on this machine.
        executor: `processes`, `local` (Dask on this machine) or the address of a Dask scheduler.
    """
    from egrecho_inner.data.cuts.contamination import STAGE, VERSION, check_rows, runs_of, save_runs
    from egrecho_inner.data.cuts.fields import reference_of
    from egrecho_inner.data.cuts.index import CutIndex
    from egrecho_inner.data.cuts.line_pass import run_pass

    if shortest > ngram:
        raise ConfigError(f"shortest is {shortest}, more than ngram, {ngram}")
    runs = {}
    for name, path in name_manifests(against, "against").items():
        runs[name], counts = runs_of((reference_of(cut).text or "" for cut in CutIndex(path)), ngram, shortest)
        print(f"{name}: {', '.join(f'{number:,} texts {how}' for how, number in sorted(counts.items()))}")
    place = Path(out).absolute()
    file = place.with_name(f".{place.name}.runs.npz")
    digest = save_runs(file, runs)
    settings = {"version": VERSION, "ngram": ngram, "shortest": shortest, "runs": str(file), "digest": digest}
    done = run_pass(STAGE, cuts, out, check_rows, settings, jobs, executor)
    file.unlink()
    if done is None:
        print(f"{out}: already done")
    else:
        print(f"{out}: {done[1].summary(int(done[0]['cuts']), 'cuts')}")


decontaminate.positional = ["cuts", "out"]

if __name__ == "__main__":
    run(decontaminate)
