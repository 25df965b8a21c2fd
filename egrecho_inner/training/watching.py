"""Evaluating the checkpoints of a run beside it, in another process, perhaps on another machine.

In: a run folder that is being trained, test sets. Out: for each checkpoint `scores/checkpoint-N/` (a result folder of
`egrecho eval`) and `scores/checkpoint-N.json`, a line in the run's `metrics.jsonl`, and, when asked to, the choice of
the checkpoint that becomes the result. Which are scored is known by the digest of the checkpoint's files: one that was
written again with other weights is scored again.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.decoding.hypotheses import remove_logs
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.resumable import Decoder, choose_place, decode_set
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.loading import load_model, load_processor, save_folder
from egrecho_inner.results.folder import write_result
from egrecho_inner.results.references import Reference
from egrecho_inner.results.scores import score_set, summarize
from egrecho_inner.runtime.files import digest_file, write_json
from egrecho_inner.text.scoring import percent
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints import leases
from egrecho_inner.training.checkpoints.scores import SCORES, is_scored, score_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sets:
    """What checkpoints are scored on, and how."""

    indexes: Mapping[str, CutIndex]
    references: Mapping[str, list[Reference]]
    normalizer: str
    metric: str
    decode: DecodeOptions
    device: str
    dtype: str


def config_of(run: Path) -> dict[str, Any]:
    """Return the configuration of a run.

    Raises:
        ConfigError: It has none yet, or trains an adapter.
    """
    path = run / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{run} has no config.yaml; give the folder of a run that trains, or wait until it has begun")
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if found.get("lora"):
        raise ConfigError(f"{run} trains an adapter, whose checkpoints are no models; merge and evaluate its result")
    return found


def open_steps(run: Path) -> list[str]:
    """Return the complete checkpoints that are not scored yet, newest first."""
    found = [path for _, path in checkpoint.steps(run) if checkpoint.fault(path, contents=False) is None]
    return [path.name for path in found if not is_scored(run, path.name)]


def watch_once(run: Path, sets: Sets, choose: bool) -> int:
    """Score the checkpoints that are there and that nobody else scores; return how many."""
    count = 0
    for name in open_steps(run):
        with leases.lease(run, name) as held:
            # it may have been deleted, or scored, since it was listed
            if not held or checkpoint.fault(run / name, contents=False) is not None or is_scored(run, name):
                continue
            score_checkpoint(run, name, sets)
            count += 1
            if choose:
                checkpoint.choose_best(run)
    return count


def score_checkpoint(run: Path, name: str, sets: Sets) -> None:
    """Decode and score the sets with a checkpoint, and report to the run."""
    config, folder = config_of(run), run / name
    marker = digest_file(folder / checkpoint.MARKER)
    processor = load_processor(config["model"]["path"])
    model = load_model(str(folder))
    written: dict[str, dict[str, Any]] = {}
    place = run / SCORES / f".{name}.model"  # only the holder of the lease writes there
    shutil.rmtree(place, ignore_errors=True)
    save_folder(model, processor, place, (config.get("window") or {}).get("window", "longest"))
    del model
    decoder = Decoder(str(place), sets.decode, choose_place(sets.device, sets.dtype))
    for each, index in sets.indexes.items():
        out = run / SCORES / name / each
        decoded = decode_set(decoder, index, sets.references[each], out, False)
        scored = score_set(sets.references[each], decoded.hypotheses, sets.normalizer, sets.metric)
        written[each] = summarize(scored, list(decoded.hypotheses.values()), decoded.wall) | decoded.facts
        write_result(out, sets.references[each], decoded.hypotheses, scored, written[each])
        remove_logs(out)
    shutil.rmtree(place)
    report_scores(run, name, marker, written)


def report_scores(run: Path, name: str, marker: str, written: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the scores of a checkpoint, and a line of metrics.jsonl, as the run itself writes them."""
    step = int(name.removeprefix(checkpoint.PREFIX))
    rates = {each: found["error_rate"] for each, found in written.items() if found["error_rate"] is not None}
    metrics = {found["metric"] for found in written.values()}
    metric = metrics.pop() if len(metrics) == 1 else "error_rate"
    mean = fmean(rates.values()) if rates else None
    line = {"step": step} | {f"eval_{written[each]['metric']}_{each}": rate for each, rate in rates.items()}
    if mean is not None:
        line[f"watched_{metric}"] = mean
    handle = os.open(run / "metrics.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, f"{json.dumps(line)}\n".encode())  # one write: lines of two processes do not mix
    finally:
        os.close(handle)
    write_json(score_path(run, name), {"marker": marker, "metric": metric, "score": mean, "sets": rates, "step": step})
    shown = ", ".join(f"{each} {percent(rate)}" for each, rate in rates.items())
    logger.info("%s: %s %s %% (%s)", name, metric, percent(mean), shown)


def is_over(run: Path) -> bool:
    """Tell whether a run has made its result."""
    return (run / "final" / "training.json").is_file()
