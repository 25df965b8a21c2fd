"""Fields and ids that are made to harm: bounded, and never paths."""

import json
import re

import pytest
from servers import Running, recordings, untouched


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
