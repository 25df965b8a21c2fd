"""Stored features survive anything: killed at any point, repeated, on more processes, on a full disk."""

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from egrecho_inner import compute_features as program
from egrecho_inner.compute_features import compute_features
from egrecho_inner.config import parse
from egrecho_inner.data.audio import load
from egrecho_inner.data.audio.features import log_mel
from egrecho_inner.data.audio.store import load_stored
from egrecho_inner.errors import ConfigError, DataError, MachineError
from egrecho_inner.make_cuts import make_cuts

SPEC_LINE = {
    "id": None, "start": 0, "duration": None, "channel": 0, "supervisions": None,
    "features": {
        "type": "whisper-fbank", "num_frames": None, "num_features": 80, "frame_shift": 0.01, "sampling_rate": 16000,
        "start": 0, "duration": None, "storage_type": "lilcom_chunky", "storage_path": None, "storage_key": None,
        "channels": 0,
    },
    "recording": None, "type": "MonoCut",
}  # fmt: skip


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> Path:
    """Eight recordings of a second or so at two rates, joined into cuts; shards of two seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program, "SHORTEST_SHARD", 2)
    rng = np.random.default_rng(0)
    recordings, supervisions = [], []
    for index in range(8):
        rate = 8000 if index == 3 else 16000
        samples = 0.1 * rng.standard_normal(rate + 100 * index + index)
        path = tmp_path / f"u{index}.wav"
        soundfile.write(path, samples, rate)
        length = {"num_samples": len(samples), "duration": len(samples) / rate}
        source = {"type": "file", "channels": [0], "source": str(path)}
        recordings.append({"id": f"u{index}", "sources": [source], "sampling_rate": rate, **length, "channel_ids": [0]})
        supervisions.append(
            {"id": f"u{index}", "recording_id": f"u{index}", "start": 0.0, "duration": length["duration"], "channel": 0}
            | {"text": "Sự xuất", "language": "vi"}
        )
    for name, items in (("recordings", recordings), ("supervisions", supervisions)):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    make_cuts("recordings.jsonl", "supervisions.jsonl", "cuts.jsonl")
    return tmp_path


def snapshot(folder: str = "data") -> dict[str, bytes]:
    """All files but the note of the job, by path."""
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def test_the_line_is_the_specs(corpus) -> None:
    compute_features("cuts.jsonl", "data/x_cuts_train.jsonl.gz")
    text = gzip.decompress(Path("data/x_cuts_train.jsonl.gz").read_bytes()).decode()
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 8
    line = lines[0]
    assert list(line) == list(SPEC_LINE) and list(line["features"]) == list(SPEC_LINE["features"])
    for key, value in SPEC_LINE["features"].items():
        assert value is None or (line["features"][key] == value and type(line["features"][key]) is type(value))
    assert line["id"] == "u0-0" and line["features"]["storage_path"] == "data/x_feats_train/feats-0.lca"
    assert "Sự xuất" in text
    assert sorted(path.name for path in Path("data").iterdir()) == ["x_cuts_train.jsonl.gz", "x_feats_train"]


def test_lhotse_reads_the_features_of_the_audio(corpus) -> None:
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz", tick_power=-10)
    cuts = list(CutSet.from_file("data/x_cuts.jsonl.gz"))
    assert [cut.recording_id for cut in cuts] == [f"u{index}" for index in range(8)]
    for cut in cuts:
        feats = cut.load_features()
        assert feats.shape == (cut.features.num_frames, 80) == (cut.num_frames, 80)
        np.testing.assert_allclose(feats, log_mel(cut.load_audio()[0]), atol=2**-11 + 1e-5)
        assert len(load_stored(cut)) == len(feats) + 2


def test_repeating_changes_nothing_and_other_options_start_anew(corpus, capsys) -> None:
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    first, times = snapshot(), [path.stat().st_mtime_ns for path in sorted(Path("data").rglob("*"))]
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    assert "already done" in capsys.readouterr().out
    assert [path.stat().st_mtime_ns for path in sorted(Path("data").rglob("*"))] == times
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz", num_mel_bins=128)
    assert next(iter(CutSet.from_file("data/x_cuts.jsonl.gz"))).load_features().shape[1] == 128
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    assert snapshot() == first
    Path("data/x_feats/feats-1.lca").unlink()
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    assert snapshot() == first


def test_the_number_of_processes_does_not_change_a_byte(corpus) -> None:
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    first = snapshot()
    Path("data/x_cuts.jsonl.gz").unlink()
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz", jobs=2)
    assert snapshot() == first


SCRIPT = """
import sys
from egrecho_inner import compute_features as program
program.SHORTEST_SHARD = 2
program.compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz", jobs=int(sys.argv[1]))
"""


@pytest.mark.parametrize("kill_at", ["feats-0.lca", "feats-1.jsonl", "feats-2.done", "x_cuts.jsonl.gz"])
def test_killed_when_a_file_appears_and_repeated_gives_the_same_bytes(corpus, kill_at: str) -> None:
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    clean = snapshot()
    for path in clean:
        os.unlink(path)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, "1"], stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(Path("data").rglob(kill_at + "*")):
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    assert snapshot() == clean


@pytest.mark.parametrize("cut_off", range(0, 8))
def test_killed_in_any_shard_leaves_finished_shards_in_use(corpus, monkeypatch, cut_off: int) -> None:
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    clean = snapshot()
    for path in clean:
        os.unlink(path)
    real, calls = load.load_audio, []

    def dies(cut):
        if len(calls) == cut_off:
            raise KeyboardInterrupt
        calls.append(cut.id)
        return real(cut)

    monkeypatch.setattr(load, "load_audio", dies)
    with pytest.raises(KeyboardInterrupt):
        compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    assert not Path("data/x_cuts.jsonl.gz").exists()
    seen, _ = list(calls), calls.clear()
    monkeypatch.setattr(load, "load_audio", lambda cut: calls.append(cut.id) or real(cut))
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    assert snapshot() == clean
    assert len(seen) + len(calls) <= 8 + 2  # at most the cuts of one shard are computed twice


def test_bad_audio_is_counted_under_a_limit(corpus, capsys) -> None:
    samples, rate = soundfile.read("u2.wav")
    samples[50] = np.nan
    soundfile.write("u2.wav", samples, rate, subtype="FLOAT")
    Path("u5.wav").unlink()
    with pytest.raises(DataError, match="2 of 8 would be left out"):
        compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    assert not Path("data/x_cuts.jsonl.gz").exists()
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz", max_skip_ratio=0.25)
    assert "kept 6 of 8 cuts" in capsys.readouterr().out
    assert len(list(CutSet.from_file("data/x_cuts.jsonl.gz"))) == 6
    skipped = [json.loads(line) for line in Path("data/skipped.jsonl").read_text().splitlines()]
    assert [skip["id"] for skip in skipped] == ["u2-0", "u5-0"] and "no such file" in skipped[1]["value"]


def test_a_full_disk_stops_at_once_and_room_lets_it_continue(corpus) -> None:
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    clean = snapshot()
    for path in clean:
        os.unlink(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(MachineError, match=r"feats-0\.lca.*MB are free.*need about"):
            compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [name for name in snapshot() if "feats-" in name] == []
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    assert snapshot() == clean


def manifest() -> list[dict]:
    return [json.loads(line) for line in gzip.decompress(Path("data/x_cuts.jsonl.gz").read_bytes()).splitlines()]


def test_a_fault_that_is_gone_is_tried_again(corpus, monkeypatch, capsys) -> None:
    # a file server that stuttered: nothing about the file itself was another afterwards
    real, tried = load.load_audio, []

    def stutters(cut):
        tried.append(cut.id)
        if cut.id in broken:
            raise DataError(f"cut {cut.id}: stale file handle")
        return real(cut)

    monkeypatch.setattr(load, "load_audio", stutters)
    broken = {"u2-0", "u5-0"}
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz", max_skip_ratio=0.25)
    assert [row["id"] for row in manifest()] == ["u0-0", "u1-0", "u3-0", "u4-0", "u6-0", "u7-0"]
    tried.clear()
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz", max_skip_ratio=0.25)
    assert "already done; what was left out still fails" in capsys.readouterr().out
    assert tried == ["u2-0", "u5-0"], "only they are tried"
    broken = {"u2-0"}
    tried.clear()
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz", max_skip_ratio=0.25)
    assert [row["id"] for row in manifest()] == ["u0-0", "u1-0", "u3-0", "u4-0", "u5-0", "u6-0", "u7-0"]
    assert set(tried) == {"u2-0", "u4-0", "u5-0"}, "the other shards stay"
    broken = set()
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    assert len(manifest()) == 8 and not Path("data/skipped.jsonl").read_text()
    assert {path.suffix for path in Path("data/x_feats").iterdir()} == {".lca", ".json"}


def test_a_file_that_came_back_is_used(corpus) -> None:
    Path("u5.wav").rename("away")
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz", max_skip_ratio=0.2)
    assert len(manifest()) == 7
    Path("away").rename("u5.wav")
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    assert len(manifest()) == 8


def test_replaced_audio_of_the_same_length_is_computed_again(corpus, monkeypatch) -> None:
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    before = {cut.id: cut.load_features() for cut in CutSet.from_file("data/x_cuts.jsonl.gz")}
    samples, rate = soundfile.read("u4.wav")
    time.sleep(0.01)
    soundfile.write("u4.wav", samples[::-1], rate)
    real, computed = load.load_audio, []
    monkeypatch.setattr(load, "load_audio", lambda cut: computed.append(cut.id) or real(cut))
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    assert set(computed) == {"u4-0", "u5-0"}, "the shard of the file, and no other"
    for cut in CutSet.from_file("data/x_cuts.jsonl.gz"):
        assert np.array_equal(cut.load_features(), before[cut.id]) is (cut.id != "u4-0")
        np.testing.assert_allclose(cut.load_features(), log_mel(cut.load_audio()[0]), atol=2**-9 + 1e-5)


def test_features_after_none_after_features_are_features(corpus) -> None:
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    first = snapshot()
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz", features="none")
    assert "features" not in manifest()[0]
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    assert "features" in manifest()[0]
    assert snapshot() == first


def test_a_cut_more_costs_a_shard(corpus, monkeypatch) -> None:
    lines = Path("cuts.jsonl").read_text().splitlines(keepends=True)
    Path("cuts.jsonl").write_text("".join(lines[:7]))
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    Path("cuts.jsonl").write_text("".join(lines))
    real, computed = load.load_audio, []
    monkeypatch.setattr(load, "load_audio", lambda cut: computed.append(cut.id) or real(cut))
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    assert computed == ["u6-0", "u7-0"] and len(manifest()) == 8


def test_workers_with_another_working_folder_find_and_write_the_same_files(corpus, monkeypatch) -> None:
    text = Path("cuts.jsonl").read_text().replace(f"{corpus}/", "")  # audio named relative to where we are
    assert '"u0.wav"' in text
    Path("cuts.jsonl").write_text(text)
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    first = snapshot()
    for path in first:
        os.unlink(path)
    (corpus / "elsewhere").mkdir()

    def elsewhere(function, items, *_):
        for item in items:
            os.chdir(corpus / "elsewhere")
            result = function(item)
            os.chdir(corpus)
            yield item, result

    monkeypatch.setattr(program, "map_unordered", elsewhere)
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")
    assert snapshot() == first
    assert manifest()[0]["features"]["storage_path"] == "data/x_feats/feats-0.lca"
    assert list((corpus / "elsewhere").iterdir()) == []


def test_a_name_may_have_dots(corpus) -> None:
    for name in ("v1.0_cuts_a.jsonl.gz", "v1.1_cuts_a.jsonl"):
        Path("u5.wav").unlink(missing_ok=True)
        compute_features("cuts.jsonl", f"data/{name}", max_skip_ratio=0.5)
    assert sorted(path.name for path in Path("data").iterdir() if path.is_dir()) == [
        "v1.0_feats_a",
        "v1.1_feats_a",
    ]
    stages = {json.loads(line)["stage"] for line in Path("data/skipped.jsonl").read_text().splitlines()}
    assert stages == {"features v1.0_cuts_a", "features v1.1_cuts_a"}


def test_what_cannot_fit_is_refused_before_any_work(corpus, monkeypatch) -> None:
    monkeypatch.setattr(program, "free_space", lambda path: 1000)
    with pytest.raises(MachineError, match="need about"):
        compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz")


def test_without_features_the_cuts_are_written_as_they_are(corpus) -> None:
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz", features="none")
    first = snapshot()
    assert list(first) == ["data/x_cuts.jsonl.gz"]
    assert gzip.decompress(first["data/x_cuts.jsonl.gz"]) == Path("cuts.jsonl").read_bytes()
    time.sleep(1.1)  # a gzip header with a time would differ now
    compute_features("cuts.jsonl", "data/x_cuts.jsonl.gz", features="none")
    assert snapshot() == first


def test_three_speeds_are_there_before_features(corpus) -> None:
    make_cuts("recordings.jsonl", "supervisions.jsonl", "cuts3.jsonl", perturb_speed=True)
    compute_features("cuts3.jsonl", "data/x_cuts.jsonl.gz")
    cuts = list(CutSet.from_file("data/x_cuts.jsonl.gz"))
    assert len(cuts) == 24 and len({cut.id for cut in cuts}) == 24
    slow = next(cut for cut in cuts if cut.id == "u1-0_sp0.9")
    assert slow.load_features().shape[0] == slow.num_frames == round(101.0125 / 0.9 / 1)


def test_wrong_input_is_named(corpus) -> None:
    with pytest.raises(ConfigError, match="tick_power is '8', expected a whole number from -14 to -3"):
        parse(compute_features, ["--cuts", "cuts.jsonl", "--out", "data/x_cuts.jsonl.gz", "--tick_power", "8"])
    with pytest.raises(ConfigError, match="--storage"):
        compute_features("cuts.jsonl", "data/x.jsonl.gz")
    with pytest.raises(DataError, match="no such file"):
        compute_features("missing.jsonl", "data/x_cuts.jsonl.gz")
    Path("empty.jsonl").write_text("")
    with pytest.raises(DataError, match="no cuts"):
        compute_features("empty.jsonl", "data/x_cuts.jsonl.gz")
    assert not Path("data").exists()
