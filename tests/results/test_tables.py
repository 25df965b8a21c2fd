"""Averages over sets: each must be what its name says, and words must not be added to characters."""

import pytest

from egrecho_inner.results.tables import averages, sets_table
from egrecho_inner.text.scoring import Score, score


def scored(total: int, errors: int, metric: str = "wer") -> Score:
    """Make a set of one utterance with `errors` substitutions."""
    glue = " " if metric == "wer" else ""
    return score([("utt", glue.join("a" * total), glue.join("b" * errors + "a" * (total - errors)))], metric)


def cells(table: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
    return {row[0]: row[1:] for row in rows if not row[0].startswith("-")}


def test_macro_weighs_sets_and_pooled_weighs_words() -> None:
    results = {"small": {"en": scored(10, 5)}, "large": {"en": scored(90, 9)}}
    table = cells(sets_table(results, model="nano"))
    assert table[""] == ["small", "large", "macro", "pooled"]
    assert table["nano"] == ["50.00", "10.00", "30.00", "14.00"]
    assert list(table) == ["", "nano"]  # one language needs no row of its own
    assert averages(results) == {"macro": pytest.approx(0.30), "pooled": pytest.approx(0.14)}


def test_languages_have_rows_and_gaps_are_shown() -> None:
    table = cells(sets_table({"x": {"en": scored(10, 1), "vi": scored(30, 9)}, "y": {"vi": scored(10, 1)}}))
    assert table["all"] == ["25.00", "10.00", "17.50", "22.00"]
    assert table["en (WER)"] == ["10.00", "–", "10.00", "10.00"]
    assert table["vi (WER)"] == ["30.00", "10.00", "20.00", "25.00"]


def test_words_and_characters_are_not_added_up() -> None:
    results = {"x": {"en": scored(10, 1), "zh": scored(10, 3, "cer")}, "y": {"en": scored(10, 4)}}
    text = sets_table(results)
    table = cells(text)
    assert table["all"] == ["20.00*", "40.00", "30.00", "n/a"]
    assert table["zh (CER)"] == ["30.00", "–", "30.00", "30.00"]
    assert text.endswith("* mean over languages of different metrics")


def test_a_set_without_references_does_not_sink_the_average() -> None:
    table = cells(sets_table({"silence": {"en": score([("1", "", "oh")])}, "y": {"en": scored(10, 1)}}))
    assert table["all"] == ["n/a", "10.00", "10.00", "20.00"]  # its insertion still counts in the pool
