"""The checks of Kaldi's validate_data_dir.sh that the reader does not make: durations, genders, order of speakers.

In: a `DataDir` as `read_data_dir` left it. Out: findings. The reader has those on wav.scp, text, segments, utt2spk,
spk2utt, utt2lang and on lines, order and encoding of every file. Left out: files that nothing here reads (feats.scp,
vad.scp, cmvn.scp, warps, utt2uniq, utt2num_frames, reco2file_and_channel); files that are absent are not missed.
"""

from collections.abc import Callable
from dataclasses import dataclass

from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.kaldi import DataDir, compare_ids
from egrecho_inner.data.sources.tables import Table, read_table


@dataclass(frozen=True)
class TableCheck:
    """What Kaldi demands of one file."""

    name: str
    ids: str
    """Whose ids stand in the first field: utterance, speaker or recording."""
    is_legal: Callable[[str], bool] = bool
    expected: str = "a value"


def _is_positive(value: str) -> bool:
    try:
        return 0 < float(value) < float("inf")
    except ValueError:
        return False


RULES = (
    TableCheck("utt2dur", "utterance", _is_positive, "one number above 0"),
    TableCheck("reco2dur", "recording", _is_positive, "one number above 0"),
    TableCheck("spk2gender", "speaker"),  # its values are checked by the reader, which uses them
)


def check_kaldi(data: DataDir, findings: Findings) -> None:
    """Check what Kaldi would and the reader did not; reads the files that are not in `data` yet."""
    whose = {"utterance": data.tables.get("text"), "recording": data.tables.get("wav.scp"), "speaker": _speakers(data)}
    for rule in RULES:
        if rule.name not in data.tables and (data.path / rule.name).exists():
            data.tables[rule.name] = read_table(data.path / rule.name, findings)
        table, owners = data.tables.get(rule.name), whose[rule.ids]
        if table is None:
            continue
        if owners is not None:
            compare_ids(findings, table, owners, rule.ids)
        for id, value in table.rows.items():
            if value and not rule.is_legal(value):
                findings.error(f"illegal value in {rule.name}", table.where(id, value), f"expected {rule.expected}")
    _check_speakers(data, findings)


def _speakers(data: DataDir) -> Table | None:
    """Return the speakers as a table whose lines are their first ones in utt2spk."""
    source = data.tables.get("utt2spk")
    if source is None:
        return None
    speakers = Table(source.path)
    for id, speaker in source.rows.items():
        speakers.rows.setdefault(speaker, "")
        speakers.lines.setdefault(speaker, source.lines[id])
    return speakers


def _check_speakers(data: DataDir, findings: Findings) -> None:
    """Look at what Kaldi wants of speakers; all of it is good to have and nothing needed here."""
    table = data.tables.get("utt2spk")
    if table is None:
        fix = "write it to see scores by speaker, and to check that no test speaker is in train"
        findings.add("note", "no utt2spk", str(data.path / "utt2spk"), fix)
        return
    if "spk2utt" not in data.tables:
        findings.add("note", "no spk2utt", str(data.path / "spk2utt"), "not used here; --fix true writes it")
    if len(set(table.rows.values())) == 1 and len(table.rows) > 1:
        findings.warn("one speaker only", str(table.path), "fine if it is so")
    previous = ""
    for id in sorted(table.rows):
        if table.rows[id] < previous:
            fix = "Kaldi wants the speaker as a prefix of the utterance's id; not needed here"
            findings.warn("sorted by utterance, not by speaker", table.where(id, f"{table.rows[id]}"), fix)
            return
        previous = table.rows[id]
