"""A server on the loopback address in a thread, with a program that only pretends to train; recordings as archives."""

import contextlib
import io
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from egrecho_inner.serve.options import Limits, Settings

FAKE = Path(__file__).with_name("fake_personal.py")
SMALL = Limits(
    upload_mb=20,
    unpacked_mb=20,
    files=300,
    file_mb=5,
    audio_hours=1,
    disk_floor_gb=0.001,
    idle_seconds=2,
    job_hours=0.1,
)


def recordings(count: int = 6, seconds: float = 0.2) -> dict[str, bytes]:
    """Make recordings with transcripts, by file name."""
    files = {}
    for number in range(count):
        out = io.BytesIO()
        wave = np.random.default_rng(number).normal(0, 0.1, round(16000 * seconds))
        soundfile.write(out, wave, 16000, format="WAV")
        files[f"u{number}.wav"] = out.getvalue()
        files[f"u{number}.txt"] = f"sentence number {number}".encode()
    return files


def pack(files: dict[str, bytes]) -> bytes:
    """Pack files as `tar -czf` does."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


class Running:
    """A server that runs, and a client for it."""

    def __init__(self, settings: Settings, address: str, service: Any):
        self.settings, self.address, self.service = settings, address, service
        import httpx

        self.client = httpx.Client(base_url=address, timeout=30, trust_env=False)

    def post(self, path: str = "/v1/jobs", files: dict[str, bytes] | None = None, data: bytes | None = None,
             headers: dict[str, str] | None = None, **fields: Any) -> Any:  # fmt: skip
        """Send a form with an archive."""
        archive = pack(recordings() if files is None else files) if data is None else data
        form = {"base_model_name": "tiny", "epochs": "1"} | {name: str(value) for name, value in fields.items()}
        return self.client.post(path, data=form, files={"data": ("data.tar.gz", archive)}, headers=headers)

    def job(self, id: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Return a job as the server shows it."""
        return self.client.get(f"/v1/jobs/{id}", headers=headers).json()

    def wait(self, id: str, *states: str, seconds: float = 40, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Wait until a job is in one of the states, by default an end."""
        states = states or ("succeeded", "failed", "cancelled")
        for _ in range(int(seconds / 0.1)):
            if (job := self.job(id, headers))["state"] in states:
                return job
            time.sleep(0.1)
        raise AssertionError(f"job {id} is {self.job(id, headers)['state']}, not {states}; its log: "
                             f"{(self.settings.jobs / id / 'log.txt').read_text()[-2000:]}")  # fmt: skip


@contextlib.contextmanager
def running(settings: Settings, engines: dict[str, Any] | None = None) -> Iterator[Running]:
    """Run a server in a thread until the block ends."""
    import uvicorn

    from egrecho_inner.serve.app import make_app
    from egrecho_inner.serve.engines.local import LocalEngine
    from egrecho_inner.serve.patience import PatientProtocol

    app = make_app(settings, engines or {"local": LocalEngine()})
    config = uvicorn.Config(app, host="127.0.0.1", port=settings.port, log_level="warning", timeout_graceful_shutdown=1,
                            http=PatientProtocol)  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        for _ in range(200):
            if server.started:
                break
            time.sleep(0.05)
        assert server.started
        yield Running(settings, f"http://127.0.0.1:{settings.port}", app.state.service)
    finally:
        server.should_exit = True
        thread.join(15)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def settings_for(work: Path, **more: Any) -> Settings:
    """Return settings for tests."""
    usual = {"models": {"tiny": "/nowhere/tiny"}, "limits": SMALL, "tensorboard": False, "program": (str(FAKE),)}
    return Settings(**{"work": work, "port": free_port(), **usual, **more})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def untouched(server: Running) -> None:
    """Check that nothing is left of a refused request."""
    assert list((server.settings.work / "incoming").iterdir()) == []
    known = {job.id for job in server.service.store.newest()}
    assert {path.name for path in server.settings.jobs.iterdir()} == known


def raw(server: Running, request: bytes, wait: float = 5) -> bytes:
    """Send bytes and return what comes back."""
    with socket.create_connection(("127.0.0.1", server.settings.port), timeout=wait) as connection:
        connection.sendall(request)
        received = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while block := connection.recv(65536):
                received += block
        return received
