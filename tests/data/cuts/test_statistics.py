"""Durations read off raw lines must be those that Lhotse reads, however the line is written."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet, MonoCut, SupervisionSegment
from lhotse.cut import PaddingCut
from lhotse.cut.describe import CutSetStatistics
from lhotse.testing.dummies import dummy_recording

from egrecho_inner.data.cuts.statistics import DurationStatistics, clock, read_durations, read_statistics
from egrecho_inner.errors import DataError


def cut(number: int, duration: float, text: str = 'she said "duration": 5, twice') -> MonoCut:
    return MonoCut(
        id=f'cut-{number}-"duration": 9',
        start=0,
        duration=duration,
        channel=0,
        supervisions=[SupervisionSegment(f"s{number}", "r", 0, duration / 2, text=text, language="vi")],
        recording=dummy_recording(0, duration=100.0),
        custom={"duration": 77.0},
    )


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_same_durations_and_rows_as_lhotse(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture) -> None:
    rng = np.random.default_rng(0)
    cuts = [cut(i, round(float(seconds), 6)) for i, seconds in enumerate(rng.gamma(8, 0.7, size=300))]
    padding = PaddingCut(id="p", duration=2.5, sampling_rate=16000, feat_value=0.0, num_samples=40000)
    cuts += [cuts[0].append(padding), cuts[1].mix(cuts[2], offset_other_by=1.23, snr=10)]
    cuts = CutSet.from_cuts(cuts)
    path = tmp_path / f"cuts{suffix}"
    cuts.to_file(path)
    assert list(read_durations(path)) == [item.duration for item in CutSet.from_jsonl_lazy(path)]
    CutSetStatistics().accumulate(cuts).describe()
    theirs = capsys.readouterr().out.split("Cut statistics:\n")[1].splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:3]] for line in theirs if line.startswith("│")][:12]
    ours = [
        [cell.strip() for cell in line.split("│")[1:3]]
        for line in read_statistics(path).table().splitlines()
        if line.startswith("│")
    ]
    assert ours == cells


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ('{"duration": 1.5, "id": "a"}', 1.5),
        ('{"id":"a","start":0,"duration":6.058625,"channel":0}', 6.058625),
        ('  {\t"id" : "a" , "x": null, "y": true, "duration" : 2 }  ', 2),
        ('{"id": "\\"duration\\": 5, \\\\", "duration": 3.25, "start": 0}', 3.25),
        ('{"id": "a", "custom": {"duration": 9}, "duration": 4}', 4),
        ('{"supervisions": [{"duration": 9.0}], "duration": 4.5}', 4.5),
        ('{"id": "a", "recording": {"duration": 8}, "start": 1, "duration": 1e1, "type": "MonoCut"}', 10),
        ('{"duration_of": 9, "my\\"duration": 8, "duration": 7}', 7),
        ('{"id": "tiếng Việt", "dura\\u0074ion": 2.5}', 2.5),
        ('{"id": "p", "duration": 2.0, "sampling_rate": 16000, "feat_value": -1.0, "type": "PaddingCut"}', 2),
        ('{"id": "m", "tracks": [{"cut": {"duration": 3}, "offset": 2}, {"cut": {"duration": 4}}]}', 5),
        ('{"id": "m", "tracks": [{"cut": {"duration": 3}}, {"cut": {"duration": 9}, "mute": true}]}', 3),
    ],
)
def test_only_the_cuts_own_duration_counts(tmp_path: Path, line: str, seconds: float) -> None:
    path = write(tmp_path / "cuts.jsonl", line, "", line)
    assert list(read_durations(path)) == [seconds, seconds]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a", "start": 0}', r"cuts\.jsonl:2: a cut without a duration"),
        ('{"id": "a", "duration": null}', r":2: a cut without a duration"),
        ('{"id": "a", "duration": 1.5, "chan', r":2: not JSON"),
        ('{"id": "a", "duration": NaN}', r":2: duration is nan"),
        ("[1, 2]", r":2: a cut without a duration"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "cuts.jsonl", '{"id": "ok", "duration": 1}', line)
    with pytest.raises(DataError, match=message):
        read_statistics(path)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: no such file"):
        read_statistics(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"ends in \.jsonl"):
        read_statistics(tmp_path / "cuts.yaml")
    broken = tmp_path / "cuts.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"id": "a", "duration": 1}\n' * 5000)[:-20])
    with pytest.raises(DataError, match="broken gzip"):
        read_statistics(broken)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "00:00:00"),
        (59.2, "00:01:00"),  # lhotse: 00:00:60
        (3599.5, "01:00:00"),
        (1474 * 3600 + 29 * 60 + 33.4, "1474:29:34"),
        (100 + 1e-9, "00:01:40"),
    ],
)
def test_clock_never_shows_sixty(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_three_fold_speed_perturbation_accounts_for_the_published_hours() -> None:
    hours = 488.20998
    three_fold = DurationStatistics(3600 * hours / np.array([1, 0.9, 1.1]))
    assert clock(three_fold.total) == "1474:29:34"


def test_quantiles_of_known_durations_and_of_none() -> None:
    figures = DurationStatistics(np.arange(1.0, 1002.0)).as_dict()
    assert (figures["25%"], figures["50%"], figures["99.9%"], figures["max"]) == pytest.approx((251, 501, 1000, 1001))
    empty = DurationStatistics(np.array([]))
    assert empty.as_dict()["mean"] is None
    assert "n/a" in empty.table()
    assert math.isclose(empty.total, 0)
    json.dumps(empty.as_dict())
