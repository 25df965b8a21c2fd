"""A wide table of models by sets: its averages, what stands where a set is missing, figures of others."""

from pathlib import Path

import pytest

from egrecho_inner.errors import DataError
from egrecho_inner.results.wide import averages, read_published, wide_table
from egrecho_inner.text.scoring import Score, score

PUBLISHED = Path(__file__).parents[2] / "egs/pretrain/published.tsv"


def scored(errors: list[int], length: int = 10, metric: str = "wer") -> Score:
    glue = " " if metric == "wer" else ""
    rows = enumerate(errors)
    return score([(f"u{n}", glue.join("a" * length), glue.join("b" * e + "a" * (length - e))) for n, e in rows], metric)


def cells(table: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
    return [row for row in rows if not row[0].startswith((":-", "-"))]


def test_rates_have_intervals_and_averages_weigh_differently() -> None:
    small, large = scored([5, 0]), scored([1] * 18)
    heads, row = cells(wide_table({"mine": {"fleurs": small, "wsj": large}}))
    assert heads == ["model", "fleurs", "wsj", "macro", "pooled"]
    assert row == ["mine", "25.00 (0.0-50.0)", "10.00 (10.0-10.0)", "17.50 (5.0-30.0)", "11.50 (9.0-14.0)"]


def test_sets_are_drawn_one_by_one() -> None:
    """Draws shared by two equal sets would give their mean the interval of one of them; it is narrower."""
    each = scored([5, 0] * 20)
    macro, _ = averages({"a": each, "b": each}, ["a", "b"])
    alone, _ = averages({"a": each}, ["a"])
    assert macro.startswith("25.00 (19.") and alone.startswith("25.00 (17.")


def test_no_average_where_a_set_is_missing_and_no_pool_of_words_and_characters() -> None:
    models = {"one": {"a": scored([1])}, "both": {"a": scored([1]), "b": scored([2], metric="cer")}}
    heads, one, both = cells(wide_table(models))
    assert heads == ["model", "a (WER)", "b (CER)", "macro", "pooled"]
    assert one == ["one", "10.00 (10.0-10.0)", "–", "–", "–"]
    assert both[3:] == ["15.00 (15.0-15.0)", "–"]


def test_published_figures_stand_below_in_their_order_and_are_marked() -> None:
    published = read_published(PUBLISHED)
    table = wide_table(
        {"mine": {"extra": scored([1]), "wsj": scored([1]), "librispeech-other": scored([1])}}, published
    )
    heads, _, first, *others = cells(table)
    assert heads == ["model", "librispeech-other", "wsj", "extra", "macro", "pooled"]
    assert first == ["OLMoASR-39M (theirs)", "12.3", "5.6", "–", "–", "–"]
    assert len(others) == 13 and all(row[0].endswith("(theirs)") for row in others)
    assert "(theirs): published, not measured here" in table
    _, _, first, *_ = cells(wide_table({"mine": {"wsj": scored([1]), "fleurs": scored([1])}}, published))
    assert first[-2:] == ["7.6", "–"]  # of the two sets of this table, as ours


def test_the_published_table_is_complete_and_a_wrong_average_is_found(tmp_path: Path) -> None:
    published = read_published(PUBLISHED)
    assert len(published) == 14 and {len(rates) for rates in published.values()} == {14}
    assert published["Whisper large-v3"]["callhome"] == 13.2
    wrong = tmp_path / "p.tsv"
    wrong.write_text("model\ta\tb\taverage\nx\t1.0\t2.0\t1.9\n")
    with pytest.raises(DataError, match=r"p.tsv:2: average 1.9, but the row's mean is 1.50"):
        read_published(wrong)
    wrong.write_text("model\ta\nx\tmany\n")
    with pytest.raises(DataError, match="does not read"):
        read_published(wrong)
