"""One file of a Kaldi data directory: `id value` lines, as tools from thirty years have left them.

In: a path. Out: a `Table` from id to value with line numbers. What can be repaired for sure is repaired and counted as
a warning (byte order mark, CRLF, tabs, order, no final newline, odd spaces in a transcript); what cannot is an error
with file and line. All of a file is read whatever is found, so that one pass shows every fault.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from egrecho_inner.data.sources.findings import Findings

LINE = re.compile(r"([^ \t]+)(?:[ \t]+(.*))?")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
ODD_SPACE = re.compile(r"[\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
NO_MEANING = re.compile(r"[\ufeff\u2060]")  # a stray byte order mark, "word joiner"
# A zero-width space separates words in Khmer and Thai, marks of direction belong to mixed scripts: kept, worth a look.
INVISIBLE = re.compile(r"[\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069]")
UNUSUAL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\xa0\u1680\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ufffd]"
)
UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass
class Table:
    """A file's rows in its own order."""

    path: Path
    rows: dict[str, str] = field(default_factory=dict)
    """From the first field to the rest of the line, without outer blanks."""
    lines: dict[str, int] = field(default_factory=dict)
    """From the first field to its line number, counted from 1."""

    @property
    def name(self) -> str:
        """Return the file's name."""
        return self.path.name

    def where(self, id: str, what: str = "") -> str:
        """Name a row for a message: file, line, id and what stands there."""
        return f"{self.path}:{self.lines[id]}: {id}" + (f" {what}" if what else "")


def read_table(path: Path, findings: Findings, transcript: bool = False) -> Table:
    """Read a file of `id value` lines.

    Args:
        path: the file; must exist.
        findings: takes what is wrong.
        transcript: the values are transcripts: they may be empty, and odd spaces in them become plain ones.
    """
    table, previous = Table(path), ""
    for number, line in _lines(path, findings, transcript):
        where = f"{path}:{number}"
        id, value = LINE.match(line).groups()
        if id in table.rows:
            _duplicate(table, id, value or "", where, findings)
            continue
        if not value and not transcript:
            findings.error("one field only", f"{where}: {id}", "expected `id value`")
        if id < previous:
            findings.warn("not sorted (LC_ALL=C)", f"{where}: {id} after {previous}", "sorted while reading")
        previous = id
        table.rows[id], table.lines[id] = value or "", number
    return table


def _duplicate(table: Table, id: str, value: str, where: str, findings: Findings) -> None:
    first = f"line {table.lines[id]}"
    if value == table.rows[id]:
        findings.error("line twice", f"{where}: {id} (as {first})", "keep one; validate-data --fix true does")
    else:
        both = f"{value[:60]!r}, but {first}: {table.rows[id][:60]!r}"
        findings.error("id twice with different values", f"{where}: {id} {both}", "keep the right one")


def _lines(path: Path, findings: Findings, transcript: bool) -> Iterator[tuple[int, str]]:
    """Yield number and content of each usable line, repaired."""
    if not path.is_file():
        findings.error(
            "no regular file", str(path), "copy its content to a plain file"
        )  # a FIFO is never read to its end
        return
    try:
        data = path.read_bytes()
    except OSError as error:
        findings.error("file cannot be read", f"{path}: {error.strerror}", "give it back its permissions")
        return
    if data.startswith(UTF16):
        findings.error("UTF-16, not UTF-8", str(path), f"iconv -f UTF-16 -t UTF-8 {path} > {path}.utf8")
        return
    if not data.strip():
        findings.error("empty file", str(path), "remove it, or fill it")
        return
    if data.startswith(b"\xef\xbb\xbf"):
        findings.warn("byte order mark", f"{path}:1", "dropped while reading")
        data = data[3:]
    if not data.endswith(b"\n"):
        findings.warn("no newline at the end of the file", str(path), "added while reading")
    lines = data.removesuffix(b"\n").split(b"\n")
    unusual = _is_unusual(data)
    for number, raw in enumerate(lines, 1):
        line = _decode(raw, f"{path}:{number}", findings)
        if line and unusual:
            line = _cleaned(line, f"{path}:{number}", findings, transcript)
        line = _trimmed(line, f"{path}:{number}", findings)
        if line:
            yield number, line


def _is_unusual(data: bytes) -> bool:
    """Tell whether any character of a file needs a second look; one search is faster than one per line."""
    try:
        return bool(UNUSUAL.search(data.decode("utf-8").replace("\r\n", "\n")))
    except UnicodeDecodeError:
        return True


def _decode(raw: bytes, where: str, findings: Findings) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        guess = guess_encoding(raw)
        findings.error(
            "not UTF-8",
            f"{where}: byte 0x{raw[error.start]:02x} at column {error.start + 1}, looks like {guess}: "
            f"{raw.decode(guess, errors='replace').strip()[:60]}",
            f"iconv -f {guess} -t UTF-8 FILE > FILE.utf8",
        )
        # the id is most often plain: known ids keep one bad line from looking like a missing one, too
        return raw.decode("utf-8", errors="ignore")


def guess_encoding(raw: bytes) -> str:
    """Guess the encoding of bytes that are not UTF-8 from the letters that each candidate would give."""
    odd = bytes(byte for byte in raw if byte >= 0x80)
    candidates = (("GB18030", "\u4e00", "\u9fff"), ("SHIFT_JIS", "\u3040", "\u30ff"), ("CP1251", "\u0410", "\u044f"))
    for name, low, high in candidates:
        try:
            letters = odd.decode(name)
        except UnicodeDecodeError:
            continue
        if len(odd) >= 4 and sum(low <= letter <= high for letter in letters) > 0.8 * len(letters):
            return name
    return "ISO-8859-1"


def _cleaned(line: str, where: str, findings: Findings, transcript: bool) -> str:
    """Report characters that should not be there; in a transcript, repair those that can be."""
    body = line.removesuffix("\r")
    control = CONTROL.search(body)
    if control:
        findings.error("control character", f"{where}: U+{ord(control[0]):04X} in {body[:60]!r}", "remove it")
        line = CONTROL.sub("", body)
    if "\ufffd" in line:
        findings.error(
            "replacement character U+FFFD", f"{where}: {line[:60]}", "the text was decoded wrongly: make it anew"
        )
    if not transcript:
        return line
    for pattern, kind, fix in (
        (NO_MEANING, "character without width or meaning", "dropped while reading"),
        (ODD_SPACE, "odd white space", "read as a plain space"),
        (INVISIBLE, "invisible character", "kept; remove it unless the script needs it"),
    ):
        found = pattern.search(line)
        if found:
            findings.warn(kind, f"{where}: U+{ord(found[0]):04X}", fix)
    return ODD_SPACE.sub(" ", NO_MEANING.sub("", line))


def _trimmed(line: str, where: str, findings: Findings) -> str:
    """Drop what stands around the fields, and report it."""
    if line.endswith("\r"):
        findings.warn("CRLF line end", where, "read as LF")
        line = line[:-1]
    if "\t" in line:
        findings.warn("tab", where, "read as a blank")
        line = line.replace("\t", " ")
    bare = line.strip(" ")
    if not bare:
        findings.error("blank line", where, "remove it; validate-data --fix true does")
    elif len(bare) < len(line):
        findings.warn("blanks around the line", where, "dropped while reading")
    return bare
