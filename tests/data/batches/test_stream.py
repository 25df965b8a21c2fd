"""A stream of shards: every cut once an epoch, bounded batches, ranks in step, and going on where it stood."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from tiny import speech_cuts, tiny_processor

from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.data.batches.stream import CutStream, StreamPlan, duration_bins
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


def ids(batches: Iterator, count: int) -> list[tuple[int, list[str]]]:
    return [(batch.epoch, [cut.id for cut in batch.positions]) for batch in islice(batches, count)]


def test_every_cut_comes_once_an_epoch_in_batches_that_fit(manifest: Path, shar: Path) -> None:
    seen: dict[int, list[str]] = {0: [], 1: []}
    for batch in plan(shar).batches():
        if batch.epoch == 2:
            break
        assert len(batch.positions) * max(cut.duration for cut in batch.positions) <= 6.0 + 1e-9
        seen[batch.epoch] += [cut.id for cut in batch.positions]
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
        assert ids(rest, 20 - step) == ids(iter(whole[step:]), 20 - step)


def test_ranks_have_other_cuts_and_as_many_batches(shar: Path) -> None:
    ranks = [list(islice(plan(shar, world_size=2).batches(rank), 12)) for rank in (0, 1)]
    firsts = [[batch for batch in rank if batch.epoch == 0] for rank in ranks]
    assert len(firsts[0]) == len(firsts[1])
    for one, other in list(zip(*firsts, strict=True))[:-1]:  # the last may be filled up with copies
        assert not {cut.id for cut in one.positions} & {cut.id for cut in other.positions}
        assert one.state == other.state
    state = ranks[0][4].state
    assert ids(plan(shar, world_size=2, state=state).batches(1, 5), 5) == ids(iter(ranks[1][5:]), 5)


def test_short_ones_can_be_asked_for(shar: Path) -> None:
    cuts = CutStream([str(shar)])
    limit = float(np.median(cuts.durations))
    cuts.keep_short(limit)
    heard = []
    for batch in StreamPlan(cuts, OPTIONS).batches():
        if batch.epoch:
            break
        heard += batch.positions
    assert len(heard) == len(cuts) < N
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
    assert sorted(cut.id for cut in stream.read(0)) == [rows[n]["id"] for n in (0, 1, 3, 5)]


def test_ids_are_unique_over_folders(shar: Path, tmp_path: Path) -> None:
    to_shar(str(speech_cuts(tmp_path, n=3)), str(tmp_path / "other"))
    with pytest.raises(DataError, match=r"other/cuts\.000000\.jsonl\.gz:1: id 'cuts000-0' is also in .*shar/cuts"):
        CutStream([str(shar), str(tmp_path / "other")])


def test_bins_hold_equal_shares_of_the_audio() -> None:
    durations = np.random.default_rng(0).gamma(2.0, 3.0, 5000)
    bins = duration_bins(durations, 10)
    shares = [durations[np.digitize(durations, bins) == place].sum() / durations.sum() for place in range(10)]
    assert max(shares) < 0.12
    assert duration_bins(np.ones(50)) == [1.0]
