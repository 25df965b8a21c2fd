"""Hostile requests against a running server, and what it answers. After each the server takes the next honest job."""

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hostile import REFUSED
from servers import SMALL, Running, pack, recordings, running, settings_for

from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.serve.auth import Gate, new_token


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run one server for all requests that must not harm it."""
    work = tmp_path_factory.mktemp("shared") / "work"
    with running(
        settings_for(work, limits=replace(SMALL, files=200, unpacked_mb=30, file_mb=5, upload_mb=30))
    ) as found:
        yield found


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Make tokens of two writers, a reader, an admin and one that has expired."""
    path = tmp_path / "tokens.json"
    people = {"anna": "write", "ben": "write", "eve": "read", "root": "admin", "old": "write"}
    return path, {name: new_token(path, name, role, -1 if name == "old" else None) for name, role in people.items()}


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


# 1 to 13: archives


@pytest.mark.parametrize("case", REFUSED)
def test_archives(shared: Running, case: str) -> None:
    content, code, status = REFUSED[case]
    answer = shared.post(data=content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    untouched(shared)


def test_a_broken_archive_does_not_stop_the_server(server: Running) -> None:
    for path in ("/training", "/v1/jobs"):
        assert server.post(path, data=b"no archive at all").status_code == 422
    assert server.wait(server.post().json()["id"])["state"] == "succeeded"


# 14, 15: bodies


def test_an_announced_50_gb_is_refused_before_it_is_read(shared: Running) -> None:
    head = (
        f"POST /training HTTP/1.1\r\nHost: 127.0.0.1:{shared.settings.port}\r\nContent-Length: 50000000000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    assert b" 413 " in raw(shared, head.encode()).split(b"\r\n")[0]


def test_chunks_without_a_length_are_counted(shared: Running) -> None:
    def blocks() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="data"; filename="d"\r\n\r\n'
        for _ in range(40):
            yield os.urandom(1_000_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        answer = shared.client.post("/training", content=blocks(), headers=headers)
        assert answer.status_code == 413
    except Exception as error:  # the server closed while we still sent
        assert "httpx" in type(error).__module__
    untouched(shared)


def test_a_client_that_falls_silent_is_let_go(shared: Running) -> None:
    head = (
        f"POST /training HTTP/1.1\r\nHost: 127.0.0.1:{shared.settings.port}\r\nContent-Length: 1000000\r\n"
        'Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: form-data; name="data"; '
        'filename="d"\r\n\r\nabc'
    )
    began = time.monotonic()
    assert b" 408 " in raw(shared, head.encode(), wait=10).split(b"\r\n")[0]
    assert time.monotonic() - began < 8
    untouched(shared)


def test_a_head_that_never_ends_is_not_waited_for(
    make_server: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    from egrecho_inner.serve.patience import PatientProtocol

    monkeypatch.setattr(PatientProtocol, "head_seconds", 1.0)
    server = make_server()
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.settings.port), timeout=10) as connection:
        with contextlib.suppress(ConnectionError):
            for letter in b"GET /status HTTP/1.1\r\nX-Slow: " + b"x" * 100:
                connection.sendall(bytes([letter]))
                time.sleep(0.1)
                if time.monotonic() - began > 8:
                    break
        assert time.monotonic() - began < 8
    for _ in range(12):  # a connection that is used again and again stays
        time.sleep(0.2)
        assert server.client.get("/healthz").status_code == 200
    watcher = server.client.get(f"/v1/jobs/{(id := server.post(epochs=30).json()['id'])}/events", timeout=60)
    assert "succeeded" in watcher.text  # a long answer is no reason
    assert server.job(id)["state"] == "succeeded"


def test_an_upload_that_is_cut_off_leaves_nothing(shared: Running) -> None:
    head = (
        f"POST /training HTTP/1.1\r\nHost: 127.0.0.1:{shared.settings.port}\r\nContent-Length: 1000000\r\n"
        'Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: form-data; name="data"; '
        'filename="d"\r\n\r\n'
    ).encode()
    with socket.create_connection(("127.0.0.1", shared.settings.port), timeout=5) as connection:
        connection.sendall(head + os.urandom(500_000))
    for _ in range(50):
        if not list((shared.settings.work / "incoming").iterdir()):
            break
        time.sleep(0.1)
    untouched(shared)


def test_a_form_of_many_or_large_fields_is_refused(shared: Running) -> None:
    files = {"data": ("d", pack(recordings()))}
    many = {f"field{n}": "x" for n in range(1000)}
    assert shared.client.post("/training", data=many, files=files).status_code == 400
    assert shared.client.post("/training", data={"language": "x" * 10_000_000}, files=files).status_code == 400
    header = b'--x\r\nContent-Disposition: form-data; name="' + b"y" * 100_000 + b'"\r\n\r\nv\r\n--x--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert shared.client.post("/training", content=header, headers=kind).status_code == 400
    assert shared.client.post("/training", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 400
    two = [("data", ("a", b"x")), ("data", ("b", b"x"))]
    assert shared.client.post("/training", data={"base_model_name": "tiny"}, files=two).status_code == 400
    untouched(shared)


# 16 to 21: what is in the files


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


# 22 to 24: fields


@pytest.mark.parametrize("name", ["/etc", "../x", "file:///etc", "evil/repo", "egs/mini/nano", "tiny ", "", "a" * 500])
def test_only_offered_models_are_taken(shared: Running, name: str) -> None:
    assert shared.post(base_model_name=name).status_code == 422 if name.strip() != "tiny" else True


def test_the_job_gets_the_folder_behind_the_name_and_no_code(shared: Running) -> None:
    id = shared.post().json()["id"]
    words = json.loads((shared.settings.jobs / id / "job.json").read_text())["arguments"]
    assert "--model=/nowhere/tiny" in words
    assert not any("trust" in word for word in words)
    shared.wait(id)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", "-1"), ("epochs", "0"), ("epochs", "1000000000"), ("epochs", "nan"), ("epochs", "5; rm"),
        ("epochs", "٣"), ("epochs", "3.5"), ("language", "xx"), ("language", "en --open"), ("batch_size", "100000"),
        ("learning_rate", "inf"), ("learning_rate", "-1"), ("policy", "everything"), ("seed", "-1"), ("dev", "0.9"),
        ("unknown", "1"), ("engine", "cloud"), ("groups", "x"), ("normalizer", "/etc/passwd"), ("out", "/tmp/x"),
    ],
)  # fmt: skip
def test_fields_have_bounds(shared: Running, field: str, value: str) -> None:
    answer = shared.post(**{field: value})
    assert answer.status_code == 422
    assert field in answer.json()["message"]
    untouched(shared)


# 25, 26: ids


IDS = ["../../etc", "/home/u", "%2e%2e", "..%2f..%2fetc", "1739926871", "A" * 32, "0" * 32, "x'--"]


@pytest.mark.parametrize("id", IDS)
def test_ids_are_looked_up_and_never_paths(shared: Running, id: str) -> None:
    before = sorted(path.name for path in shared.settings.work.iterdir())
    assert shared.client.get("/download_model", params={"training_id": id}).status_code == 404
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/artifact"), ("GET", "/logs")):
        assert shared.client.request(method, f"/v1/jobs/{id}{path}").status_code in (404, 405)
    assert shared.client.get(f"/v1/datasets/{id}").status_code in (404, 405)
    assert sorted(path.name for path in shared.settings.work.iterdir()) == before


def test_ids_cannot_be_guessed(shared: Running) -> None:
    ids = [shared.post().json()["id"] for _ in range(2)]
    assert all(re.fullmatch(r"[0-9a-f]{32}", id) for id in ids)
    assert ids[0][:8] != ids[1][:8]
    for id in ids:
        shared.wait(id)


def test_recordings_are_reached_by_name_only(shared: Running) -> None:
    id = shared.post().json()["id"]
    shared.wait(id)
    assert shared.client.get(f"/v1/jobs/{id}/clips/u0").content == recordings()["u0.wav"]
    for uid in ("..%2f..%2fjob", "%2e%2e%2fjob.json", "job"):
        assert shared.client.get(f"/v1/jobs/{id}/clips/{uid}").status_code in (404, 405)


# 27 to 31: people


def test_a_server_for_others_needs_a_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--open true"):
        Gate(settings_for(tmp_path, host="0.0.0.0"))
    assert not Gate(settings_for(tmp_path, host="0.0.0.0", open=True)).needed
    with pytest.raises(DataError, match="no such token file"):
        Gate(settings_for(tmp_path, host="0.0.0.0", tokens=tmp_path / "none.json"))


def test_tokens_are_needed_right_and_in_the_header(make_server: Callable[..., Running], tokens: tuple) -> None:
    path, known = tokens
    server = make_server(tokens=path)
    for address in ("/status", "/v1/jobs", "/openapi.json", "/docs", "/metrics"):
        answer = server.client.get(address)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert server.client.get("/status", params={"token": known["anna"]}).status_code == 401
    assert server.client.get("/status", params={"access_token": known["anna"]}).status_code == 401
    assert server.client.get("/status", headers={"Cookie": f"token={known['anna']}"}).status_code == 401
    assert server.client.get("/status", headers=bearer(known["old"])).status_code == 401
    assert server.client.get("/status", headers=bearer("wrong")).status_code == 401
    assert server.client.get("/status", headers=bearer(known["anna"])).json() == {"status": "idle"}
    assert server.client.get("/").status_code == server.client.get("/healthz").status_code == 200
    assert all(token not in path.read_text() for token in known.values())
    assert path.stat().st_mode & 0o077 == 0


def test_a_reader_may_only_look(make_server: Callable[..., Running], tokens: tuple) -> None:
    path, known = tokens
    server = make_server(tokens=path)
    id = server.post(headers=bearer(known["anna"])).json()["id"]
    reader = bearer(known["eve"])
    for method, address in (("POST", "/v1/datasets"), ("POST", "/training"), ("POST", "/v1/jobs")):
        assert server.client.request(method, address, headers=reader).status_code == 403
    assert server.client.get("/status", headers=reader).status_code == 200
    server.wait(id, headers=bearer(known["anna"]))


def test_others_jobs_are_as_if_they_were_not(make_server: Callable[..., Running], tokens: tuple) -> None:
    path, known = tokens
    server = make_server(tokens=path)
    anna, ben, root = (bearer(known[name]) for name in ("anna", "ben", "root"))
    id = server.post(headers=anna, epochs=20).json()["id"]
    server.wait(id, "training", headers=anna)
    other = server.client.get("/status", headers=ben).json()
    assert (other["status"], other["training_id"], other["training_dir"]) == ("busy", "", "")
    nothing = server.client.get(f"/v1/jobs/{'0' * 32}", headers=ben)
    calls = ["GET ", "DELETE ", "POST /cancel", "POST /resume", "POST /tensorboard"]
    calls += [f"GET /{name}" for name in ("logs", "events", "metrics", "artifact", "clips/u0", "compare")]
    for method, tail in (call.split(" ") for call in calls):
        answer = server.client.request(method, f"/v1/jobs/{id}{tail}", headers=ben)
        assert (answer.status_code, answer.json()) == (404, nothing.json())
    assert server.client.get("/v1/jobs", headers=ben).json()["jobs"] == []
    assert [job["id"] for job in server.client.get("/v1/jobs", headers=root).json()["jobs"]] == [id]
    data = server.client.post("/v1/datasets", headers=anna).json()["id"]
    assert server.client.get(f"/v1/datasets/{data}", headers=ben).status_code == 404
    assert server.post(headers=ben, dataset=data, data=None).status_code == 422
    server.client.post(f"/v1/jobs/{id}/cancel", headers=anna)
    server.wait(id, "cancelled", headers=anna)


def test_guessing_tokens_becomes_slow(make_server: Callable[..., Running], tokens: tuple) -> None:
    path, _ = tokens
    server = make_server(tokens=path)
    codes = [server.client.get("/status", headers=bearer(f"guess{n}")).status_code for n in range(12)]
    assert codes[0] == 401
    assert codes[-1] == 429
    answer = server.client.get("/status", headers=bearer("guess"))
    assert int(answer.headers["Retry-After"]) >= 1


def test_pages_of_other_sites_can_start_nothing(shared: Running) -> None:
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": f"http://localhost:{shared.settings.port + 1}"},
    ):
        for path in ("/training", "/v1/jobs"):
            assert shared.post(path, headers=headers).status_code == 403
        assert shared.client.post("/v1/datasets", headers=headers).status_code == 403
    answer = shared.client.get("/status", headers={"Origin": "https://evil.example"})
    assert not any(name.startswith("access-control") for name in answer.headers)
    own = {"Origin": shared.address, "Sec-Fetch-Site": "same-origin"}
    shared.wait(shared.post(headers=own).json()["id"])


def test_names_that_are_not_the_servers_are_refused(make_server: Callable[..., Running]) -> None:
    server = make_server(hosts=("tune.example.org", "*.proxy.example.net"))
    for host in ("evil.example", "127.0.0.1.evil.example", "proxy.example.net.evil", ""):
        assert server.client.get("/status", headers={"Host": host}).status_code in (400, 421)
    for host in ("127.0.0.1:5553", "localhost", "[::1]:80", "tune.example.org", "7fd05-5553.proxy.example.net"):
        assert server.client.get("/status", headers={"Host": host}).status_code == 200


def test_one_client_cannot_fill_the_queue(make_server: Callable[..., Running], tokens: tuple) -> None:
    path, known = tokens
    server = make_server(tokens=path, limits=replace(SMALL, jobs_per_owner=3, queue=4))
    anna, ben = bearer(known["anna"]), bearer(known["ben"])
    answers = [server.post(headers=anna, epochs=40) for _ in range(8)]  # more than three: one may end meanwhile
    refused = next(answer for answer in answers[3:] if answer.status_code == 429)
    assert "Retry-After" in refused.headers
    others = [server.post(headers=ben, epochs=40) for _ in range(4)]
    assert others[0].status_code == 201
    assert 429 in [answer.status_code for answer in others[1:]]
    for owner, known_jobs in ((anna, answers), (ben, others[1:])):
        for answer in known_jobs:
            if answer.status_code == 201:
                server.client.post(f"/v1/jobs/{answer.json()['id']}/cancel", headers=owner)
    server.wait(others[0].json()["id"], headers=ben)


# 32 to 35: races


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


# 36 to 38: what is shown


def test_texts_stay_text(shared: Running) -> None:
    files = recordings() | {"u0.txt": b"<script>alert(1)</script>\x1b[31m"}
    answer = shared.post(files=files, name="<img src=x onerror=alert(1)>")
    id = answer.json()["id"]
    assert answer.headers["Content-Type"] == "application/json"
    shared.wait(id)
    for path in ("", "/logs", "/compare", "/clips/u0"):
        found = shared.client.get(f"/v1/jobs/{id}{path}")
        assert "html" not in found.headers["Content-Type"]
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        assert path == "/clips/u0" or "\x1b" not in found.text
    policy = shared.client.get("/").headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe-inline" not in policy
    assert "default-src 'none'" in policy


def test_log_lines_cannot_be_forged(shared: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="egrecho_inner.serve.middleware"):
        shared.client.get("/v1/jobs/x%0a12:00:00%20all%20is%20well")
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_faults_show_nothing_of_the_inside(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret /home/someone/path")

    monkeypatch.setattr(server.service.store, "newest", broken)
    answer = server.client.get("/v1/jobs")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    name = re.search(r"as (\w+)$", answer.json()["message"])[1]
    assert any(name in record.getMessage() for record in caplog.records)


def test_jobs_do_not_see_the_servers_secrets(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MY_SECRET", "x")
    id = server.post().json()["id"]
    server.wait(id)
    log = server.client.get(f"/v1/jobs/{id}/logs").text
    assert "environment: " in log
    assert "HF_TOKEN" not in log
    assert "MY_SECRET" not in log
    assert str(server.settings.work) not in log


def test_there_is_no_console_and_no_documentation_for_strangers(shared: Running) -> None:
    for path in ("/console", "/docs", "/redoc", "/debug", "/__debugger__"):
        assert shared.client.get(path).status_code == 404


# 39 to 42: what stays


def test_there_are_no_callbacks(shared: Running) -> None:
    for field in ("webhook", "callback_url", "notify"):
        assert shared.post(**{field: "http://169.254.169.254/"}).status_code == 422


def test_a_model_that_was_changed_is_not_sent(server: Running) -> None:
    id = server.post().json()["id"]
    server.wait(id)
    assert server.client.get(f"/v1/jobs/{id}/artifact").status_code == 200
    path = server.settings.jobs / id / "artifact.tar.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert server.client.get(f"/v1/jobs/{id}/artifact").status_code == 500
    path.write_bytes(content[:100])
    assert server.client.get("/download_model", params={"training_id": id}).status_code == 500
    path.unlink()
    assert server.client.get(f"/v1/jobs/{id}/artifact").status_code == 404


def test_a_download_can_go_on(server: Running) -> None:
    id = server.post().json()["id"]
    server.wait(id)
    complete = server.client.get(f"/v1/jobs/{id}/artifact")
    rest = server.client.get(f"/v1/jobs/{id}/artifact", headers={"Range": "bytes=100-"})
    assert rest.status_code == 206
    assert complete.content[:100] + rest.content == complete.content
    assert gzip.decompress(complete.content)


def test_nothing_is_left_of_a_deleted_job(server: Running) -> None:
    phrase = "crimson canary sings at dusk"
    id = server.post(files=recordings() | {"u0.txt": phrase.encode()}, name=phrase).json()["id"]
    server.wait(id)
    assert grep(server.settings.work, phrase)
    assert server.client.delete(f"/v1/jobs/{id}").status_code == 204
    assert server.client.delete(f"/v1/jobs/{id}").status_code == 404
    server.service.store.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert grep(server.settings.work, phrase) == []
    data = server.client.post("/v1/datasets").json()["id"]
    server.client.put(f"/v1/datasets/{data}/files/u0.txt", content=phrase.encode())
    assert server.client.delete(f"/v1/datasets/{data}").status_code == 204
    assert grep(server.settings.work, phrase) == []


def grep(folder: Path, phrase: str) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and phrase.encode() in path.read_bytes()]


def test_folders_are_their_owners_alone(server: Running) -> None:
    id = server.post().json()["id"]
    server.wait(id)
    for path in (server.settings.work, server.settings.jobs, server.settings.jobs / id, server.settings.datasets):
        assert path.stat().st_mode & 0o077 == 0, path
    assert not list(server.settings.work.rglob("*.pkl"))


def test_a_server_that_starts_clears_what_belongs_to_no_job(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "work")
    (settings.jobs / ("a" * 32)).mkdir(parents=True)
    (settings.work / "incoming").mkdir()
    (settings.work / "incoming" / "left").write_bytes(b"half an upload")
    with running(settings) as server:
        assert list(settings.jobs.iterdir()) == list((settings.work / "incoming").iterdir()) == []
        shutil.rmtree(server.settings.datasets)
