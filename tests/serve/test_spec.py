"""The specification's three routes, by its own curl lines, from the upload to a model that unpacks."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import Running, pack, recordings

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
PHASES = [
    "preparing training",
    "starting tensorboard",
    "running base model evaluation",
    "running training",
    "saving best model",
    "running final model evaluation",
]


def curl(line: str, server: Running, folder: Path) -> str:
    """Run a curl line of the specification on this server."""
    line = line.replace("http://127.0.0.1:5553", server.address).replace("/tmp/", f"{folder}/")
    words = [word.strip("'\"") for word in re.findall(r"'[^']*'|\"[^\"]*\"|\S+", line)]
    return subprocess.run([*words, "-s"], capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_curl_lines_work(server: Running, tmp_path: Path) -> None:
    folder = tmp_path / "my_audio_folder"
    folder.mkdir()
    for name, content in recordings().items():
        (folder / name).write_bytes(content)
    subprocess.run(["tar", "-czf", tmp_path / "data.tar.gz", "-C", folder, "."], check=True)
    assert json.loads(curl("curl http://127.0.0.1:5553/status", server, tmp_path)) == {"status": "idle"}
    post = (
        'curl -X POST -F "base_model_name=openai/whisper-tiny" -F "data=@/tmp/data.tar.gz" -F "epochs=3" '
        "http://127.0.0.1:5553/training"
    )
    server.settings.models["openai/whisper-tiny"] = "openai/whisper-tiny"
    answer = json.loads(curl(post, server, tmp_path))
    assert answer.keys() == {"training_id", "message"}
    seen: list[str] = []
    for _ in range(600):
        found = json.loads(curl("curl http://127.0.0.1:5553/status", server, tmp_path))
        if found == {"status": "idle"}:
            break
        assert found.keys() == {"progress", "status", "tensorboard_url", "training_dir", "training_id"}
        assert found["status"] == "busy"
        assert found["training_id"] == answer["training_id"]
        seen += [found["progress"]] if found["progress"] not in seen[-1:] else []
        time.sleep(0.02)
    assert [PHASES.index(phase) for phase in seen] == sorted(PHASES.index(phase) for phase in seen)
    assert "running training" in seen
    fetch = "curl 'http://127.0.0.1:5553/download_model?training_id=ID' -o /tmp/model.tar.gz"
    curl(fetch.replace("ID", answer["training_id"]), server, tmp_path)
    listed = subprocess.run(["tar", "tzf", tmp_path / "model.tar.gz"], capture_output=True, text=True, check=True)
    names = listed.stdout.split()
    assert {"results/basemodel_eval_result.txt", "results/final_eval_result.txt"} <= set(names)
    assert "results/model/model.safetensors" in names
    assert all(name.startswith("results/") for name in names)


def test_every_phase_happens_in_order(server: Running) -> None:
    id = server.post("/training", epochs=2).json()["training_id"]
    server.wait(id)
    lines = (server.settings.jobs / id / "run" / "events.jsonl").read_text().splitlines()
    assert [event["phase"] for event in map(json.loads, lines) if "phase" in event] == PHASES


def test_what_is_missing_or_wrong_is_400(server: Running) -> None:
    client, data = server.client, {"data": ("data.tar.gz", pack(recordings()))}
    assert client.post("/training", data={"base_model_name": "tiny"}).status_code == 400
    assert client.post("/training", data={"base_model_name": "tiny"}, files={"other": ("x", b"x")}).status_code == 400
    assert client.post("/training", data={"epochs": "3"}, files=data).status_code == 400
    for epochs in ("0", "-1", "1e9", "nan", "5; rm -rf /", "", "99"):
        answer = client.post("/training", data={"base_model_name": "tiny", "epochs": epochs}, files=data)
        assert answer.status_code == 400, epochs
        assert "epochs" in answer.json()["message"]
    assert client.get("/download_model").status_code == 400
    assert client.get("/download_model", params={"training_id": "1739926871"}).status_code == 404
    assert server.service.store.newest() == []


def test_epochs_are_five_if_nothing_is_said(server: Running) -> None:
    files = {"data": ("d", pack(recordings()))}
    id = server.client.post("/training", data={"base_model_name": "tiny"}, files=files).json()["training_id"]
    assert server.job(id)["options"]["epochs"] == 5


def test_one_job_at_a_time_as_the_specification_has_it(make_server: Callable[..., Running]) -> None:
    server = make_server(compat_busy=True)
    id = server.post("/training", epochs=50).json()["training_id"]
    server.wait(id, "training")
    answer = server.post("/training")
    assert answer.status_code == 429
    assert answer.json() == {"message": "Service busy, come back later"}
    server.client.post(f"/v1/jobs/{id}/cancel")
    server.wait(id, "cancelled")


def test_a_failed_job_is_not_an_idle_server_that_knows_nothing(server: Running) -> None:
    id = server.post("/training", seed=13).json()["training_id"]
    job = server.wait(id)
    assert job["state"] == "failed"
    assert job["error"] == {"code": "data", "message": "data/u0.wav is wrong on purpose"}
    assert server.client.get("/download_model", params={"training_id": id}).status_code == 404
    assert server.wait(server.post("/training").json()["training_id"])["state"] == "succeeded"


def test_addresses_follow_the_proxy(server: Running) -> None:
    id = server.post("/training", epochs=50).json()["training_id"]
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "10.0.0.1"}
    found = server.client.get("/status", headers=headers).json()
    assert found["tensorboard_url"].startswith("https://127.0.0.1")
    server.client.post(f"/v1/jobs/{id}/cancel")
    server.wait(id, "cancelled")
