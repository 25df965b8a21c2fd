"""A folder of noises becomes manifests and ten-second cuts, whatever is missing from it."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, RecordingSet, SupervisionSet

from egrecho_inner.errors import DataError
from egrecho_inner.import_musan import import_musan


def noise(path: Path, seconds: float, rate: int = 16000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((round(rate * seconds), channels)), rate)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    noise(tmp_path / "musan/music/jam/music-1.wav", 27.0)
    noise(tmp_path / "musan/music/jam/music-2.wav", 12.0, 44100, 2)
    noise(tmp_path / "musan/noise/free/noise-1.wav", 4.0)
    noise(tmp_path / "musan/noise/free/noise-2.flac", 16.0, 8000)
    noise(tmp_path / "musan/speech/us/speech-1.wav", 10.0)
    annotations = "music-1 jazz,blues Y Somebody\nmusic-2 pop N Other more words\nmusic-9 absent Y One\ntorn\n"
    (tmp_path / "musan/music/jam/ANNOTATIONS").write_text(annotations)
    return tmp_path / "musan"


def test_windows_of_ten_seconds_that_know_their_part(folder, capsys) -> None:
    import_musan(str(folder), "cuts/musan_cuts.jsonl.gz")
    cuts = list(CutSet.from_file("cuts/musan_cuts.jsonl.gz"))
    assert [(cut.id, cut.start, cut.duration) for cut in cuts] == [
        *[("music-1-0", 0, 10), ("music-1-1", 10, 10), ("music-1-2", 20, 7)],
        *[("music-2-0", 0, 10), ("noise-2-0", 0, 10), ("noise-2-1", 10, 6), ("speech-1-0", 0, 10)],
    ]
    assert [cut.custom["part"] for cut in cuts] == ["music"] * 4 + ["noise"] * 2 + ["speech"]
    assert all(cut.sampling_rate == 16000 and cut.load_audio().shape == (1, cut.num_samples) for cut in cuts)
    assert "7 cuts of music, noise, speech" in capsys.readouterr().out
    first = Path("cuts/musan_cuts.jsonl.gz").read_bytes()
    import_musan(str(folder.parent), "cuts/musan_cuts.jsonl.gz")  # the folder around it will do
    assert Path("cuts/musan_cuts.jsonl.gz").read_bytes() == first


def test_manifests_are_lhotses(folder) -> None:
    import_musan(str(folder), "cuts/musan_cuts.jsonl")
    for part, count in (("music", 2), ("noise", 2), ("speech", 1)):
        recordings = RecordingSet.from_file(f"data/manifests/musan_recordings_{part}.jsonl.gz")
        assert len(list(recordings)) == count
    music = list(SupervisionSet.from_file("data/manifests/musan_supervisions_music.jsonl.gz"))
    assert [(item.id, item.speaker, item.custom["genres"], item.custom["vocals"]) for item in music] == [
        ("music-1", "Somebody", ["jazz", "blues"], True),
        ("music-2", "Other", ["pop"], False),
    ]


def test_a_part_or_the_annotations_may_be_missing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    noise(tmp_path / "own/music/a.wav", 8.0)
    import_musan("own", "musan_cuts.jsonl")
    assert gzip.decompress(Path("data/manifests/musan_supervisions_music.jsonl.gz").read_bytes()) == b""
    assert sorted(path.name for path in Path("data/manifests").iterdir()) == [
        "musan_recordings_music.jsonl.gz",
        "musan_supervisions_music.jsonl.gz",
    ]


def test_what_is_no_audio_is_counted_or_refused(folder) -> None:
    (folder / "noise/free/broken.wav").write_text("<html>")
    with pytest.raises(DataError, match="1 of 6 would be left out"):
        import_musan(str(folder), "musan_cuts.jsonl")
    assert not Path("musan_cuts.jsonl").exists() and not list(Path("data/manifests").glob("musan_*"))
    import_musan(str(folder), "musan_cuts.jsonl", max_skip_ratio=0.2)
    assert json.loads(Path("data/manifests/skipped.jsonl").read_text())["id"] == "broken"


def test_noise_that_would_spoil_all_it_is_mixed_with_is_left_out(folder) -> None:
    os.mkfifo(folder / "noise/free/fifo.wav")
    for name, value in (("loud", 1e30), ("nan", np.nan)):
        samples = np.full(160000, 0.1)
        samples[100] = value
        soundfile.write(folder / f"noise/free/{name}.wav", samples, 16000, subtype="FLOAT")
    import_musan(str(folder), "musan_cuts.jsonl", max_skip_ratio=0.5)
    skips = [json.loads(line) for line in Path("data/manifests/skipped.jsonl").read_text().splitlines()]
    assert [(skip["id"], skip["reason"]) for skip in skips] == [
        ("fifo", "audio is a FIFO, not an audio file"),
        ("loud", "audio holds samples that are no sound"),
        ("nan", "audio holds samples that are no sound"),
    ]


def test_wrong_folders_are_named(folder, tmp_path) -> None:
    with pytest.raises(DataError, match="no folder music, noise, speech"):
        import_musan(str(tmp_path / "nowhere"), "musan_cuts.jsonl")
    noise(folder / "speech/us/music-1.wav", 8.0)
    with pytest.raises(DataError, match="have the same name"):
        import_musan(str(folder), "musan_cuts.jsonl")
    noise(tmp_path / "short/noise/a.wav", 3.0)
    with pytest.raises(DataError, match="longer than 5 s"):
        import_musan(str(tmp_path / "short"), "musan_cuts.jsonl")
    assert not Path("musan_cuts.jsonl").exists()
