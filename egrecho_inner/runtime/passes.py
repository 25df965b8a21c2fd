"""A resumable pass over a manifest in shards: what is done stays done, whatever is killed; what failed is tried again.

In: the shards (runs of the manifest's positions, each with a digest of what it reads) and the settings. Out: for each
shard its lines and, written last, a marker with its key and its skips; of all shards one manifest, and a note with the
key and the digest of that manifest. Shards may be worked on by any number of processes, on any machine that sees the
folder, with any working folder.

A shard is done while its key is: other settings, other lines or another file of audio behind them make another key.
A skip whose cause may pass (a file that could not be read) is a `Fault`: it is counted like every skip, but its item is
tried again at the next start, and where it works by then its shard is done anew. It is never remembered as done.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from egrecho_inner.errors import ConfigError, MachineError
from egrecho_inner.runtime.files import (
    atomic_file,
    digest_file,
    read_lines,
    sweep,
    write_json,
    write_jsonl,
    write_lines,
)
from egrecho_inner.runtime.ledger import Ledger, Skip
from egrecho_inner.runtime.progress import watched as watched  # every pass is a long loop

T = TypeVar("T")
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Fault(Skip):
    """A skip whose cause may pass: a file that could not be read, for instance."""

    position: int = 0
    """Of the item in its manifest."""


@dataclass(frozen=True)
class Shard:
    """One task: a run of positions. Its files are `STEM.ENDING`; the path is absolute, for workers anywhere."""

    stem: str
    number: int
    first: int
    last: int
    """Behind the last position."""
    key: str

    def __len__(self) -> int:
        return self.last - self.first

    @property
    def positions(self) -> range:
        """Positions in the manifest."""
        return range(self.first, self.last)

    def path(self, ending: str) -> Path:
        """Return the path of one of its files."""
        return Path(f"{self.stem}.{ending}")

    def finish(self, lines: Iterable[str], skips: Iterable[Skip], facts: Facts | None = None) -> int:
        """Write its lines, then the marker that it is done; return how many lines.

        Args:
            lines: Of its result.
            skips: What was left out.
            facts: Counts that the stage adds up over all shards.
        """
        count = write_jsonl(self.path("jsonl"), lines)
        done = {"key": self.key, "lines": count, "skips": [asdict(skip) for skip in skips]}
        write_json(self.path("done"), {**done, "facts": facts} if facts else done, indent=None)
        return count


class Pass:
    """A stage over a manifest.

    Args:
        stage: Its name in the ledger.
        folder: Of the shards' files.
        name: What these begin with, `NAME-NUMBER.ENDING`.
        note: JSON file that holds what the result was made with; it is complete before the result is.
        settings: All but the manifest that the result depends on.
        parts: For each shard its first position, the one behind its last, and a digest of what it reads.
        out: Manifest that is joined of the shards' lines; None where the shards themselves are the result.
        products: Endings of the files of a shard that stay when all is done.
    """

    def __init__(
        self,
        stage: str,
        folder: Path,
        name: str,
        note: Path,
        settings: Facts,
        parts: Sequence[tuple[int, int, str]],
        out: Path | None = None,
        products: tuple[str, ...] = (),
    ):
        self.stage, self.folder, self.name, self.note = stage, folder, name, note
        self.out, self.products, self.settings = out, products, settings
        stem = str((folder / name).absolute())
        self.shards = [
            Shard(f"{stem}-{number}", number, first, last, make_key(settings=settings, reads=reads))
            for number, (first, last, reads) in enumerate(parts)
        ]
        self.key = make_key(shards=[shard.key for shard in self.shards])

    @property
    def total(self) -> int:
        """Items of the manifest."""
        return sum(map(len, self.shards))

    def is_finished(self) -> bool:
        """Tell whether the result is there, made of this very manifest with these settings, and unchanged since."""
        note = read_note(self.note)
        if note.get("key") != self.key or not all(map(self.has_products, self.shards)):
            return False
        return self.out is None or (self.out.is_file() and digest_file(self.out) == note.get("sha256"))

    def begin(self, works: Callable[[int], bool], refusal: str = "") -> bool:
        """Find out what is left to do; only the first of several processes does. Return whether anything is.

        Args:
            works: Tries the item at a position that failed at an earlier start.
            refusal: Why a result that was made otherwise is not replaced, for the message; empty where it is.

        Raises:
            ConfigError: It is not to be replaced.
        """
        for folder in {self.folder, self.note.parent, (self.out or self.note).parent}:
            if folder.is_dir():
                sweep(folder)
        if self.is_finished():
            if not self.reopen(works):
                self.clean()
                return False
        elif refusal and self.out is not None and self.out.exists():
            raise ConfigError(f"{self.out} is there, {refusal}")
        else:
            self.restore()
            self.reopen(works)
        if self.out is not None:
            self.out.unlink(missing_ok=True)  # what it points at is about to change
        self.note.unlink(missing_ok=True)
        self.remove_stale()
        return True

    def reopen(self, works: Callable[[int], bool]) -> bool:
        """Take back the markers of shards with a fault that is gone; return whether there were any."""
        gone = [
            shard
            for shard in self.shards
            if any(works(skip["position"]) for skip in self.marker(shard).get("skips", ()) if "position" in skip)
        ]
        for shard in gone:
            shard.path("done").unlink()
        return bool(gone)

    def restore(self) -> None:
        """Take the lines of shards that are still good out of an earlier result: not all of its audio was replaced."""
        note = read_note(self.note)
        if self.out is None or "shards" not in note or not self.out.is_file():
            return
        if digest_file(self.out) != note.get("sha256"):
            return
        lines = read_lines(self.out)
        for shard, old in zip(self.shards, note["shards"], strict=False):
            part = list(islice(lines, old["lines"]))
            if shard.key == old["key"] and self.has_products(shard) and not self.is_done(shard):
                shard.finish(part, (Skip(**skip) for skip in old["skips"]), old.get("facts"))

    def remove_stale(self) -> None:
        """Remove the files of shards that there are no more, and markers of other keys."""
        pattern = re.compile(rf"{re.escape(self.name)}-(\d+)\.\w+")
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            found = pattern.fullmatch(path.name)
            if (found and int(found[1]) >= len(self.shards)) or (
                found and path.suffix == ".done" and not self.is_done(self.shards[int(found[1])])
            ):
                path.unlink(missing_ok=True)

    def open(self, rank: int = 0, world: int = 1) -> list[Shard]:
        """Return the shards that are not done, of those that are a process's share."""
        return [shard for shard in self.shards[rank::world] if not self.is_done(shard)]

    def marker(self, shard: Shard) -> dict[str, Any]:
        """Return what a shard's marker holds; nothing where it is of another key or has not all its files."""
        found = read_note(shard.path("done"))
        complete = found.get("key") == shard.key and shard.path("jsonl").is_file() and self.has_products(shard)
        return found if complete else {}

    def is_done(self, shard: Shard) -> bool:
        """Tell whether a shard is complete."""
        return bool(self.marker(shard))

    def has_products(self, shard: Shard) -> bool:
        """Tell whether the files of a shard that stay are there."""
        return all(shard.path(ending).is_file() for ending in self.products)

    def collect(self, ledger: Ledger, max_skip_ratio: float, what: str) -> Ledger:
        """Write the ledger of all shards' skips and refuse to go on with too many.

        Raises:
            DataError: More than a share of the items was left out.
            MachineError: A shard is missing: another process did not see this folder.
        """
        for shard in self.shards:
            if not (found := self.marker(shard)):
                raise MachineError(
                    f"{shard.path('done')} is missing; all processes must see one folder, and one file system"
                )
            for skip in found["skips"]:
                ledger.add(skip["id"], self.stage, skip["reason"], skip["value"], skip["seconds"])
        if ledger.skips or ledger.path.exists():
            ledger.write(self.stage)
        ledger.check_limit(self.total, max_skip_ratio, what)
        return ledger

    def lines(self) -> Iterator[str]:
        """Yield the lines of all shards in order."""
        for shard in self.shards:
            yield from read_lines(shard.path("jsonl"))

    def finalize(self, facts: Callable[[], Facts] = dict, lines: Iterable[str] | None = None) -> None:
        """Join the shards, write the note, and remove what only an unfinished pass needs.

        Args:
            facts: Returns what else the note holds; called when all lines are written.
            lines: Those of the shards, looked at on their way.
        """
        if self.out is None:
            write_json(self.note, {"key": self.key, **facts()})
        else:
            publish(self.out, self.note, lines or self.lines(), lambda: {"key": self.key, **facts()})
        self.clean()

    def summary(self) -> list[dict[str, Any]]:
        """Return keys, counts and skips of the shards, for `restore`; nothing while faults are open."""
        found = [self.marker(shard) for shard in self.shards]
        return [] if self.has_faults() else found

    def has_faults(self) -> bool:
        """Tell whether something was left out that may work at another time."""
        return any("position" in skip for shard in self.shards for skip in self.marker(shard).get("skips", ()))

    def clean(self) -> None:
        """Remove markers and lines that the result has; where faults are open, their shards may yet be done again."""
        if self.has_faults():
            return
        for shard in self.shards:
            for ending in {"done", "jsonl"} - {*self.products}:
                shard.path(ending).unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def publish(out: Path, note: Path, lines: Iterable[str], facts: Callable[[], Facts]) -> None:
    """Write a manifest and beside it what it was made with; the manifest takes its name last.

    Args:
        out: `.jsonl` or `.jsonl.gz`.
        note: JSON file for the facts and the manifest's SHA-256.
        lines: Of the manifest.
        facts: Called when all lines are written; may raise, then nothing is.
    """
    with atomic_file(out, keep_same=True) as file:
        write_lines(file, lines, packed=out.suffix == ".gz")
        file.flush()
        known = facts()
        write_json(note, {**known, "sha256": digest_file(file.name)})


def read_note(path: Path) -> dict[str, Any]:
    """Read a JSON file of ours; one that is absent or damaged is empty."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def make_key(**facts: Any) -> str:
    """Return a short name of everything that something depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
