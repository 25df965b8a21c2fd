"""Scores of checkpoints that another process evaluates: where they are, whether of the present weights, the best.

In: `scores/checkpoint-N.json` of a run folder. Which weights a score is of is known by the digest of the checkpoint's
marker, which holds the digests of its files.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from egrecho_inner.runtime.files import digest_file
from egrecho_inner.training.checkpoints.leases import holder

MARKER = "_COMPLETE.json"
"""Written last into the folder of a checkpoint."""
SCORES = "scores"
"""Folder in that of the run."""


def score_path(run: Path, name: str) -> Path:
    """Return where the scores of a checkpoint are."""
    return run / SCORES / f"{name}.json"


def is_scored(run: Path, name: str) -> bool:
    """Tell whether a checkpoint has been scored, with the weights that it has now."""
    marker = run / name / MARKER
    found = holder(score_path(run, name))
    return bool(found) and marker.is_file() and found.get("marker") == digest_file(marker)


def best_scored(run: Path, names: Iterable[str]) -> dict[str, Any]:
    """Return the checkpoint of the lowest error rate among those that are there and scored; empty where none is.

    Args:
        run: The run folder.
        names: Checkpoints, newest first; of equal ones the later wins.
    """
    found = [holder(score_path(run, name)) | {"checkpoint": name} for name in names if is_scored(run, name)]
    rated = [each for each in found if each.get("score") is not None]
    if not rated:
        return {}
    best = min(rated, key=lambda each: each["score"])
    return {key: best[key] for key in ("checkpoint", "metric", "score")}
