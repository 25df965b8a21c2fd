"""Duration statistics of a cut manifest of any size: one pass, eight bytes of memory for each cut, exact quantiles.

In: a `.jsonl` or `.jsonl.gz` of Lhotse cuts; out: `DurationStatistics` and the table that `lhotse cut describe` begins
with, same numbers. Lhotse builds every cut as an object; here the duration is read off the start of the line where
nothing but plain keys and values stand before it, and the line is parsed as JSON where anything else does.
Left out: the speech and speaker statistics of Lhotse's second table.
"""

import gzip
import io
import json
import math
import re
import zlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from egrecho_inner.errors import DataError

QUANTILES = (25, 50, 75, 99, 99.5, 99.9)

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_NUMBER = rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_SCALAR = rb"(?:" + _STRING + rb"|" + _NUMBER + rb"|true|false|null)"
# An object's start: keys with strings, numbers or constants, then "duration". What is inside a string, a nested object
# or a list cannot be mistaken for it, because every byte from the opening brace on is accounted for. The first branch
# is the form that Lhotse writes; it only saves time.
_TOP_LEVEL_DURATION = re.compile(
    rb'(?:\{"id": ' + _STRING + rb', "start": ' + _NUMBER + rb", |"
    rb'\s*\{\s*(?:(?!"duration")' + _STRING + rb"\s*:\s*" + _SCALAR + rb"\s*,\s*)*)"
    rb'"duration"\s*:\s*(' + _NUMBER + rb")\s*[,}]"
)
_BUFFER = 1 << 18  # bytes; gzip's own 8 kB cost an eighth of the time


@dataclass(frozen=True)
class DurationStatistics:
    """Seconds of audio by cut."""

    durations: np.ndarray
    """(N,) float64."""

    @property
    def count(self) -> int:
        return len(self.durations)

    @property
    def total(self) -> float:
        return float(self.durations.sum())

    def as_dict(self) -> dict[str, float | int | None]:
        """Return all figures in seconds, unrounded; None where there is no cut."""
        figures: dict[str, float | int | None] = {"count": self.count, "total": self.total}
        names = ["mean", "std", "min", *(f"{q}%" for q in QUANTILES), "max"]
        if not self.count:
            return figures | dict.fromkeys(names)
        values = [
            *(self.durations.mean(), self.durations.std(), self.durations.min()),
            *np.percentile(self.durations, QUANTILES),
            self.durations.max(),
        ]
        return figures | {name: float(value) for name, value in zip(names, values, strict=True)}

    def table(self) -> str:
        """Return the table of `local/display_manifests.py`."""
        figures = self.as_dict()
        rows = [["Cuts count:", figures.pop("count")], ["Total duration (hh:mm:ss)", clock(figures.pop("total"))]]
        rows += [[name, "n/a" if value is None else f"{value:.1f}"] for name, value in figures.items()]
        return tabulate(rows, tablefmt="fancy_grid", disable_numparse=True)


def clock(seconds: float) -> str:
    """Write seconds as hh:mm:ss, rounded up to whole seconds first, so that no field ever shows 60."""
    whole = math.ceil(round(seconds, 6))  # a sum of many floats may be a hair above a whole second
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def read_statistics(path: str | Path) -> DurationStatistics:
    """Gather the durations of all cuts of a manifest."""
    durations = array("d", read_durations(path))
    return DurationStatistics(np.frombuffer(durations, dtype=np.float64))


def join(parts: list[DurationStatistics]) -> DurationStatistics:
    """Join the statistics of several manifests."""
    return DurationStatistics(np.concatenate([part.durations for part in parts]))


def read_durations(path: str | Path) -> Iterator[float]:
    """Yield the duration of each cut in seconds.

    Raises:
        DataError: the file is missing, cut off or no manifest, or a line has no duration; names file and line.
    """
    path = Path(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise DataError(f"{path}: expected a manifest that ends in .jsonl or .jsonl.gz")
    number = 0
    try:
        raw = gzip.GzipFile(path, "rb") if path.suffix == ".gz" else io.FileIO(path)
        with io.BufferedReader(raw, _BUFFER) as file:
            for number, line in enumerate(file, start=1):
                match = _TOP_LEVEL_DURATION.match(line)
                # a line that was cut off ends in the middle of an object
                if match and line.rstrip().endswith(b"}"):
                    yield float(match[1])
                elif line.strip():
                    yield _parsed_duration(line, f"{path}:{number}")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run prepare.sh, or give the path of a cut manifest") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: broken gzip after line {number} ({error}); write the manifest again") from error


def _parsed_duration(line: bytes, where: str) -> float:
    try:
        duration = duration_of(json.loads(line))
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}); expected one cut to a line") from error
    except (KeyError, TypeError) as error:
        raise DataError(f"{where}: a cut without a duration; expected a manifest of cuts") from error
    if not math.isfinite(duration):
        raise DataError(f"{where}: duration is {duration}; expected seconds")
    return duration


def duration_of(row: Mapping[str, Any]) -> float:
    """Return the seconds of a cut's JSON; of a MixedCut as Lhotse computes it, where its last audible track ends."""
    if "tracks" not in row:
        return float(row["duration"])
    audible = [track for track in row["tracks"] if not track.get("mute")] or row["tracks"]
    return round(max(float(track.get("offset", 0)) + float(track["cut"]["duration"]) for track in audible), 8)
