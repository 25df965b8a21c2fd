"""The ledger of skips: counts that add up, a limit that names the first ids, writes that repeat."""

from pathlib import Path

import pytest

from egrecho_inner.errors import DataError
from egrecho_inner.runtime.ledger import Ledger, read_ledger


def ledger_of(path: Path, count: int = 3) -> Ledger:
    ledger = Ledger(path)
    for index in range(count):
        ledger.add(f"u{index}", "import train", "longer than 30 s", value=31.5, seconds=1800)
    return ledger


def test_summary_adds_up(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / "skipped.jsonl")
    ledger.add("u9", "import train", "empty text")
    assert ledger.summary(1000) == (
        "kept 996 of 1,000 utterances (99.6 %): 3 longer than 30 s, 1 empty text; 1.50 h left out"
    )
    assert Ledger(tmp_path / "none").summary(5, "cuts") == "kept 5 of 5 cuts (100.0 %)"
    assert Ledger(tmp_path / "none").summary(0) == "kept 0 of 0 utterances"


@pytest.mark.parametrize(("total", "ratio", "passes"), [(300, 0.01, True), (299, 0.01, False), (10**6, 0.0, False)])
def test_the_limit_is_a_share_of_the_input(tmp_path: Path, total: int, ratio: float, passes: bool) -> None:
    ledger = ledger_of(tmp_path / "skipped.jsonl")
    if passes:
        ledger.check_limit(total, ratio, "train")
        return
    with pytest.raises(
        DataError, match=rf"train: 3 of {total:,} would be left out.*first: u0 \(longer.*31\.5\)"
    ) as caught:
        ledger.check_limit(total, ratio, "train")
    assert caught.value.exit_code == 3


def test_the_ratio_offered_by_the_message_is_enough(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / "skipped.jsonl")
    with pytest.raises(DataError, match=r"--max_skip_ratio 0\.011") as caught:
        ledger.check_limit(290, 0.0, "train")
    ledger.check_limit(290, float(str(caught.value).rsplit(" ", 1)[1]), "train")


def test_stages_share_a_file_and_a_repeat_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "manifests" / "skipped.jsonl"
    ledger_of(path).write()
    other = Ledger(path)
    other.add("ü/..", "features", "no such file")
    other.write()
    before = path.read_bytes()
    ledger_of(path).write()
    assert path.read_bytes() == before
    assert [skip.stage for skip in read_ledger(path)] == ["features", "import train", "import train", "import train"]
    Ledger(path).write("import train")  # the repeated stage had nothing to skip any more
    assert [skip.id for skip in read_ledger(path)] == ["ü/.."]
    assert not list(path.parent.glob("*.tmp"))


def test_a_broken_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "skipped.jsonl").write_text('{"id": "u1"\n')
    with pytest.raises(DataError, match=r"skipped\.jsonl: not a ledger"):
        read_ledger(tmp_path / "skipped.jsonl")
