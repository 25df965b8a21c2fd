"""The ledger of what a stage left out: one line per item in `skipped.jsonl`, a sentence for people, a limit.

In: ids with a reason, as a stage meets them. Out: a JSONL file beside the manifests, written at once and atomically,
sorted by stage and id so that a repeated stage writes the same bytes; several stages may share one file.
The reasons are short and without the item's own numbers ("longer than 30 s"); those go to `value`.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import locked, to_line, write_jsonl


@dataclass(frozen=True)
class Skip:
    """One item that a stage left out."""

    id: str
    stage: str
    reason: str
    value: str | float = ""
    seconds: float = 0.0
    """Of audio that is lost with it; 0 where unknown."""


class Ledger:
    """Collects skips and writes them to one file.

    Args:
        path: the file, usually `skipped.jsonl` beside the manifests; lines of other stages in it are kept.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.skips: list[Skip] = []

    def add(self, id: str, stage: str, reason: str, value: str | float = "", seconds: float = 0.0) -> None:
        """Note one skipped item."""
        self.skips.append(Skip(id, stage, reason, value, round(seconds, 6)))

    def write(self, *stages: str) -> None:
        """Write the file, replacing the earlier lines of these stages (and of those in the ledger)."""
        ours = {skip.stage for skip in self.skips} | set(stages)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.parent):  # splits may be prepared at the same time
            kept = [skip for skip in read_ledger(self.path) if skip.stage not in ours]
            rows = sorted(kept + self.skips, key=lambda skip: (skip.stage, skip.id, skip.reason))
            write_jsonl(self.path, (to_line(asdict(row)) for row in rows))

    def summary(self, total: int, what: str = "utterances") -> str:
        """Return what was kept and why the rest was not, in one sentence.

        Args:
            total: how many items there were, the skipped ones included.
            what: what they are, in the plural.
        """
        kept = total - len(self.skips)
        share = f" ({100 * kept / total:.1f} %)" if total else ""
        text = f"kept {kept:,} of {total:,} {what}{share}"
        if self.skips:
            counts = Counter(skip.reason for skip in self.skips).most_common()
            text += ": " + ", ".join(f"{count:,} {reason}" for reason, count in counts)
            text += f"; {sum(skip.seconds for skip in self.skips) / 3600:.2f} h left out"
        return text

    def check_limit(self, total: int, max_skip_ratio: float, what: str, stages: tuple[str, ...] = ()) -> None:
        """Refuse to go on when more than a share of the items was left out.

        Args:
            total: how many items there were, the skipped ones included.
            max_skip_ratio: the largest share that may be missing; 0 allows none.
            what: names the data in the message.
            stages: count only the skips of these stages; all when empty.

        Raises:
            DataError: with the counts, the first ids and the way out.
        """
        skips = [skip for skip in self.skips if not stages or skip.stage in stages]
        if len(skips) <= max_skip_ratio * total:
            return
        counts = Counter(skip.reason for skip in skips).most_common()
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts)
        first = ", ".join(
            f"{skip.id} ({skip.reason}{f': {skip.value}' if skip.value != '' else ''})" for skip in skips[:5]
        )
        raise DataError(
            f"{what}: {len(skips):,} of {total:,} would be left out, more than the limit of {100 * max_skip_ratio:g} % "
            f"({reasons}); first: {first}; fix them, or allow it with --max_skip_ratio {enough(len(skips), total)}"
        )


def read_ledger(path: str | Path) -> list[Skip]:
    """Read a ledger's lines; an absent file is an empty ledger."""
    path = Path(path)
    if not path.exists():
        return []
    try:
        return [Skip(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: not a ledger of skips ({error}); delete it and run the stage again") from error


def enough(skipped: int, total: int) -> str:
    """Return the smallest three-digit ratio that would let this many pass."""
    return f"{min(1.0, -(-skipped * 1000 // max(total, 1)) / 1000):g}"
