"""The errs file: its sections agree with the score, and each kind of error can be read in its place."""

from pathlib import Path

import pytest

from egrecho_inner.results.errs import errs_lines, inline, write_errs
from egrecho_inner.text.alignment import align
from egrecho_inner.text.scoring import score

ROWS = [("utt-1", "the cat sat", "a cat sat down"), ("utt-2", "the dog", "the"), ("utt-3", "", "oh"), ("utt-4", "", "")]


def sections(lines: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"HEAD": []}
    for line in lines:
        if line.split(":")[0] in ("PER-UTT DETAILS", "SUBSTITUTIONS", "DELETIONS", "INSERTIONS", "PER-WORD STATS"):
            found[line.split(":")[0]] = current = []
        elif line:
            (current if len(found) > 1 else found["HEAD"]).append(line)
    return found


def test_sections_read_as_in_icefall(tmp_path: Path) -> None:
    write_errs(tmp_path / "errs.txt", ROWS, score(ROWS), note="whisper-basic")
    text = sections((tmp_path / "errs.txt").read_text(encoding="utf-8").splitlines())
    assert text["HEAD"][0] == "%WER = 80.00 (whisper-basic)"
    assert text["HEAD"][1] == "Errors: 2 insertions, 1 deletions, 1 substitutions, over 5 reference words (3 correct)"
    assert text["HEAD"][2] == "Utterances: 4, of which 3 have an error"
    assert text["PER-UTT DETAILS"] == [
        "utt-1:\t(the->a) cat sat (*->down)",
        "utt-2:\tthe (dog->*)",
        "utt-3:\t(*->oh)",
        "utt-4:\t",
    ]
    assert text["SUBSTITUTIONS"] == ["1\tthe -> a"]
    assert text["DELETIONS"] == ["1\tdog"]
    assert text["INSERTIONS"] == ["1\tdown", "1\toh"]
    assert "the\t1\t1\t2\t1" in text["PER-WORD STATS"]
    assert [path.name for path in tmp_path.iterdir()] == ["errs.txt"]


def test_columns_add_up_to_the_score() -> None:
    rows = [("1", "a b a c", "b a a d e"), ("2", "c c c", "a"), ("3", "x", "x")]
    result = score(rows)
    words = [line.split("\t") for line in sections(list(errs_lines(rows, result)))["PER-WORD STATS"]]
    assert sum(int(row[1]) for row in words) == result.correct
    assert sum(int(row[3]) for row in words) == result.total
    # a substitution is an error of both its words
    assert sum(int(row[2]) for row in words) == result.ins + result.dels + 2 * result.subs


@pytest.mark.parametrize(
    ("ref", "hyp", "line"),
    [("我爱编程", "我爱变程", "我爱(编->变)程"), ("a b", "ab", "a(␣->*)b"), ("", "", "")],
)
def test_characters_are_written_without_gaps(ref: str, hyp: str, line: str) -> None:
    assert inline(align(ref, hyp), glue="") == line


def test_a_set_without_reference_words_is_not_a_division_by_zero() -> None:
    assert next(errs_lines(ROWS[2:], score(ROWS[2:]))) == "%WER = n/a"
