"""The tables that test sets are published with, as rows with the line they stand on: columns, STM, `.nlp`.

Nothing is guessed: a missing column, a line with too few fields or a time that is none is an error with file and line.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from egrecho_inner.errors import DataError

IGNORED = "ignore_time_segment_in_scoring"
csv.field_size_limit(2**24)  # an hour's transcript stands in one field


class Row(NamedTuple):
    """A row with its place."""

    where: str
    values: dict[str, str]


def read_rows(
    path: Path, wanted: Sequence[str], delimiter: str = "\t", quoted: bool = False, heads: Sequence[str] | None = None
) -> Iterator[Row]:
    """Read a table of columns.

    Args:
        path: The file, UTF-8.
        wanted: Columns that must be there.
        delimiter: Between fields.
        quoted: Whether `"` encloses fields; in most corpora it is an ordinary character of a sentence.
        heads: Names of the columns of a file that does not name them itself.

    Raises:
        DataError: With the file and line.
    """
    style = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=delimiter, quoting=style)
            names = list(heads or next(rows, []))
            if missing := [name for name in wanted if name not in names]:
                raise DataError(f"{path}:1: no column {', '.join(missing)}; found {', '.join(names)[:200]}")
            for fields in rows:
                where = f"{path}:{rows.line_num}"
                if not fields:
                    continue
                if len(fields) < max(names.index(name) for name in wanted) + 1:
                    raise DataError(f"{where}: {len(fields)} fields, expected {len(names)}; the file is torn or edited")
                yield Row(where, dict(zip(names, fields, strict=False)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} does not read ({error})") from error


class Stm(NamedTuple):
    """A segment of an STM file (NIST's segment time marks)."""

    where: str
    name: str
    channel: str
    speaker: str
    start: float
    end: float
    text: str

    @property
    def ignored(self) -> bool:
        """Whether scoring passes over it."""
        return self.text.lower().startswith(IGNORED) or self.speaker == "inter_segment_gap"

    @property
    def id(self) -> str:
        """Name it as Kaldi's recipes do: the side, then its times in hundredths of a second."""
        return f"{self.name}-{self.channel}_{round(100 * self.start):06d}-{round(100 * self.end):06d}"


LABEL = re.compile(r"<[^<>\s]*,[^<>\s]*>\s*")


def read_stm(path: Path) -> Iterator[Stm]:
    """Read an STM file; comments (`;;`) and the label of a segment (`<O,en,F,en-F>`) are passed over.

    Raises:
        DataError: With the file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} does not read ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(";;"):
            continue
        fields = line.split(maxsplit=5)
        try:
            start, end = float(fields[3]), float(fields[4])
        except (IndexError, ValueError) as error:
            raise DataError(f"{path}:{number}: expected `file channel speaker start end <label> text`") from error
        if not 0 <= start < end:
            raise DataError(f"{path}:{number}: a segment from {start:g} to {end:g} s; expected a start before its end")
        text = LABEL.sub("", fields[5], count=1).strip() if len(fields) > 5 else ""
        yield Stm(f"{path}:{number}", *fields[:3], start, end, text)


def read_nlp(path: Path) -> str:
    """Join the tokens of a Rev `.nlp` file with their punctuation; `<laugh>`, `<crosstalk>` and the like are no words.

    Raises:
        DataError: It has no such columns.
    """
    words = []
    for row in read_rows(path, ["token", "punctuation"], delimiter="|"):
        token = row.values["token"].strip()
        if not (token.startswith("<") and token.endswith(">")):
            words.append(f"{row.values.get('prepunctuation') or ''}{token}{row.values['punctuation'].strip()}")
    return " ".join(words)


def to_seconds(clock: str, where: str) -> float:
    """Read `1:02:03.45`, `2:03.4` or `3.4` as seconds.

    Raises:
        DataError: It is none of them.
    """
    try:
        parts = [float(part) for part in clock.strip().split(":")]
        if len(parts) > 3 or any(part < 0 or (place and part >= 60) for place, part in enumerate(parts)):
            raise ValueError
    except ValueError as error:
        raise DataError(f"{where}: '{clock}' is no time; expected hours:minutes:seconds") from error
    return sum(part * 60**place for place, part in enumerate(reversed(parts)))
