"""Tables, transcripts and audio that are made to harm: refused by name, or kept as plain text."""

import io
import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from servers import SMALL, Running, recordings, untouched


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "http://169.254.169.254/u0.wav", "|touch /tmp/x", "u0.wav|sh"]
)
def test_a_csv_that_points_elsewhere_is_refused(shared: Running, name: str) -> None:
    table = f"uid,file_name,text\nu0,{name},words\n".encode()
    answer = shared.post(files=recordings() | {"train_files.csv": table})
    assert answer.status_code == 422
    assert str(shared.settings.work) not in answer.text


@pytest.mark.parametrize(
    "table",
    [
        b"uid,file_name,text\nu0,u0.wav," + b"x" * 1_000_000 + b"\n",
        b"uid,file_name,text\nu0,u0.wav,a\0b\n",
        b"uid,file_name,text\n" + b"," * 1_000_000 + b"\n",
        b"id,path\n1,2\n",
        b"uid,file_name,text\nu0,u0.wav,a\nu0,u0.wav,a\n",
        b"\xff\xfe\x00",
    ],
)
def test_a_csv_that_is_none_is_refused_with_its_row(shared: Running, table: bytes) -> None:
    answer = shared.post(files=recordings() | {"test_files.csv": table})
    assert answer.status_code == 422
    assert "test_files.csv" in answer.json()["message"]


def test_a_uid_in_two_splits_is_refused(shared: Running) -> None:
    table = b"uid,file_name,text\nu0,u0.wav,words\n"
    answer = shared.post(files=recordings() | {"train_files.csv": table, "test_files.csv": table})
    assert answer.status_code == 422
    assert "keep it in one split" in answer.json()["message"]


def test_a_formula_is_text_when_it_comes_back(shared: Running) -> None:
    id = shared.client.post("/v1/datasets").json()["id"]
    for name, content in (recordings() | {"u0.txt": b"=HYPERLINK(1)"}).items():
        shared.client.put(f"/v1/datasets/{id}/files/{name}", content=content)
    rows = shared.client.get(f"/v1/datasets/{id}").json()["recordings"]
    assert next(row["text"] for row in rows if row["uid"] == "u0") == "=HYPERLINK(1)"


@pytest.mark.parametrize("text", [b"a" * 20_000, b"caf\xe9", "a\u202eb".encode(), b"a\0b"])
def test_a_transcript_that_is_none_is_refused(shared: Running, text: bytes) -> None:
    assert shared.post(files=recordings() | {"u0.txt": text}).status_code in (413, 422)
    id = shared.client.post("/v1/datasets").json()["id"]
    assert shared.client.put(f"/v1/datasets/{id}/files/u0.txt", content=text).status_code in (413, 422)


def test_an_empty_transcript_is_listed(shared: Running) -> None:
    id = shared.client.post("/v1/datasets").json()["id"]
    for name, content in (recordings() | {"u0.txt": b" \n"}).items():
        shared.client.put(f"/v1/datasets/{id}/files/{name}", content=content)
    assert {"uid": "u0", "reason": "empty transcript"} in shared.client.get(f"/v1/datasets/{id}").json()["skipped"]


def wav(frames: int, rate: int = 16000, channels: int = 1, claimed: int | None = None) -> bytes:
    """Make a WAV whose header claims what it likes."""
    size = 2 * frames * channels
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2 & 0xFFFFFFFF, channels * 2 & 0xFFFF, 16)
    data = struct.pack("<I", size if claimed is None else claimed) + bytes(size)
    return b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + data


def flac_bomb() -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.zeros(16000 * 4000, dtype=np.int16), 16000, format="FLAC")
    return out.getvalue()


HOSTILE_AUDIO: dict[str, Callable[[], bytes]] = {
    "playlist": lambda: b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
    "concat": lambda: b"ffconcat version 1.0\nfile /etc/passwd\n",
    "avi": lambda: b"RIFF\0\0\0\0AVI LIST" + bytes(200),
    "html": lambda: b"<html>not found</html>",
    "empty": lambda: b"",
    "no samples": lambda: wav(0),
    "1000 channels": lambda: wav(16, channels=1000),
    "4 GHz": lambda: wav(1600, rate=4_000_000_000),
    "over an hour": flac_bomb,
}


@pytest.mark.parametrize("case", HOSTILE_AUDIO)
def test_audio_that_is_none_is_refused_by_name(shared: Running, case: str) -> None:
    answer = shared.post(files=recordings() | {"u0.wav": HOSTILE_AUDIO[case]()})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_audio")
    assert "u0.wav" in answer.json()["message"]
    assert "passwd" not in answer.text
    untouched(shared)


def test_a_playlist_named_m4a_is_not_opened(shared: Running) -> None:
    files = recordings() | {"p.m4a": b"#EXTM3U\nfile:///etc/passwd\n", "p.txt": b"words"}
    assert shared.post(files=files).status_code == 422


def test_more_audio_than_one_job_may_have_is_refused(make_server: Callable[..., Running]) -> None:
    server = make_server(limits=replace(SMALL, audio_hours=0.0001))
    answer = server.post()
    assert answer.status_code == 422
    assert "hours of audio" in answer.json()["message"]
