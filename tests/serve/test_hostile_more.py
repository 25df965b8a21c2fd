"""What clients tried that no catalogue names: odd headers, limits gone round, threads taken away, disks that fill."""

import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest
from servers import SMALL, Running, recordings, untouched

from egrecho_inner.serve.auth import LOCAL, Refusal
from egrecho_inner.serve.datasets import Datasets


def test_a_field_name_of_other_letters_is_refused_and_no_fault(shared: Running) -> None:
    answer = shared.post(**{"ключ": "x"})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_field")
    assert "ключ" in answer.json()["message"]


@pytest.mark.parametrize("boundary", ["b" * 5000, "*=nonsense''%ff"])
def test_a_boundary_that_is_none_is_refused(shared: Running, boundary: str) -> None:
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    answer = shared.client.post("/v1/jobs", content=b"--b--", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_form")


@pytest.mark.parametrize("last", [b"\xb2.1", b"1.", b".1", b"9" * 5000 + b".1", b"-1.-1"])
def test_a_place_in_the_events_that_is_none_begins_anew(shared: Running, last: bytes) -> None:
    id = shared.post().json()["id"]
    shared.wait(id)
    answer = shared.client.get(f"/v1/jobs/{id}/events", headers={b"Last-Event-ID": last})
    assert answer.status_code == 200 and '"state": "succeeded"' in answer.text and "id: 1.0" in answer.text


def test_a_part_of_the_board_that_is_no_address_is_not_there(shared: Running) -> None:
    id = shared.post().json()["id"]
    shared.wait(id)
    board = shared.settings.jobs / id / "tensorboard.json"
    board.write_text('{"port": 9}')
    assert shared.client.get(f"/v1/jobs/{id}/tensorboard/%00").status_code == 404
    board.unlink()


def test_a_data_set_has_bounds_and_an_owner_has_so_many(make_server: Callable[..., Running]) -> None:
    server = make_server(limits=replace(SMALL, unpacked_mb=0.02, datasets_per_owner=2))
    ids = [server.client.post("/v1/datasets").json()["id"] for _ in range(2)]
    assert server.client.post("/v1/datasets").status_code == 429
    wave = recordings()["u0.wav"]  # 6,444 bytes
    codes = [server.client.put(f"/v1/datasets/{ids[0]}/files/{n}.wav", content=wave).status_code for n in range(4)]
    assert codes == [204, 204, 204, 413]
    listed = server.client.get("/v1/datasets").json()["datasets"]
    assert [each["id"] for each in listed] == ids and (listed[0]["files"], listed[0]["bytes"]) == (3, 3 * len(wave))
    assert server.client.delete(f"/v1/datasets/{ids[0]}").status_code == 204
    assert server.client.post("/v1/datasets").status_code == 201


def test_a_data_set_that_is_deleted_while_it_is_filled_is_gone(shared: Running) -> None:
    data, wave = Datasets(shared.settings), shared.settings.work / "incoming" / "wave"
    wave.write_bytes(recordings()["u0.wav"])
    folder = data.find(LOCAL, data.new(LOCAL))
    ended: list[str] = []

    def fill(number: int) -> None:
        try:
            while True:
                data.put(folder, f"u{number}.wav", wave)
        except Refusal as refusal:
            ended.append(refusal.code)

    def delete(_: int) -> bool:
        try:
            data.delete(folder)
        except Refusal:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        filling = [pool.submit(fill, number) for number in range(4)]
        time.sleep(0.2)
        deleted = list(pool.map(delete, range(4)))
        assert [each.result() for each in filling] == [None] * 4
    assert sum(deleted) == 1 and ended == ["unknown_dataset"] * 4
    assert not folder.exists() and not list(shared.settings.datasets.glob(".gone-*"))
    wave.unlink()
    untouched(shared)


def test_resuming_does_not_go_round_the_queues_limit(make_server: Callable[..., Running]) -> None:
    server = make_server(limits=replace(SMALL, jobs_per_owner=2, epochs=9000))
    running, *waiting = (server.post(epochs=9000).json()["id"] for _ in range(2))
    for _ in range(2):
        server.client.post(f"/v1/jobs/{waiting[-1]}/cancel")
        waiting.append(server.post().json()["id"])
    answers = [server.client.post(f"/v1/jobs/{id}/resume") for id in waiting[:-1]]
    assert [answer.status_code for answer in answers] == [429, 429]
    assert server.job(waiting[0])["state"] == "cancelled"
    server.client.post(f"/v1/jobs/{waiting[-1]}/cancel")
    assert server.client.post(f"/v1/jobs/{waiting[0]}/resume").status_code == 200
    for id in (running, waiting[0]):
        server.client.post(f"/v1/jobs/{id}/cancel")
    server.wait(running, "cancelled")


def test_waiting_for_texts_takes_no_threads_from_others(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    id = server.post().json()["id"]
    server.wait(id)
    monkeypatch.setattr(server.service.transcriber, "ask", lambda _: go.wait(30) and {"texts": {"base": "one"}})

    def ask(_: int) -> int:
        return httpx.post(f"{server.address}/v1/jobs/{id}/transcribe", content=b"x", timeout=40).status_code

    with ThreadPoolExecutor(60) as pool:
        asking = [pool.submit(ask, number) for number in range(60)]  # the server has 40 threads
        time.sleep(1)
        began = time.monotonic()
        assert server.client.get("/v1/jobs").status_code == 200
        assert time.monotonic() - began < 5
        go.set()
        codes = [each.result() for each in asking]
    assert set(codes) == {200, 503} and codes.count(200) >= 2
    untouched(server)


@pytest.mark.parametrize("error", [OSError(28, "No space left"), sqlite3.OperationalError("database or disk is full")])
def test_a_full_disk_is_named_wherever_it_is_met(
    server: Running, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    id = server.client.post("/v1/datasets").json()["id"]
    monkeypatch.setattr("egrecho_inner.serve.archive.Taker.take", full)
    monkeypatch.setattr(server.service.store, "add", full)
    for answer in (server.client.put(f"/v1/datasets/{id}/files/1.txt", content=b"x"), server.post()):
        assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    untouched(server)


def test_a_number_of_thousands_of_digits_is_no_fault_of_the_recordings(shared: Running) -> None:
    id = shared.client.post("/v1/datasets").json()["id"]
    for name, content in recordings().items():
        shared.client.put(f"/v1/datasets/{id}/files/{name}", content=content)
    answer = shared.client.get(f"/v1/datasets/{id}", params={"seed": "9" * 4000}).json()
    assert "split.seed" in answer["error"]
