"""Scores of checkpoints that another process evaluates: where they are, and whether they are of the weights of now."""

from pathlib import Path

from egrecho_inner.runtime.files import digest_file
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints.leases import holder

SCORES = "scores"
"""Folder in that of the run."""


def score_path(run: Path, name: str) -> Path:
    """Return where the scores of a checkpoint are."""
    return run / SCORES / f"{name}.json"


def is_scored(run: Path, name: str) -> bool:
    """Tell whether a checkpoint has been scored, with the weights that it has now."""
    marker = run / name / checkpoint.MARKER
    found = holder(score_path(run, name))
    return bool(found) and marker.is_file() and found.get("marker") == digest_file(marker)
