"""`egrecho demo`: what the page shows is what the model makes of the recording; nobody else's page reaches it."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
import uvicorn
from browser import CHROMIUM, browsing
from tiny import WORDS, save_tiny, tones

from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.resumable import Decoder, choose_place
from egrecho_inner.demo import demo
from egrecho_inner.errors import ConfigError
from egrecho_inner.serve.demo import Demo, make_demo
from egrecho_inner.serve.options import Limits, Settings


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "three.wav"
    soundfile.write(path, tones(WORDS[:3], 3.0, np.random.default_rng(0)), 16000)
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Demo]]:
    """A page with a tiny model; its address, and what stands behind it."""
    folder = tmp_path_factory.mktemp("demo")
    options = DecodeOptions(language="en", max_new_tokens=12)
    model = Decoder(str(save_tiny(folder / "tiny <b>", ending=3.3)), options, choose_place("cpu", "float32"))
    behind = Demo(model.transcriber, "tiny <b>", 20.0)
    settings = Settings(work=folder, limits=Limits(file_mb=1))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(make_demo(behind, settings), log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", behind
        server.should_exit = True
        thread.join(10)


def test_the_answer_is_the_models_with_subtitles(served: tuple[str, Demo], recording: Path) -> None:
    address, behind = served
    answer = httpx.post(f"{address}/v1/transcribe", content=recording.read_bytes(), timeout=60)
    assert answer.status_code == 200
    found = answer.json()
    assert found == behind.transcribe(recording) and found["seconds"] == 3.0 and found["language"] == "en"
    assert set(found["files"]) == {"txt", "srt", "vtt"} and found["files"]["vtt"].startswith("WEBVTT")


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"no audio", {}, 422, "bad_audio"),
        (b"x" * 2_000_000, {}, 413, "body_too_large"),
        (b"x", {"Origin": "http://evil.example"}, 403, None),
        (b"x", {"Host": "evil.example"}, 421, None),
    ],
)
def test_what_is_refused(
    served: tuple[str, Demo], content: bytes, headers: dict, status: int, code: str | None
) -> None:
    answer = httpx.post(f"{served[0]}/v1/transcribe", content=content, headers=headers, timeout=60)
    assert answer.status_code == status, answer.text
    assert "/tmp" not in answer.text and (code is None or answer.json()["code"] == code)


def test_too_long_a_recording_is_refused_and_nothing_is_kept(served: tuple[str, Demo], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.flac", np.zeros(21 * 16000, dtype=np.float32), 16000)
    answer = httpx.post(f"{served[0]}/v1/transcribe", content=(tmp_path / "long.flac").read_bytes(), timeout=60)
    assert answer.status_code == 422 and answer.json()["code"] == "too_long"
    assert httpx.get(f"{served[0]}/v1/jobs").status_code == 404


def test_others_are_let_in_on_request_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 lets others reach this server"):
        demo(str(tmp_path / "not loaded"), host="0.0.0.0")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_in_a_browser(served: tuple[str, Demo], recording: Path, tmp_path: Path) -> None:
    address, behind = served
    text = behind.transcribe(recording)["text"]
    with browsing(tmp_path / "profile", recording) as browser:
        browser.go(address)
        assert "tiny <b>" in browser.text("header .note")
        browser.choose_files("#file", [recording])
        browser.until("document.getElementById('status').textContent === 'Done.'")
        assert browser.text("#text") == text and "3.0 s of audio" in browser.text("#about")
        assert browser.run("[...document.querySelectorAll('#files a')].map((a) => a.download).join()") == (
            "recording.txt,recording.srt,recording.vtt"
        )
        browser.click("#record")
        browser.until("document.getElementById('record').getAttribute('aria-pressed') === 'true'")
        time.sleep(1.5)
        browser.click("#record")
        browser.until("document.getElementById('status').textContent === 'Done.'")
        assert browser.text("#alert") == "" and not browser.complaints()
        assert all(each.startswith((address, "blob:", "data:")) for each in browser.addresses())
