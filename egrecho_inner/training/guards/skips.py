"""Training cuts that could not be used: each counts once, whichever process meets it and however often.

In: what this process's batches left out. Out: the same list on all processes, kept in checkpoints, and the end of the
run when it is too long. A cut that can be used again is taken off.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import write_json
from egrecho_inner.training import collectives

logger = logging.getLogger(__name__)


class Skips:
    """Cuts that could not be used when they were last tried.

    Args:
        most: How many are allowed.
        run: The run folder, for the list.
    """

    def __init__(self, most: float, run: Path):
        self.most, self.path = most, run / "skipped.json"
        self.reasons: dict[str, str] = {}
        """Of each cut; the same on all processes."""
        self.news: dict[str, str | None] = {}
        """What this process found out since the last `share`: a reason, or None where a cut can be used again."""
        self.tokens: float | None = None
        """Target tokens of all processes since the start; None before its first step. Without any, nothing is saved."""

    def note(self, used: Iterable[str], skipped: Iterable[tuple[str, str]]) -> None:
        """Take down a batch.

        Args:
            used: The cuts in it.
            skipped: Those that were to be in it, with the reasons.
        """
        for cut in self.reasons.keys() & set(used):
            self.news[cut] = None
        for cut, reason in skipped:
            if cut not in self.reasons:
                logger.warning("left out: %s", reason)
                self.news[cut] = reason

    def share(self, tokens: float, news: bool, main: bool) -> None:
        """Put together what all processes found out in a step; all call it with the same arguments but for `main`.

        Args:
            tokens: Target tokens of the step, of all processes.
            news: Whether one of them has news.
            main: Whether this process writes the list.

        Raises:
            DataError: More cuts than allowed could not be used.
        """
        self.tokens = (self.tokens or 0.0) + tokens
        if news:
            for found in collectives.gather(self.news):
                for cut, reason in found.items():
                    if reason is None:
                        self.reasons.pop(cut, None)
                    else:
                        self.reasons[cut] = reason
            self.news = {}
        if len(self.reasons) > self.most:
            self.end(f"more than data.max_skip_ratio allows ({self.most:.0f})", main)

    def check_used(self, main: bool) -> None:
        """After training: see that something was learned.

        Raises:
            DataError: Not one cut could be used.
        """
        if self.reasons and self.tokens == 0:
            self.end("and nothing was trained", main)

    def end(self, why: str, main: bool) -> None:
        """End the run.

        Raises:
            DataError: Always.
        """
        if main:
            write_json(self.path, self.reasons)
        raise DataError(
            f"{len(self.reasons)} training cuts could not be used, {why}; first: {next(iter(self.reasons.values()))}; "
            f"all are in {self.path}; fix the data or raise the limit"
        )
