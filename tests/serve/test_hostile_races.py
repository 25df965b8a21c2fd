"""Requests and ends that meet: one job, one end, and what is killed goes on."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from servers import SMALL, Running, pack, recordings, untouched


def test_a_repeated_request_makes_one_job(shared: Running) -> None:
    archive, key = pack(recordings()), {"Idempotency-Key": "once"}
    first = shared.post(data=archive, headers=key).json()["id"]
    assert shared.post(data=archive, headers=key).json()["id"] == first
    assert shared.post(data=archive, headers=key, epochs=2).status_code == 409
    assert shared.post(data=archive, headers={"Idempotency-Key": "x" * 300}).status_code == 422
    assert shared.post(data=archive).json()["id"] != first
    untouched(shared)


def test_a_nearly_full_disk_takes_nothing_new(make_server: Callable[..., Running]) -> None:
    server = make_server(limits=replace(SMALL, disk_floor_gb=1e6))
    assert server.post().status_code == 507
    assert server.client.post("/v1/datasets").status_code == 507
    untouched(server)


def test_a_disk_that_fills_while_unpacking_is_told(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    import egrecho_inner.serve.service as service

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(service, "unpack", full)
    assert server.post().status_code == 507
    untouched(server)


def test_ends_that_meet(server: Running) -> None:
    id = server.post(epochs=50).json()["id"]
    server.wait(id, "training")
    assert server.client.delete(f"/v1/jobs/{id}").status_code == 409
    assert server.client.get(f"/v1/jobs/{id}/artifact").status_code == 404
    assert server.client.post(f"/v1/jobs/{id}/cancel").status_code == 200
    assert server.client.post(f"/v1/jobs/{id}/cancel").status_code == 200
    server.wait(id, "cancelled")
    assert server.client.post(f"/v1/jobs/{id}/cancel").status_code == 200
    done = server.post().json()["id"]
    server.wait(done)
    assert server.client.post(f"/v1/jobs/{done}/cancel").status_code == 409
    assert server.client.post(f"/v1/jobs/{done}/resume").status_code == 409
    with server.client.stream("GET", f"/v1/jobs/{done}/artifact") as answer:
        blocks = answer.iter_bytes(1000)
        first = next(blocks)
        assert server.client.delete(f"/v1/jobs/{done}").status_code == 204
        rest = b"".join(blocks)
    assert answer.headers["ETag"].strip('"') == answer.headers["X-Content-SHA256"]
    assert len(first + rest) == int(answer.headers["Content-Length"])
    assert server.client.get(f"/v1/jobs/{done}").status_code == 404


def test_a_killed_worker_is_started_again_and_goes_on(server: Running) -> None:
    id = server.post(epochs=30).json()["id"]
    server.wait(id, "training")
    folder = server.settings.jobs / id
    for _ in range(100):
        if (folder / "run" / "step.txt").is_file() and int((folder / "run" / "step.txt").read_text() or 0) > 3:
            break
        time.sleep(0.05)
    os.kill(json.loads((folder / "worker.json").read_text())["worker"]["pid"], signal.SIGKILL)
    job = server.wait(id, seconds=60)
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    assert len((folder / "starts.txt").read_text().splitlines()) == 2
    assert len((folder / "ends.txt").read_text().splitlines()) == 1
    steps = [json.loads(line)["step"] for line in (folder / "run/train/encoder/metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, 31))
    assert len(steps) <= 31


def test_a_job_that_is_always_killed_fails_in_the_end(make_server: Callable[..., Running]) -> None:
    server = make_server(limits=replace(SMALL, attempts=2))
    id = server.post(epochs=50).json()["id"]
    for attempt in (1, 2):
        for _ in range(200):
            worker = server.settings.jobs / id / "worker.json"
            if server.job(id)["attempt"] == attempt and server.job(id)["state"] == "training" and worker.is_file():
                with contextlib.suppress(ProcessLookupError):  # the file may still name the worker before
                    os.kill(json.loads(worker.read_text())["worker"]["pid"], signal.SIGKILL)
                    break
            time.sleep(0.1)
        time.sleep(0.5)
    job = server.wait(id)
    assert (job["state"], job["error"]["code"]) == ("failed", "interrupted")


def test_a_process_of_the_same_number_is_left_alone(server: Running) -> None:
    from egrecho_inner.serve.jobs import JobFolder
    from egrecho_inner.serve.worker import about, end_leftover

    folder = JobFolder(server.settings.work / "some")
    folder.path.mkdir()
    folder.write("worker.json", {"program": about(os.getpid()) | {"started": "long ago"}})
    end_leftover(folder)  # would end this very process
