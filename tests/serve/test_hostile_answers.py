"""What answers, logs and folders show of the inside, and what stays of a job."""

import gzip
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from servers import Running, recordings, running, settings_for


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
