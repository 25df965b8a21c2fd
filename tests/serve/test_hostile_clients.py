"""Clients and who they are: tokens, other people's jobs, other sites, queues."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from servers import SMALL, Running, bearer, settings_for

from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.serve.auth import Gate


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
