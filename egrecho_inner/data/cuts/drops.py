"""The ledger of a stage that drops many cuts of a manifest: a line each on the disk, totals in memory.

In: drops as they are met. Out: `NAME.dropped.jsonl.gz` beside the manifest, and totals by reason. Seconds are counted
in whole microseconds, so that kept and dropped add up to what there was, exactly.
"""

import gzip
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from egrecho_inner.runtime.files import atomic_file, to_line

MICRO = 1_000_000
KEPT = "kept"


class Drops:
    """A ledger that is open as long as its manifest is written; the file appears when the block ends well.

    Args:
        out: The manifest.
    """

    def __init__(self, out: Path):
        self.path = out.with_name(f"{out.name.removesuffix('.gz').removesuffix('.jsonl')}.dropped.jsonl.gz")
        self.cuts: Counter[str] = Counter()
        """By reason, KEPT among them."""
        self.micro: Counter[str] = Counter()
        """Microseconds, likewise."""
        self._stack = ExitStack()
        self._file: gzip.GzipFile | None = None

    def __enter__(self) -> "Drops":
        raw = self._stack.enter_context(atomic_file(self.path))
        self._file = self._stack.enter_context(gzip.GzipFile("", "wb", 6, raw, mtime=0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def keep(self, seconds: float) -> None:
        """Count a cut that stays."""
        self.cuts[KEPT] += 1
        self.micro[KEPT] += round(seconds * MICRO)

    def add(self, name: str, reason: str, value: Any, seconds: float) -> None:
        """Note a cut that is dropped."""
        self.cuts[reason] += 1
        self.micro[reason] += round(seconds * MICRO)
        line = to_line({"id": name, "reason": reason, "value": value, "seconds": seconds})
        self._file.write(f"{line}\n".encode())

    def facts(self) -> dict[str, Any]:
        """Return the totals for the note beside the manifest."""
        ledger = [
            {"reason": reason, "cuts": self.cuts[reason], "seconds": self.micro[reason] / MICRO}
            for reason in sorted(self.cuts)
        ]
        return {"cuts": sum(self.cuts.values()), "kept": self.cuts[KEPT], "ledger": ledger}

    def summary(self) -> str:
        """Return the totals in one line."""
        total = sum(self.cuts.values())
        reasons = [
            f"{self.cuts[reason]:,} {reason} ({self.micro[reason] / MICRO / 3600:.2f} h)"
            for reason in sorted(self.cuts)
            if reason != KEPT
        ]
        hours = f"{self.micro[KEPT] / MICRO / 3600:.2f} of {sum(self.micro.values()) / MICRO / 3600:.2f} h"
        return f"kept {self.cuts[KEPT]:,} of {total:,} cuts, {hours}; dropped {', '.join(reasons) or 'none'}"
