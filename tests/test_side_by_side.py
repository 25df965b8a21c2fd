"""One table of several models: the numbers of their results, and only of the same utterances."""

import json
from pathlib import Path

import pytest

from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.side_by_side import side_by_side

REFS = ("One two.", "three")


def result(folder: Path, hyps: list[str], rtf: float, name: str = "test", refs: tuple[str, ...] = REFS) -> str:
    folder.mkdir(parents=True)
    pairs = enumerate(zip(refs, hyps, strict=True))
    rows = [{"id": f"u{n}", "ref": ref, "hyp": hyp, "language": "en"} for n, (ref, hyp) in pairs]
    (folder / "hyps.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    summary = {"RTF": rtf, "data": {"path": f"x/{name}.jsonl.gz"}, "model": {"parameters": 2_500_000}}
    (folder / "results.json").write_text(json.dumps(summary))
    return str(folder)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_rates_sizes_and_speed_stand_beside_each_other(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    teacher = result(tmp_path / "a", ["one two", "three"], 0.4)
    student = result(tmp_path / "b", ["one too", "three"], 0.1)
    side_by_side([f"teacher={teacher}", f"student={student}"], normalizer="whisper-basic", out=str(tmp_path / "t.md"))
    printed = capsys.readouterr().out
    rows = [cells(line) for line in printed.splitlines()[2:]]
    assert rows[0] == ["test", "teacher", "2.50", "0.00", "0.0-0.0", "66.67", "0.00", "15.38", "0.4000", "1.00"]
    assert rows[1][:6] == ["test", "student", "2.50", "33.33", "0.0-50.0", "66.67"]
    assert rows[1][-1] == "4.00"
    assert (tmp_path / "t.md").read_text() == printed


def test_several_sets_have_a_mean(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name, hyp in (("s1", "one two"), ("s2", "x x")):
        result(tmp_path / "a" / name, [hyp, "three"], 0.4)
    (tmp_path / "a" / "results.json").write_text('{"RTF": 1.0}')
    side_by_side([f"m={tmp_path / 'a'}"])
    rows = [cells(line) for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["s1", "s2", "mean"]
    assert float(rows[2][3]) == pytest.approx((float(rows[0][3]) + float(rows[1][3])) / 2, abs=0.01)


def test_different_utterances_are_not_compared(tmp_path: Path) -> None:
    one = result(tmp_path / "a", ["x", "y"], 0.4)
    other = result(tmp_path / "b", ["x", "y"], 0.4, refs=("one two", "four"))
    with pytest.raises(DataError, match="different utterances"):
        side_by_side([f"a={one}", f"b={other}"])
    with pytest.raises(DataError, match="no results"):
        side_by_side([f"a={tmp_path}/nothing"])
    with pytest.raises(ConfigError, match="NAME=DIR"):
        side_by_side(["nothing"])


def test_a_wide_table_has_a_line_for_each_model(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name, hyp in (("wsj", "one two"), ("fleurs", "x x")):
        result(tmp_path / "a" / name, [hyp, "three"], 0.4)
    result(tmp_path / "b", ["one two", "three"], 0.1, name="wsj")
    figures = tmp_path / "published.tsv"
    figures.write_text("model\tfleurs\twsj\nOther\t4.0\t5.0\n")
    side_by_side(
        [f"mine={tmp_path / 'a'}", f"half={tmp_path / 'b'}"], normalizer="whisper-basic", published=str(figures)
    )
    heads, _, *rows = [cells(line) for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert heads == ["model", "fleurs", "wsj", "macro", "pooled"]
    assert [row[0] for row in rows] == ["mine", "half", "Other (theirs)"]
    assert rows[0][1:] == ["66.67 (0.0-100.0)", "0.00 (0.0-0.0)", "33.33 (0.0-50.0)", "33.33 (0.0-66.7)"]
    assert rows[1][1:] == ["–", "0.00 (0.0-0.0)", "–", "–"] and rows[2][3] == "4.5"
