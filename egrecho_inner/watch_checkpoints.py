#!/usr/bin/env python
"""Evaluate the checkpoints of a run while it goes on, in a process of its own: on another GPU, a CPU, another machine.

    egrecho watch-checkpoints exp/mine --cuts data/eval/fleurs.jsonl.gz data/eval/wsj.jsonl.gz --device cpu

It takes each checkpoint as it appears, keeps training from deleting it meanwhile, and writes a line into the run's
`metrics.jsonl` and the results into `scores/checkpoint-N/`. Several may watch one run; of one that is killed another
takes over, or itself started again. With `--choose true` the checkpoint of the lowest mean error rate becomes the
result: it is kept, the newest five that have no score yet are not deleted, and training waits at its end until the last
ones are scored. Ends when the run has ended.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from egrecho_inner.config import run as run_program
from egrecho_inner.config_names import name_manifests
from egrecho_inner.config_types import PositiveFloat, PositiveInt
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.errors import ConfigError
from egrecho_inner.text.languages import language_code

if TYPE_CHECKING:
    from egrecho_inner.training.watching import Sets


def watch_checkpoints(
    run: str,
    cuts: list[str] | str,
    choose: bool = False,
    once: bool = False,
    normalizer: str = "auto",
    metric: Literal["auto", "wer", "cer"] = "auto",
    decode: DecodeOptions = DecodeOptions(),
    device: str = "auto",
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
    limit: PositiveInt | None = None,
    interval: PositiveFloat = 10.0,
) -> None:
    """Evaluate the checkpoints of a run as they appear.

    Args:
        run: The run folder.
        cuts: Manifest of cuts, or a list of them; NAME=PATH names a set other than by its file.
        choose: Let the lowest mean error rate decide which checkpoint becomes the result.
        once: Evaluate those that are there, and end.
        normalizer: As of egrecho eval.
        metric: As of egrecho eval.
        decode: How to search.
        device: cpu, cuda, cuda:1, ...; auto is a GPU where there is one, which training may need for itself.
        dtype: Type of the weights; auto is float16 on a GPU, float32 elsewhere.
        limit: Take the first so many cuts of each set.
        interval: Seconds between two looks at the run.
    """
    from egrecho_inner.data.cuts.index import CutIndex
    from egrecho_inner.model.loading import load_processor
    from egrecho_inner.results.references import read_references
    from egrecho_inner.training import watching
    from egrecho_inner.training.checkpoints import leases

    place = Path(run)
    processor = load_processor(watching.config_of(place)["model"]["path"])
    language = decode.language and language_code(decode.language)
    indexes = {name: CutIndex(path) for name, path in name_manifests(cuts).items()}
    n_mels = processor.feature_extractor.feature_size
    references = {name: read_references(index, limit, n_mels, language) for name, index in indexes.items()}
    sets = watching.Sets(indexes, references, normalizer, metric, decode, device, dtype)
    if not choose:
        follow(place, sets, False, once, interval)
        return
    with leases.lease(place, leases.CHOOSER) as held:
        if not held:
            raise ConfigError(f"another process chooses the result of {run} already; start this one without --choose")
        follow(place, sets, True, once, interval)


watch_checkpoints.positional = ["run"]


def follow(place: Path, sets: Sets, choose: bool, once: bool, interval: float) -> None:
    """Score what is there, again and again, until the run has ended and nothing is left."""
    from egrecho_inner.training import watching

    while True:
        over = watching.is_over(place)  # before looking: what was written before the end is still scored
        scored = watching.watch_once(place, sets, choose)
        if once or (over and not scored):
            return
        if not scored:
            time.sleep(interval)


if __name__ == "__main__":
    run_program(watch_checkpoints)
