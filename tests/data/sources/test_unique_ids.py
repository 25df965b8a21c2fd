"""Ids over the splits of a corpus: unique whatever their order, the same bytes when repeated, refused where kept."""

import itertools
from pathlib import Path

import pytest
from kaldi_dirs import failed, make_dir, rows, write

from egrecho_inner.data.cuts.make import read_cuts
from egrecho_inner.errors import DataError
from egrecho_inner.import_kaldi import import_kaldi


@pytest.fixture
def dirs(tmp_path: Path) -> dict[str, Path]:
    """Three splits: train and test count from u0, dev has ids of its own."""
    dirs = {split: make_dir(tmp_path / split, 2) for split in ("train", "dev", "test")}
    for name in ("wav.scp", "text", "utt2lang"):
        path = dirs["dev"] / name
        path.write_text(path.read_text(encoding="utf-8").replace("u0 ", "v0 ").replace("u1 ", "v1 "), encoding="utf-8")
    return dirs


def imported(path: Path, split: str, **options: object) -> list[str]:
    import_kaldi(str(path / split), "x", split, out=str(path / "out"), jobs=1, **options)
    ids = [row["id"] for row in rows(path, f"x_supervisions_{split}")]
    assert [row["id"] for row in rows(path, f"x_recordings_{split}")] == ids
    manifests = (path / "out" / f"x_{kind}_{split}.jsonl" for kind in ("recordings", "supervisions"))
    assert [cut.id for cut in read_cuts(*manifests)] == [f"{id}-0" for id in ids]
    return ids


@pytest.mark.parametrize("order", itertools.permutations(["train", "dev", "test"]))
def test_with_all_splits_named_the_order_of_imports_changes_nothing(
    tmp_path: Path, dirs: dict[str, Path], order: tuple[str, ...]
) -> None:
    others = [str(path) for path in dirs.values()]
    found = {split: imported(tmp_path, split, other_splits=others) for split in (*order, order[0])}
    assert found["dev"] == ["v0", "v1"]
    assert found["train"] == ["x-train-u0", "x-train-u1"] and found["test"] == ["x-test-u0", "x-test-u1"]


def test_what_was_imported_before_counts_and_repeating_changes_nothing(
    tmp_path: Path, dirs: dict[str, Path], capsys: pytest.CaptureFixture
) -> None:
    for _ in range(2):
        assert imported(tmp_path, "train") == ["u0", "u1"]
        assert imported(tmp_path, "dev") == ["v0", "v1"]
        capsys.readouterr()
        assert imported(tmp_path, "test") == ["x-test-u0", "x-test-u1"]
        out = capsys.readouterr().out
        assert "note: id that another split has, too (2); all ids of this split begin with 'x-test-'" in out
        assert f"{tmp_path}/test/text:1: u0, {tmp_path}/out/x_supervisions_train.jsonl:1" in out


def test_kept_ids_that_clash_are_refused_with_both_lines(
    tmp_path: Path, dirs: dict[str, Path], capsys: pytest.CaptureFixture
) -> None:
    others = ["--other_splits+", str(dirs["train"]), "--other_splits+", str(dirs["test"])]
    code, message = failed(dirs["test"], capsys, "--ids", "keep", *others, split="test")
    assert code == 3 and message == (
        f"error: {dirs['test']}/text:1: id u0 is also in {dirs['train']}/text:1 (the first of 2); ids must be unique "
        "over the splits of a corpus: rename them, or let 'x-test-' be put before them (--ids auto)\n"
    )
    imported(tmp_path, "train", ids="keep")
    with pytest.raises(DataError, match=r"text:1: id u0 is also in .*/out/x_supervisions_train.jsonl:1 "):
        imported(tmp_path, "test", ids="keep")
    assert imported(tmp_path, "dev", ids="keep") == ["v0", "v1"]


def test_a_prefix_can_be_asked_for(tmp_path: Path, dirs: dict[str, Path]) -> None:
    assert imported(tmp_path, "dev", ids="prefix") == ["x-dev-v0", "x-dev-v1"]


def test_recordings_of_one_name_clash_too(tmp_path: Path, dirs: dict[str, Path]) -> None:
    """The cut of a segment is called after its recording."""
    for split in ("train", "test"):
        write(dirs[split], "segments", f"{split}-a u0 0 0.5", f"{split}-b u1 0 0.5")
        for name, value in (("text", "một"), ("utt2lang", "vi")):
            write(dirs[split], name, f"{split}-a {value}", f"{split}-b {value}")
    import_kaldi(str(dirs["train"]), "x", "train", out=str(tmp_path / "out"), jobs=1)
    import_kaldi(str(dirs["test"]), "x", "test", out=str(tmp_path / "out"), jobs=1)
    found = rows(tmp_path, "x_supervisions_test")
    assert [(row["id"], row["recording_id"]) for row in found] == [
        ("x-test-test-a", "x-test-u0"), ("x-test-test-b", "x-test-u1")
    ]  # fmt: skip


def test_a_split_without_tables_is_named(tmp_path: Path, dirs: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="nowhere/text: No such file or directory; give data directories"):
        imported(tmp_path, "train", other_splits=[str(tmp_path / "nowhere")])
