"""`egrecho push` against a stand-in for the hub's HTTP interface: what arrives is what lies in the folder."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from huggingface_hub import constants
from tiny import save_tiny

from egrecho_inner.errors import ConfigError, DataError, MachineError, ModelError
from egrecho_inner.push import push


class Hub(BaseHTTPRequestHandler):
    """Takes repositories, large files and commits."""

    asked: ClassVar[list[str]] = []
    files: ClassVar[dict[str, bytes]] = {}
    large: ClassVar[dict[str, bytes]] = {}
    broken = False

    def answer(self, content: dict, code: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def do_POST(self) -> None:
        body, host = self.body(), f"http://{self.headers['Host']}"
        self.asked.append(self.path)
        if self.broken:
            self.answer({"error": "no"}, 403)
        elif self.path == "/api/repos/create":
            self.answer({"url": f"{host}/me/model", "name": "me/model"})
        elif "/preupload/" in self.path:
            paths = [each["path"] for each in json.loads(body)["files"]]
            modes = ["lfs" if path.endswith(".safetensors") else "regular" for path in paths]
            self.answer(
                {
                    "files": [
                        {"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in zip(paths, modes, strict=True)
                    ]
                }
            )
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            self.answer(
                {
                    "transfer": "basic",
                    "objects": [
                        {**each, "actions": {"upload": {"href": f"{host}/store/{each['oid']}"}}} for each in objects
                    ],
                }
            )
        elif "/commit/" in self.path:
            for row in map(json.loads, body.splitlines()):
                if row["key"] == "file":
                    self.files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
                elif row["key"] == "lfsFile":
                    self.files[row["value"]["path"]] = self.large[row["value"]["oid"]]
            self.answer({"commitUrl": f"{host}/me/model/commit/abc", "commitOid": "abc"})
        else:
            self.answer({})

    def do_PUT(self) -> None:
        self.large[self.path.rsplit("/", 1)[1]] = self.body()
        self.answer({})

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.asked, Hub.files, Hub.large, Hub.broken = [], {}, {}, False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_standin")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield Hub
    server.shutdown()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = save_tiny(tmp_path / "final")
    (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\n# A model\n")
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "results.json").write_text("{}")
    (tmp_path / "eval" / "hyps.jsonl").write_text("{}")
    return folder


def test_what_arrives_is_what_lies_in_the_folder(
    hub: type[Hub], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    push(str(model), "me/model", [str(tmp_path / "eval")])
    expected = {path.name: path.read_bytes() for path in model.iterdir()} | {"eval/results.json": b"{}"}
    assert hub.files == expected
    assert capsys.readouterr().out.rstrip().endswith("/me/model/commit/abc")


def test_a_dry_run_asks_nobody(hub: type[Hub], model: Path, capsys: pytest.CaptureFixture) -> None:
    push(str(model), "me/model", dry_run=True)
    out = capsys.readouterr().out
    assert "model.safetensors" in out and "nothing was sent" in out and not hub.asked


def test_a_refusal_is_one_line_and_incomplete_folders_are_not_sent(hub: type[Hub], model: Path, tmp_path: Path) -> None:
    hub.broken = True
    with pytest.raises(MachineError, match="me/model was not uploaded"):
        push(str(model), "me/model")
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        push(str(model), "model")
    with pytest.raises(DataError, match=r"no results.json"):
        push(str(model), "me/model", [str(model)])
    (model / "README.md").unlink()
    with pytest.raises(ModelError, match="no card"):
        push(str(model), "me/model")
