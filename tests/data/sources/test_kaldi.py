"""The Kaldi reader on anything that can stand in a file."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.kaldi import read_data_dir
from egrecho_inner.data.sources.tables import read_table
from egrecho_inner.errors import DataError

LETTERS = st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp", "Cf"], exclude_characters="\ufffd")
WORDS = st.text(LETTERS, min_size=1)
FILES = ["wav.scp", "text", "utt2lang", "segments", "utt2spk"]


@given(st.dictionaries(WORDS, st.lists(WORDS)))
@settings(deadline=None)
def test_what_is_written_is_read(rows: dict[str, list[str]]) -> None:
    with TemporaryDirectory() as folder:
        path, findings = Path(folder) / "text", Findings()
        path.write_text("".join(f"{' '.join([id, *words])}\n" for id, words in sorted(rows.items())), encoding="utf-8")
        table = read_table(path, findings, transcript=True)
    assert table.rows == {id: " ".join(words) for id, words in rows.items()}
    assert not findings.count("warning") and findings.count("error") == (0 if rows else 1)
    assert list(table.lines.values()) == list(range(1, len(rows) + 1))


@given(
    st.lists(st.binary(max_size=60), max_size=6),
    st.sampled_from(FILES),
)
@settings(deadline=None)
def test_no_bytes_raise_anything_but_our_errors(lines: list[bytes], name: str) -> None:
    with TemporaryDirectory() as folder:
        path, findings = Path(folder), Findings()
        for other, value in (("wav.scp", "a.wav"), ("text", "word"), ("utt2lang", "en")):
            (path / other).write_text(f"u1 {value}\nu2 {value}\n")
        (path / name).write_bytes(b"\n".join([b"u1 0", *lines]))
        data = read_data_dir(path, findings)
        for utterance in data.utterances:
            assert utterance.recording_id in data.sources and "\0" not in utterance.text
        try:
            findings.raise_errors()
        except DataError as error:
            assert folder in str(error).splitlines()[0]
        assert findings.as_dict()["errors"] == findings.count("error")


def test_a_line_of_only_an_id_and_a_tab_separated_line_are_read(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("u1\nu2\tmot\nu3  hai  ba \n")
    findings = Findings()
    table = read_table(tmp_path / "text", findings, transcript=True)
    assert table.rows == {"u1": "", "u2": "mot", "u3": "hai  ba"}
    assert {group.kind for group in findings.of("warning")} == {"tab", "blanks around the line"}


def test_invisible_characters_that_a_script_needs_are_kept(tmp_path: Path) -> None:
    text = "می\u200cخواهم ខ្ញុំ\u200bទៅ"  # Persian with a zero-width non-joiner, Khmer with a zero-width space
    (tmp_path / "text").write_text(f"u1 {text}\n", encoding="utf-8")
    findings = Findings()
    assert read_table(tmp_path / "text", findings, transcript=True).rows["u1"] == text
    assert [group.kind for group in findings.of()] == ["invisible character"]
