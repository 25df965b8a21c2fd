"""Archives and bodies of requests that are made to harm: refused, and nothing of them is left."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from hostile import REFUSED
from servers import Running, pack, raw, recordings, untouched


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
