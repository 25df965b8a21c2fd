"""Without a network a model that is not here is missed within seconds and in one line."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants
from tiny import speech_cuts

from egrecho_inner.model.hub import why_unreachable

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The libraries' state without HF_HUB_OFFLINE, put back afterwards."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    why_unreachable.cache_clear()
    yield monkeypatch
    why_unreachable.cache_clear()


def test_a_hub_that_does_not_answer_is_not_asked_again(online: pytest.MonkeyPatch) -> None:
    online.setattr(constants, "ENDPOINT", NOBODY)
    assert why_unreachable().startswith(f"{NOBODY} does not answer (")
    assert constants.is_offline_mode() and os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_hub_that_answers_anything_is_used(online: pytest.MonkeyPatch, status: int) -> None:
    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    online.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    assert why_unreachable() == "" and not constants.is_offline_mode()
    server.shutdown()


def test_eval_of_a_hub_id_without_a_network_is_one_line(tmp_path: Path) -> None:
    cuts = speech_cuts(tmp_path, n=2)
    environment = {**os.environ, "HF_ENDPOINT": NOBODY, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "egrecho_inner/evaluation.py", "--model", "openai/whisper-tiny"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--cuts", str(cuts), "--out", str(tmp_path / "out")],
        capture_output=True, text=True, env=environment, cwd=ROOT, timeout=300,
    )  # fmt: skip
    assert done.returncode == 4 and time.monotonic() - began < 60  # most of it is importing
    assert done.stderr.count("\n") == 1 and "does not answer" in done.stderr and "hf_download.sh" in done.stderr
