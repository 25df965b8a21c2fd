"""A stream of shards: every cut once an epoch, bounded batches, ranks in step, and going on where it stood."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from tiny import speech_cuts, tiny_processor

from egrecho_inner.data.batches import stream as stream_module
from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.log_mel import LogMel
from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.data.batches.plan import Batch
from egrecho_inner.data.batches.stream import CutStream, StreamPlan
from egrecho_inner.data.batches.tensors import CutBatches, PlanSampler
from egrecho_inner.data.sources import shard_index
from egrecho_inner.errors import ConfigError, DataError, ModelError
from egrecho_inner.text.labels import LabelEncoder
from egrecho_inner.to_shar import to_shar

N = 23
OPTIONS = BatchOptions(max_duration=6.0)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech_cuts(tmp_path_factory.mktemp("cuts"), n=N)


@pytest.fixture(scope="module")
def shar(manifest: Path) -> Path:
    to_shar(str(manifest), str(manifest.with_name("shar")), shard_size=5)
    return manifest.with_name("shar")


def plan(shar: Path, **changes: object) -> StreamPlan:
    return StreamPlan(CutStream([str(shar)]), **({"options": OPTIONS, "seed": 3} | changes))


def cuts_of(shar: Path, batches: Iterator, count: int) -> list[tuple[int, list[str]]]:
    stream = CutStream([str(shar)])
    return [(batch.epoch, [stream[place].id for place in batch.positions]) for batch in islice(batches, count)]


def positions(batches: Iterator, count: int) -> list[tuple[int, list[int]]]:
    return [(batch.epoch, batch.positions.tolist()) for batch in islice(batches, count)]


def test_every_cut_comes_once_an_epoch_in_batches_that_fit(manifest: Path, shar: Path) -> None:
    seen: dict[int, list[str]] = {0: [], 1: []}
    stream = CutStream([str(shar)])
    for batch in plan(shar).batches():
        if batch.epoch == 2:
            break
        found = [stream[place] for place in batch.positions]
        assert len(found) * max(cut.duration for cut in found) <= 6.0 + 1e-9
        assert [cut.duration for cut in found] == pytest.approx(stream.durations[batch.positions])
        seen[batch.epoch] += [cut.id for cut in found]
    cuts = CutList([str(manifest)])
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(cuts[i].id for i in range(N))
    assert seen[0] != seen[1]
    assert len(CutStream([str(shar)])) == N
    assert np.allclose(sorted(CutStream([str(shar)]).durations), sorted(cuts.durations))


def test_it_goes_on_where_it_stood(shar: Path) -> None:
    whole = list(islice(plan(shar).batches(), 20))
    assert whole[-1].epoch >= 1  # the state crosses an epoch
    for step in (1, 7, 15):
        rest = plan(shar, state=whole[step - 1].state).batches(step=step)
        assert positions(rest, 20 - step) == positions(iter(whole[step:]), 20 - step)


@pytest.mark.parametrize("world", [2, 3, 7])
def test_ranks_together_have_every_cut_once_an_epoch(shar: Path, world: int) -> None:
    ranks = [list(islice(plan(shar, world_size=world).batches(rank), 40)) for rank in range(world)]
    for epoch in (0, 1, 2):
        seen = [place for rank in ranks for batch in rank if batch.epoch == epoch for place in batch.positions.tolist()]
        assert sorted(seen) == list(range(N))  # once, and none filled up with copies
    assert all(rank[9].state == ranks[0][9].state for rank in ranks)
    for rank in range(world):
        rest = plan(shar, world_size=world, state=ranks[0][4].state).batches(rank, 5)
        assert positions(rest, 20) == positions(iter(ranks[rank][5:]), 20)


def test_each_process_reads_its_part_of_the_bytes(shar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the one that plans reads none: batches hold positions, which go to the workers that read."""
    reads: list[int] = []
    make = shard_index.make_recording
    monkeypatch.setattr(shard_index, "make_recording", lambda data, *rest: reads.append(len(data)) or make(data, *rest))
    total = 0
    for rank in (0, 1):
        stream = CutStream([str(shar)])
        batches = iter(PlanSampler(StreamPlan(stream, OPTIONS, 3, world_size=2), rank, lambda: 0))
        mine = [batch for batch in islice(batches, 12) if batch.epoch == 0]
        assert not reads
        for batch in mine:
            assert batch.positions.dtype == np.int64
            for place in batch.positions:
                stream[place]
        assert abs(len(reads) - N / 2) < 3
        total += sum(reads)
        reads.clear()
    stream = CutStream([str(shar)])
    assert total == sum(len(stream[place].recording.sources[0].source) for place in range(N))


def test_a_resume_passes_over_shards_without_reading_them(shar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(islice(plan(shar).batches(), 30))
    monkeypatch.setattr(stream_module, "ShardReader", None)  # a cut that is read fails
    rest = plan(shar, state=whole[24].state).batches(step=25)
    assert positions(rest, 5) == positions(iter(whole[25:]), 5)


def test_it_reads_few_shards_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts are put together within some shards, so that a set larger than memory is read from few files at once."""
    monkeypatch.setattr(stream_module, "TOGETHER", 4)
    to_shar(str(speech_cuts(tmp_path, n=24)), str(tmp_path / "shar"), shard_size=2)
    stream = CutStream([str(tmp_path / "shar")])
    shards = [place // 2 for batch in islice(StreamPlan(stream, OPTIONS).batches(), 40) if not batch.epoch
              for place in batch.positions.tolist()]  # fmt: skip
    assert sorted(shards) == sorted([*range(12), *range(12)])
    for begin in range(0, 24, 4):
        assert len(set(shards[begin : begin + 4])) == 2
    monkeypatch.setattr(stream_module, "OPEN_SHARDS", 3)
    assert [stream[place].id for place in range(24)] and len(stream.readers) == 3


def test_a_shards_counts_make_a_start_that_reads_no_line(shar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_index = CutStream([str(shar)])
    monkeypatch.setattr(shard_index, "index_path", lambda shard, kind="columns": Path("/nowhere"))
    without = CutStream([str(shar)])
    monkeypatch.undo()
    for name in ("durations", "text_bytes", "teacher_bytes", "ids"):
        assert np.array_equal(with_index.column(name), without.column(name))
    assert with_index.digest == without.digest and with_index.languages == without.languages
    assert all(
        np.array_equal(one.extents, two.extents) for one, two in zip(with_index.indexes, without.indexes, strict=True)
    )
    monkeypatch.setattr(shard_index, "read_raw", None)
    assert len(CutStream([str(shar)])) == N


def test_an_index_of_other_shards_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    to_shar(str(speech_cuts(tmp_path / "a", n=4)), str(tmp_path / "shar"))
    to_shar(str(speech_cuts(tmp_path / "b", n=6)), str(tmp_path / "other"))
    for path in (tmp_path / "other").iterdir():
        (tmp_path / "shar" / path.name).write_bytes(path.read_bytes())
    assert len(CutStream([str(tmp_path / "shar")])) == 6
    assert "is not of the shard as it is now" in caplog.text
    index = tmp_path / "other.index/000000.columns"
    index.write_bytes(index.read_bytes()[:-34])
    with pytest.raises(DataError, match=r"000000.columns is cut off"):
        CutStream([str(tmp_path / "other")])


def test_damage_between_index_and_tar_is_named(tmp_path: Path) -> None:
    to_shar(str(speech_cuts(tmp_path, n=4)), str(tmp_path / "shar"))
    tar = tmp_path / "shar/recording.000000.tar"
    data = bytearray(tar.read_bytes())
    data[:1024] = data[1024:2048]
    tar.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"recording.000000.tar is cut off or damaged at byte 0"):
        CutStream([str(tmp_path / "shar")])[0]


def test_short_ones_can_be_asked_for(shar: Path) -> None:
    cuts = CutStream([str(shar)])
    limit = float(np.median(cuts.durations))
    cuts.keep_short(limit)
    heard = []
    for batch in StreamPlan(cuts, OPTIONS).batches():
        if batch.epoch:
            break
        heard += [cuts[place] for place in batch.positions]
    assert len({cut.id for cut in heard}) == len(heard) == len(cuts) < N
    assert max(cut.duration for cut in heard) <= limit


def test_window_of_30_s_bounds_the_batch(shar: Path) -> None:
    batches = plan(shar, options=BatchOptions(max_duration=90.0), padded_share=1.0).batches()
    sizes = [len(batch.positions) for batch in islice(batches, 6)]
    assert max(sizes) == 3
    assert next(batches).padded


def test_what_a_stream_cannot_do_is_refused(shar: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_steps"):
        plan(shar).first_step(1)
    with pytest.raises(ConfigError, match="mixed"):
        plan(shar, padded_share=0.3)
    with pytest.raises(ConfigError, match="short_first"):
        plan(shar, options=BatchOptions(short_first=True))
    with pytest.raises(ModelError, match="not trained from Shar"):
        next(plan(shar).batches(step=5))
    with pytest.raises(ModelError, match="shards in another order"):
        next(plan(shar, state={"epoch": 1, "taken": 4}).batches(step=5))
    with pytest.raises(DataError, match="too few for 24 processes"):
        plan(shar, world_size=24)
    with pytest.raises(DataError, match="no Lhotse Shar folder"):
        CutStream([str(tmp_path)])


def test_missing_shards_are_named(shar: Path, tmp_path: Path) -> None:
    for path in shar.iterdir():
        if path.name != "recording.000001.tar":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="5 shards of cuts, 4 of recording"):
        CutStream([str(tmp_path)])


def test_texts_that_do_not_fit_are_not_read(tmp_path: Path) -> None:
    # they were counted and left out, and then read all the same: IndexError in the decoder's positions
    manifest = speech_cuts(tmp_path, n=6)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[2]["supervisions"][0]["text"] = "word " * 200
    rows[4]["supervisions"][0]["text"] = "ự" * 200
    manifest.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    to_shar(str(manifest), str(tmp_path / "shar"), shard_size=2)
    stream = CutStream([str(tmp_path / "shar")])
    stream.keep_trainable(LabelEncoder(tiny_processor().tokenizer, "en"), max_skip_ratio=0.5)
    assert stream.left_out == {"over 448 tokens": 2}
    assert sorted(stream[place].id for place in range(len(stream))) == [rows[n]["id"] for n in (0, 1, 3, 5)]


def test_a_large_stream_is_not_read_for_its_long_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # counting their tokens read every line at the first start: 34 minutes for ten million windows
    manifest = speech_cuts(tmp_path, n=4)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[1]["supervisions"][0]["text"] = "word " * 200  # 1,000 bytes
    rows[2]["supervisions"][0]["text"] = "ự" * 200
    manifest.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    to_shar(str(manifest), str(tmp_path / "shar"), shard_size=2)
    monkeypatch.setattr(stream_module, "COUNTED", 3)
    stream, labels = CutStream([str(tmp_path / "shar")]), LabelEncoder(tiny_processor().tokenizer, "en")
    monkeypatch.setattr(shard_index.ShardIndex, "select", lambda *_: pytest.fail("lines were read"))
    stream.keep_trainable(labels, max_skip_ratio=0.0)
    assert len(stream) == 4 and not stream.left_out
    batches = CutBatches(stream, labels, LogMel(tiny_processor().feature_extractor.feature_size))
    made = batches[Batch(0, np.arange(4), False)]
    assert made.ids == [rows[0]["id"], rows[3]["id"]]
    assert [name for name, _ in made.skipped] == [rows[1]["id"], rows[2]["id"]]
    assert "the decoder has 448 positions" in made.skipped[0][1]


def test_ids_are_unique_over_folders(shar: Path, tmp_path: Path) -> None:
    to_shar(str(speech_cuts(tmp_path, n=3)), str(tmp_path / "other"))
    with pytest.raises(DataError, match=r"other/cuts\.000000\.jsonl\.gz:1: id 'cuts000-0' is also in .*shar/cuts"):
        CutStream([str(shar), str(tmp_path / "other")])
