"""A pass: shards stay done while nothing behind them changes, faults are tried again, a result is known as its own."""

import json
from pathlib import Path

import pytest

from egrecho_inner.errors import ConfigError, DataError, MachineError
from egrecho_inner.runtime.ledger import Ledger, Skip, read_ledger
from egrecho_inner.runtime.passes import Fault, Pass

ITEMS = ["a", "b", "c", "d", "e"]


class Upper:
    """A stage that writes letters large; some do not read."""

    def __init__(
        self, folder: Path, items: list[str] = ITEMS, broken: str = "", too_long: str = "", **settings: object
    ) -> None:
        self.folder, self.items, self.broken, self.too_long = folder, items, broken, too_long
        self.settings, self.tried, self.done = settings, [], []

    def make(self) -> Pass:
        starts = range(0, len(self.items), 2)
        parts = [(at, min(at + 2, len(self.items)), "".join(self.items[at : at + 2])) for at in starts]
        note, out = self.folder / "out.json", self.folder / "out.jsonl"
        return Pass("upper", self.folder / "work", "part", note, self.settings, parts, out, products=("bin",))

    def works(self, position: int) -> bool:
        self.tried.append(self.items[position])
        return self.items[position] not in self.broken

    def run(self, limit: float = 1.0, refusal: str = "") -> list[str]:
        """Run it as a program does; return what it wrote."""
        job, self.tried, self.done = self.make(), [], []
        if job.begin(self.works, refusal):
            for shard in job.open():
                lines, skips = [], []
                for at in shard.positions:
                    item = self.items[at]
                    if item in self.too_long:
                        skips.append(Skip(item, "", "too long"))
                    elif item in self.broken:
                        skips.append(Fault(item, "", "does not read", position=at))
                    else:
                        lines.append(json.dumps(item.upper()))
                shard.path("bin").parent.mkdir(parents=True, exist_ok=True)
                shard.path("bin").write_text("".join(lines))
                shard.finish(lines, skips)
                self.done.append(shard.number)
            job.collect(Ledger(self.folder / "skipped.jsonl"), limit, "letters")
            job.finalize(lambda: {"shards": job.summary()})
        return [json.loads(line) for line in (self.folder / "out.jsonl").read_text().splitlines()]


def test_a_finished_pass_is_left_alone_and_leaves_only_its_result(tmp_path: Path) -> None:
    stage = Upper(tmp_path)
    assert stage.run() == list("ABCDE") and stage.done == [0, 1, 2]
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["part-0.bin", "part-1.bin", "part-2.bin"]
    assert stage.run() == list("ABCDE") and stage.done == []


def test_only_shards_are_done_again_of_which_something_is_another(tmp_path: Path) -> None:
    Upper(tmp_path).run()
    stage = Upper(tmp_path, ["a", "b", "c", "x", "e", "f", "g"])
    assert stage.run() == list("ABCXEFG") and stage.done == [1, 2, 3]
    (tmp_path / "work" / "part-0.bin").unlink()
    assert stage.run() == list("ABCXEFG") and stage.done == [0]
    stage = Upper(tmp_path, ["a", "b"])
    assert stage.run() == list("AB") and stage.done == []
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["part-0.bin"], "the others are of no manifest"
    stage = Upper(tmp_path, ["a", "b"], quality=2)
    assert stage.run() == list("AB") and stage.done == [0], "other settings"


def test_a_result_that_was_replaced_is_not_its_own(tmp_path: Path) -> None:
    stage = Upper(tmp_path)
    stage.run()
    (tmp_path / "out.jsonl").write_text('"Z"\n')
    assert stage.run() == list("ABCDE") and stage.done == [0, 1, 2]
    (tmp_path / "out.jsonl").write_text('"Z"\n')
    with pytest.raises(ConfigError, match=r"out\.jsonl is there, made otherwise"):
        stage.run(refusal="made otherwise")
    assert (tmp_path / "out.jsonl").read_text() == '"Z"\n'


def test_faults_are_tried_again_and_other_skips_are_not(tmp_path: Path) -> None:
    stage = Upper(tmp_path, broken="bd", too_long="e")
    assert stage.run() == ["A", "C"]
    assert [skip.id for skip in read_ledger(tmp_path / "skipped.jsonl")] == ["b", "d", "e"]
    assert stage.run() == ["A", "C"] and (stage.tried, stage.done) == (["b", "d"], [])
    stage.broken = "b"
    assert stage.run() == ["A", "C", "D"] and stage.done == [1]
    stage.broken = ""
    assert stage.run() == list("ABCD") and stage.done == [0]
    assert stage.run() == list("ABCD") and stage.tried == []
    assert not list((tmp_path / "work").glob("*.done"))


def test_too_many_skips_end_it_and_the_work_is_kept(tmp_path: Path) -> None:
    stage = Upper(tmp_path, broken="b")
    with pytest.raises(DataError, match="letters: 1 of 5 would be left out"):
        stage.run(limit=0.1)
    assert not (tmp_path / "out.jsonl").exists()
    stage.broken = ""
    assert stage.run(limit=0.0) == list("ABCDE") and stage.done == [0]


def test_processes_divide_the_shards_and_all_must_see_one_folder(tmp_path: Path) -> None:
    job = Upper(tmp_path).make()
    assert [[shard.number for shard in job.open(rank, 2)] for rank in range(2)] == [[0, 2], [1]]
    with pytest.raises(MachineError, match=r"part-0\.done is missing; all processes must see one folder"):
        job.collect(Ledger(tmp_path / "skipped.jsonl"), 1.0, "letters")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"key": "other"}', b"\xff"])
def test_a_damaged_marker_or_note_counts_for_nothing(tmp_path: Path, damage: bytes) -> None:
    stage = Upper(tmp_path, broken="b")
    stage.run()
    (tmp_path / "work" / "part-1.done").write_bytes(damage)
    (tmp_path / "out.json").write_bytes(damage)
    assert stage.run() == list("ACDE") and stage.done == [1]
