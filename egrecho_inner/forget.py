#!/usr/bin/env python3
"""`egrecho forget`: what a tuned model forgot of what its base knew, and how much of each to keep.

    egrecho forget openai-whisper-small/ exp/mine/full/final --cuts '[mine=data/dev.jsonl, other=data/other.jsonl]' \
        --out exp/mine/forget

In: a base, the model tuned from it, sets of both kinds. Out: `forget.json`, `forget.md`, `forget.svg`: error rates of
both and of models between them (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"), and the weight with
the lowest mean over the sets. `egrecho average BASE TUNED --weights` then writes that model.
"""

import logging
from pathlib import Path
from typing import Literal

from egrecho_inner.config import run
from egrecho_inner.config_names import name_manifests
from egrecho_inner.config_types import ClosedUnitInterval, PositiveInt
from egrecho_inner.decoding.options import DecodeOptions

logger = logging.getLogger(__name__)


def forget(
    base: str,
    tuned: str,
    cuts: list[str],
    out: str,
    weights: list[ClosedUnitInterval] | None = None,
    metric: Literal["auto", "wer", "cer"] = "auto",
    normalizer: str = "auto",
    decode: DecodeOptions = DecodeOptions(),
    limit: PositiveInt | None = None,
    device: str = "auto",
) -> None:
    """Measure a base, its tuned model and the models between them on several sets.

    Args:
        base: Model folder that the training began with.
        tuned: Model folder that it ended with.
        cuts: Manifests, of the tuned task and of others; NAME=PATH names a set other than by its file.
        out: Folder of the results.
        weights: Of the tuned model, from 0 (the base) to 1; by default 0, 0.25, 0.5, 0.75, 1.
        metric: Word or character errors; auto takes characters where words have no spaces between them.
        normalizer: Applied to both sides before scoring; auto is the right one for the language.
        decode: How to search.
        limit: Take the first so many cuts of each set.
        device: cpu, cuda, cuda:1, ...; auto is a GPU where there is one.
    """
    from egrecho_inner.decoding.interpolate import interpolated_rates
    from egrecho_inner.report.curve import best_weight, curve_svg, curve_table
    from egrecho_inner.runtime.files import write_json, write_text

    shares = sorted({0.0, 1.0, *(weights if weights is not None else [0.25, 0.5, 0.75])})
    sets = name_manifests(cuts)
    rates = interpolated_rates(base, tuned, shares, sets, decode, normalizer, metric, limit, device)
    best = best_weight(rates)
    found = {"base": base, "tuned": tuned, "best_weight": best, "rates": rates, "decode": decode.window}
    folder = Path(out)
    table = curve_table(rates)
    write_text(folder / "forget.md", f"{table}\n")
    write_text(folder / "forget.svg", curve_svg(rates, best))
    write_json(folder / "forget.json", found)
    print(table)
    keep = f"egrecho average {base} {tuned} --weights '[{1 - best:g}, {best:g}]' --out {out}/model"
    print(f"lowest mean: {best:g} of the tuned model" + (f"; {keep}" if 0 < best < 1 else ""))


forget.positional = ["base", "tuned"]


if __name__ == "__main__":
    run(forget)
