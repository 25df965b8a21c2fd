"""local/hf_download.sh against a hub that runs in the test: what it takes, what it leaves, what it says."""

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0" * 40
WHISPER = {
    "config.json": json.dumps({"model_type": "whisper"}).encode(),
    "generation_config.json": b"{}",
    "preprocessor_config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": save({"w": np.zeros(4, np.float32)}),
    "model.fp32-00001-of-00002.safetensors": b"a second copy of the weights",
    "pytorch_model.bin": b"a pickle",
    "flax_model.msgpack": b"another framework",
    "onnx/config.json": b"{}",
}


@pytest.fixture
def hub() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A hub with one repository; the test changes its files."""
    files = dict(WHISPER)

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.split("?")[0].split(f"/resolve/{COMMIT}/")[-1]
            if self.path.startswith("/api/models/"):
                listing = [
                    {"type": "file", "path": path, "size": len(data), "oid": "0"} for path, data in files.items()
                ]
                siblings = [{"rfilename": path} for path in files]
                answer = listing if "/tree/" in self.path else {"id": "a/tiny", "sha": COMMIT, "siblings": siblings}
                self.reply(json.dumps(answer).encode())
            elif name in files:
                self.reply(files[name])
            else:
                self.send_error(404)

        do_HEAD = do_GET

        def reply(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", files
    server.shutdown()


def download(endpoint: str, out: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(out.parent / "hf")}
    command = ["bash", str(ROOT / "local/hf_download.sh"), "--model", "a/tiny", "--out", str(out)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_model_arrives_whole_and_only_in_safetensors(hub, tmp_path):
    out = tmp_path / "tiny"
    done = download(hub[0], out)
    assert done.returncode == 0, done.stderr
    expected = {
        name for name in WHISPER if "fp32" not in name and not name.endswith(("bin", "msgpack")) and "/" not in name
    }
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == expected
    assert not (tmp_path / "tiny.part").exists()

    hub[1].clear()  # an empty hub: a second call must not need it
    again = download(hub[0], out)
    assert again.returncode == 0 and "nothing to do" in again.stdout


@pytest.mark.parametrize("lost", ["tokenizer.json", "preprocessor_config.json", "model.safetensors"])
def test_an_incomplete_repository_is_named_and_leaves_no_folder(hub, tmp_path, lost):
    del hub[1][lost]
    done = download(hub[0], tmp_path / "tiny")
    assert done.returncode == 4 and lost in done.stderr.splitlines()[-1]
    assert not (tmp_path / "tiny").exists()


def test_weights_that_were_cut_off_are_refused(hub, tmp_path):
    hub[1]["model.safetensors"] = WHISPER["model.safetensors"][:-3]
    done = download(hub[0], tmp_path / "tiny")
    assert done.returncode == 4 and "not a whole safetensors file" in done.stderr
    assert not (tmp_path / "tiny").exists()


def test_no_network_gives_one_error_line_with_the_remedy(tmp_path):
    done = download("http://127.0.0.1:9", tmp_path / "tiny")
    assert done.returncode == 5
    assert done.stderr.splitlines()[-1].startswith("error: a/tiny (main) was not downloaded")
    assert not (tmp_path / "tiny").exists() and not (tmp_path / "tiny.part").exists()
