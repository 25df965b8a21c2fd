"""Server and workers are killed at random: no job is lost, none ends twice, none is left behind."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import Running, free_port, pack, recordings, settings_for

from egrecho_inner.config import parse
from egrecho_inner.errors import ConfigError
from egrecho_inner.serve.single import hold
from egrecho_inner.server import serve

JOBS, KILLS = 20, 12


class Killable:
    """A server in a process of its own."""

    def __init__(self, work: Path, port: int, slots: int = 3):
        self.work, self.words = work, [str(work), str(port), str(slots)]
        self.client = Running(settings_for(work, port=port), f"http://127.0.0.1:{port}", None)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        import httpx

        script = Path(__file__).with_name("run_server.py")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(script.parents[2]), str(script.parent)])}
        self.process = subprocess.Popen([sys.executable, script, *self.words], env=environment)
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                if self.client.client.get("/healthz").status_code == 200:
                    return
            assert self.process.poll() is None, "the server ended"
            time.sleep(0.1)
        raise AssertionError("the server does not answer")

    def kill(self) -> None:
        """End it without notice."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def workers(self) -> list[int]:
        """Return the processes of workers that may run."""
        found = []
        for path in (self.work / "jobs").glob("*/worker.json"):
            with contextlib.suppress(OSError, ValueError):
                pid = json.loads(path.read_text())["worker"]["pid"]
                if b"serve.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found


@pytest.fixture
def killable(tmp_path: Path):
    server = Killable(tmp_path / "work", free_port())
    yield server
    server.kill()
    for pid in server.workers():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers by /proc")
def test_every_job_ends_once_whoever_is_killed(killable: Killable) -> None:
    import httpx

    rng = random.Random(1)
    killable.start()
    archive, ids = pack(recordings(3)), []
    kills = sorted(rng.sample(range(JOBS), 4))
    for number in range(JOBS):
        with contextlib.suppress(httpx.TransportError):
            key = {"Idempotency-Key": f"job {number}".replace(" ", "-")}
            answer = killable.client.post(data=archive, epochs=rng.randint(2, 8), headers=key)
            assert answer.status_code == 201, answer.text
            ids.append(answer.json()["id"])
        if number in kills:
            killable.kill()
            killable.start()
    assert len(set(ids)) == JOBS
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.1, 0.8))
        if rng.random() < 0.4:
            killable.kill()
            killable.start()
        elif workers := killable.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
    for id in ids:
        job = killable.client.wait(id, seconds=120)
        assert job["state"] == "succeeded", job
        folder = killable.work / "jobs" / id
        assert len((folder / "ends.txt").read_text().splitlines()) == 1
    end = time.monotonic() + 20  # the last one has written its state, and has yet to end
    while killable.workers() and time.monotonic() < end:
        time.sleep(0.1)
    assert killable.workers() == []
    assert killable.client.client.get("/status").json() == {"status": "idle"}


def test_a_server_that_comes_back_takes_over_the_running_job(killable: Killable) -> None:
    killable.start()
    id = killable.client.post(epochs=30).json()["id"]
    killable.client.wait(id, "training")
    killable.kill()
    time.sleep(0.5)
    killable.start()
    job = killable.client.wait(id, seconds=60)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    assert len((killable.work / "jobs" / id / "starts.txt").read_text().splitlines()) == 1


def test_a_job_that_ended_while_the_server_was_down_is_found(killable: Killable) -> None:
    killable.start()
    id = killable.client.post(epochs=3).json()["id"]
    killable.client.wait(id, "training")
    killable.kill()
    for _ in range(200):
        if (killable.work / "jobs" / id / "result.json").is_file():
            break
        time.sleep(0.1)
    killable.start()
    assert killable.client.wait(id)["attempt"] == 1


def test_a_cancel_survives_the_server(killable: Killable) -> None:
    killable.start()
    id = killable.client.post(epochs=50).json()["id"]
    killable.client.wait(id, "training")
    killable.client.client.post(f"/v1/jobs/{id}/cancel")
    killable.kill()
    killable.start()
    assert killable.client.wait(id)["state"] == "cancelled"
    assert not (killable.work / "jobs" / id / "ends.txt").exists()
    assert killable.client.client.post(f"/v1/jobs/{id}/resume").json()["state"] == "queued"
    assert killable.client.wait(id)["state"] == "succeeded"
    steps = (killable.work / "jobs" / id / "run/train/encoder/metrics.jsonl").read_text().splitlines()
    assert len(steps) <= 51  # it went on where it was


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    with hold(tmp_path / "work"), pytest.raises(ConfigError, match="another server"), hold(tmp_path / "work"):
        pass
    arguments = parse(serve, ["--work", str(tmp_path / "w"), "--host", "0.0.0.0", "--port", str(free_port())])
    with pytest.raises(ConfigError, match="--open true"):
        serve(**arguments)
