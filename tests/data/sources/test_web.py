"""Recordings and captions as they lie on disk: layouts, seven caption formats, containers, and what has no partner."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from egrecho_inner.data.sources.containers import container_of, to_flac
from egrecho_inner.data.sources.web import find_pairs, read_list
from egrecho_inner.errors import DataError
from egrecho_inner.import_web import import_web
from egrecho_inner.runtime.ledger import Ledger, read_ledger

av = pytest.importorskip("av", reason="extra web is not installed", exc_type=ImportError)

RATE = 16000
CAPTIONS = {
    "vtt": "WEBVTT\n\n00:01.000 --> 00:02.500\nOne &amp; <i>two</i>\n",
    "srt": "1\n00:00:01,000 --> 00:00:02,500\nOne & two\n",
    "ttml": '<tt xmlns="http://www.w3.org/ns/ttml"><body><p begin="1s" end="2.5s">One &amp; two</p></body></tt>',
    "ass": "[Script Info]\n\n[V4+ Styles]\nFormat: Name\nStyle: Default\n\n[Events]\n"
    "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    "Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,One & two\n",
    "json3": '{"events": [{"tStartMs": 1000, "dDurationMs": 1500, "segs": [{"utf8": "One & "}, {"utf8": "two"}]}]}',
    "json": '{"segments": [{"start": 1.0, "end": 2.5, "text": " One & two"}]}',
    "txt": "One & two\n",
}


def wave(seconds: float = 3.0) -> np.ndarray:
    time = np.arange(int(RATE * seconds)) / RATE
    return (8000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)


def encode(path: Path, container: str, codec: str, rate: int = 48000) -> None:
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(stream.format.name, "mono", rate, stream.frame_size or 960)
        frame = av.AudioFrame.from_ndarray(wave()[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))


def rows_of(path: Path) -> list[dict]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize("ending", CAPTIONS)
def test_seven_formats_give_the_same_cue(tmp_path: Path, ending: str) -> None:
    soundfile.write(tmp_path / "a.flac", wave(), RATE)
    (tmp_path / f"a.{ending}").write_text(CAPTIONS[ending])
    import_web(str(tmp_path), str(tmp_path / "out" / "documents.jsonl.gz"))
    (row,) = rows_of(tmp_path / "out" / "documents.jsonl.gz")
    times = [None, None] if ending == "txt" else [1.0, 2.5]
    assert row["supervisions"][0]["custom"]["captions"] == [[*times, "One & two"]]
    assert row["duration"] == 3.0 and "text" not in row["supervisions"][0]


@pytest.mark.parametrize(
    ("name", "container", "codec"),
    [("a.m4a", "mp4", "aac"), ("a.webm", "webm", "libopus"), ("a.aac", "adts", "aac"), ("a.opus", "ogg", "libopus")],
)
def test_audio_of_the_web_becomes_flac(tmp_path: Path, name: str, container: str, codec: str) -> None:
    encode(tmp_path / name, container, codec)
    (tmp_path / "a.vtt").write_text(CAPTIONS["vtt"])
    import_web(str(tmp_path), str(tmp_path / "out" / "documents.jsonl.gz"))
    (row,) = rows_of(tmp_path / "out" / "documents.jsonl.gz")
    found, rate = soundfile.read(row["recording"]["sources"][0]["source"], dtype="int16")
    assert rate == RATE and len(found) == row["recording"]["num_samples"] and abs(len(found) - 3 * RATE) < 0.12 * RATE
    spectrum = np.abs(np.fft.rfft(found[RATE : 2 * RATE].astype(float)))
    assert abs(int(spectrum.argmax()) - 440) <= 1


def test_the_container_is_what_the_bytes_say(tmp_path: Path) -> None:
    encode(tmp_path / "a.m4a", "mp4", "aac")
    shutil.copy(tmp_path / "a.m4a", tmp_path / "a.webm")  # the name does not decide
    to_flac(tmp_path / "a.webm", tmp_path / "a.flac", RATE)
    assert soundfile.info(tmp_path / "a.flac").samplerate == RATE
    for text in ("#EXTM3U\nhttp://127.0.0.1/x.ts\n", "ffconcat version 1.0\nfile /etc/passwd\n", "<html>"):
        (tmp_path / "b.m4a").write_text(text)
        assert container_of((tmp_path / "b.m4a").read_bytes()) is None
        with pytest.raises(DataError, match=r"is not \.m4a inside"):
            to_flac(tmp_path / "b.m4a", tmp_path / "b.flac")
    with pytest.raises(DataError, match="longer than"):
        to_flac(tmp_path / "a.m4a", tmp_path / "c.flac", longest=1.0)
    assert not (tmp_path / "c.flac").exists()


def test_stereo_becomes_the_mean_of_both(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([wave(), np.zeros_like(wave())], axis=1), RATE)
    (tmp_path / "a.vtt").write_text(CAPTIONS["vtt"])
    import_web(str(tmp_path), str(tmp_path / "out" / "documents.jsonl.gz"))
    (row,) = rows_of(tmp_path / "out" / "documents.jsonl.gz")
    found, _ = soundfile.read(row["recording"]["sources"][0]["source"], dtype="int16")
    assert np.abs(found).max() == pytest.approx(4000, abs=3)


def test_pairs_of_both_layouts_and_what_is_left_over(tmp_path: Path) -> None:
    for name in (
        "shard_00000/x/audio_x.m4a",
        "shard_00000/x/transcript_x.vtt",
        "shard_00001/x/audio_x.webm",
        "shard_00001/x/transcript_x.srt",
        "flat.v1/talk.2024.mp3",
        "flat.v1/talk.2024.en.vtt",
        "flat.v1/talk.2024.de.vtt",
        "flat.v1/talk.2024.info.json",
        "flat.v1/alone.wav",
        "flat.v1/words.txt",
        "flat.v1/.hidden.wav",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    ledger = Ledger(tmp_path / "skipped.jsonl")
    pairs = find_pairs(tmp_path, ledger, "en")
    assert [(pair.id, Path(pair.subtitles).name, pair.language) for pair in pairs] == [
        ("shard_00000-x-x", "transcript_x.vtt", None),
        ("shard_00001-x-x", "transcript_x.srt", None),
        ("talk.2024", "talk.2024.en.vtt", "en"),
    ]
    assert {(skip.id, skip.reason) for skip in ledger.skips} == {
        ("flat.v1/talk.2024.de.vtt", "other captions of the same recording"),
        ("flat.v1/talk.2024.info.json", "captions without a recording"),
        ("flat.v1/alone.wav", "recording without captions"),
        ("flat.v1/words.txt", "captions without a recording"),
    }


def test_a_list_names_its_pairs(tmp_path: Path) -> None:
    rows = [{"audio": "a.flac", "subtitles": "a.vtt"}, {"id": "two", "audio": "/b.flac", "subtitles": "/b.vtt"}]
    path = tmp_path / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [(pair.id, pair.audio) for pair in read_list(path)] == [("a", str(tmp_path / "a.flac")), ("two", "/b.flac")]
    for row, message in (
        ({"audio": "https://x/a.flac", "subtitles": "a.vtt"}, "is no file"),
        ({"audio": "pipe:rm", "subtitles": "a.vtt"}, "is no file"),
        ({"sound": "a.flac"}, "expected the keys"),
        (rows[0], "twice"),
    ):
        path.write_text("".join(json.dumps(each) + "\n" for each in (*rows, row)))
        with pytest.raises(DataError, match=message):
            read_list(path)


def test_a_changed_pair_is_read_again_and_a_torn_one_is_in_the_ledger(tmp_path: Path) -> None:
    out = tmp_path / "out" / "documents.jsonl.gz"
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.flac", wave(), RATE)
        (tmp_path / f"{name}.vtt").write_text(CAPTIONS["vtt"])
    torn = tmp_path / "b.flac"
    torn.write_bytes(torn.read_bytes()[:100])
    import_web(str(tmp_path), str(out))
    assert [row["id"] for row in rows_of(out)] == ["a"]
    assert [skip.id for skip in read_ledger(out.with_name("skipped.jsonl"))] == ["b"]
    soundfile.write(torn, wave(2.0), RATE)
    import_web(str(tmp_path), str(out))
    assert [(row["id"], row["duration"]) for row in rows_of(out)] == [("a", 3.0), ("b", 2.0)]
    assert read_ledger(out.with_name("skipped.jsonl")) == []  # what an import writes inside the folder is no pair
