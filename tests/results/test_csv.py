"""hyps.csv: the texts as they are, in one line a cut, with nothing that a spreadsheet would run."""

import csv
import io

from egrecho_inner.results.folder import CSV_COLUMNS, hypothesis_csv


def test_texts_come_back_and_formulas_do_not_run() -> None:
    texts = ["one, two", 'he said "no"', "two\nlines", "=HYPERLINK(1)", None]
    rows = [
        {"id": f"u{n}", "ref": text, "hyp": "x", "language": "en", "speaker": None, "duration": 1.5, "tokens": 3}
        for n, text in enumerate(texts)
    ]
    found = list(csv.DictReader(io.StringIO(hypothesis_csv(rows))))
    assert tuple(found[0]) == CSV_COLUMNS and [row["id"] for row in found] == ["u0", "u1", "u2", "u3", "u4"]
    assert [row["ref"] for row in found] == ["one, two", 'he said "no"', "two\nlines", "'=HYPERLINK(1)", ""]
    assert found[0]["duration"] == "1.5" and found[0]["speaker"] == ""
