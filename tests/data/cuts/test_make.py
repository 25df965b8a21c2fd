"""Cuts from manifests: the spec's fields, exact spans, nothing but plain files."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.cuts.make import SPEEDS, make_cuts, read_cuts, scan_manifest
from egrecho_inner.errors import DataError
from egrecho_inner.make_cuts import make_cuts as make_cuts_program


def recording(path: Path, id: str, seconds: float, rate: int) -> Recording:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)
    soundfile.write(path / f"{id}.wav", samples, rate)
    return Recording.from_file(path / f"{id}.wav", recording_id=id)


def supervision(id: str, recording_id: str, start: float, duration: float) -> SupervisionSegment:
    return SupervisionSegment(id, recording_id, start, duration, 0, "chào", "vi")


def test_a_cut_has_the_fields_of_the_spec(tmp_path: Path) -> None:
    rec = recording(tmp_path, "V1W1", 96938 / 16000, 16000)
    cuts = make_cuts([rec], [supervision("V1W1", "V1W1", 0.0, rec.duration)])
    cuts.to_file(tmp_path / "cuts.jsonl")
    line = json.loads((tmp_path / "cuts.jsonl").read_text())
    assert line == {
        "id": "V1W1-0",
        "start": 0,
        "duration": 6.058625,
        "channel": 0,
        "supervisions": [
            {
                "id": "V1W1",
                "recording_id": "V1W1",
                "start": 0.0,
                "duration": 6.058625,
                "channel": 0,
                "text": "chào",
                "language": "vi",
            }
        ],
        "recording": {
            "id": "V1W1",
            "sources": [{"type": "file", "channels": [0], "source": str(tmp_path / "V1W1.wav")}],
            "sampling_rate": 16000,
            "num_samples": 96938,
            "duration": 6.058625,
            "channel_ids": [0],
        },
        "type": "MonoCut",
    }


def test_no_copy_is_longer_than_whispers_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recs = [recording(tmp_path, name, seconds, 8000) for name, seconds in (("a", 26.9), ("b", 27.1), ("c", 30.0))]
    sups = [supervision(rec.id, rec.id, 0, rec.duration) for rec in recs]
    names = [str(tmp_path / name) for name in ("recordings.jsonl", "supervisions.jsonl", "cuts.jsonl")]
    RecordingSet.from_recordings(recs).to_file(names[0])
    SupervisionSet.from_segments(sups).to_file(names[1])
    make_cuts_program(*names, perturb_speed=True)
    cuts = list(CutSet.from_file(names[2]))
    assert [cut.id for cut in cuts] == ["a-0", "a-0_sp0.9", "a-0_sp1.1", "b-0", "b-0_sp1.1", "c-0", "c-0_sp1.1"]
    assert max(cut.duration for cut in cuts) == 30.0
    out = capsys.readouterr().out
    assert out.endswith(": 7 cuts\n  2 copies at 0.9 times the speed would be longer than 30 s: not made\n")


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_every_cut_loads_as_long_as_it_says(tmp_path: Path, rate: int) -> None:
    recs = [
        recording(tmp_path, "a", 3.21, rate),
        recording(tmp_path, "b", 1.0, rate),
        recording(tmp_path, "c", 2, rate),
    ]
    sups = [supervision("a1", "a", 0.123, 1.2), supervision("a2", "a", 1.4, 1.81), supervision("c1", "c", 0, 2.0)]
    cuts = list(make_cuts(recs, sups, SPEEDS))
    assert [cut.id for cut in cuts[:4]] == ["a-0", "a-0_sp0.9", "a-0_sp1.1", "a-1"]
    assert [cut.supervisions[0].id for cut in cuts[::3]] == ["a1", "a2", "c1"]
    for cut in cuts:
        assert load_audio(cut).shape == (cut.num_samples,)
        assert cut.sampling_rate == 16000 and cut.supervisions[0].duration == cut.duration
    hours = sum(cut.duration for cut in cuts) / sum(cut.duration for cut in cuts[::3])
    assert hours == pytest.approx(1 + 1 / 0.9 + 1 / 1.1, abs=1e-4)


def test_a_set_can_be_walked_twice_and_read_back(tmp_path: Path) -> None:
    rec = recording(tmp_path, "a", 1.0, 8000)
    cuts = make_cuts([rec], [supervision("a", "a", 0, 1.0)], [0.9])
    assert [cut.id for cut in cuts] == [cut.id for cut in cuts] == ["a-0", "a-0_sp0.9"]
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    for cut in CutSet.from_file(tmp_path / "cuts.jsonl.gz"):
        assert load_audio(cut).shape == (cut.num_samples,)


@pytest.mark.parametrize(
    ("sups", "message"),
    [
        ([("x", "zz", 0, 1.0)], "supervision x: no recording zz"),
        ([("x", "b", 0, 1.0), ("y", "a", 0, 1.0)], "supervision y: no recording a from here on.*same order"),
        ([("x", "a", 1.0, 0.5)], "supervision x: nothing of it lies inside recording a"),
    ],
)
def test_manifests_that_do_not_fit_are_refused(tmp_path: Path, sups: list[tuple], message: str) -> None:
    recs = [recording(tmp_path, "a", 1.0, 16000), recording(tmp_path, "b", 1.0, 16000)]
    with pytest.raises(DataError, match=message):
        list(make_cuts(recs, [supervision(*sup) for sup in sups]))


SOURCE = '{"id": "r", "sources": [{"type": "%s", "channels": [0], "source": "%s"}], "sampling_rate": 16000}'
FEATURES = '{"id": "c", "features": {"storage_type": "%s", "storage_path": "%s"}}'


@pytest.mark.parametrize(
    "line",
    [
        SOURCE % ("command", "touch PWNED; cat a.wav"),
        SOURCE % ("co\\u006dmand", "touch PWNED"),
        SOURCE % ("url", "http://x/a.wav"),
        SOURCE % ("file", "pipe:touch PWNED"),
        SOURCE % ("file", "s3://bucket/a.wav"),
        FEATURES % ("memory_raw", "gASV"),
        FEATURES % ("lilcom_url", "x"),
        FEATURES % ("lilcom_chunky", "pipe:touch PWNED"),
        '{"id": "c", "tracks": [{"cut": {"custom": {"x": [{"storage_type": "memory_raw", "storage_path": ""}]}}}]}',
    ],
)
def test_sources_that_run_something_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write((SOURCE % ("file", "/a.wav")) + "\n" + line + "\n")
    with pytest.raises(DataError, match=r"cuts\.jsonl\.gz:2: .* is refused"):
        scan_manifest(path)


def test_text_may_say_anything(tmp_path: Path) -> None:
    path = tmp_path / "sups.jsonl"
    path.write_text('{"id": "u", "text": "run the command at http://x, or pipe: it, type \\"url\\""}\n')
    assert scan_manifest(path) == 1


@pytest.mark.parametrize("content", ['{"id": "a"}\n{"id": "b", "te', '{"id": "a"}\n\n', '{"id": "a"}\n{"x": \\}\n'])
def test_torn_manifests_are_named_with_their_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"a\.jsonl:2: torn"):
        scan_manifest(tmp_path / "a.jsonl")


def test_a_torn_gzip_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"id": "a"}\n' * 1000)
    (tmp_path / "a.jsonl.gz").write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz"):
        scan_manifest(tmp_path / "a.jsonl.gz")
    with pytest.raises(DataError, match=r"b\.jsonl: no such file"):
        read_cuts(tmp_path / "b.jsonl", tmp_path / "b.jsonl")
