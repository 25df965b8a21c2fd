"""One job from the upload to the download with the real training behind it, on a tiny random model."""

import contextlib
import io
import json
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from servers import Running

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny import RATE, WORDS, save_tiny, tones


def speech() -> dict[str, bytes]:
    """Make 16 recordings with their splits."""
    rng, files, rows = np.random.default_rng(0), {}, {"train": [], "dev": [], "test": []}
    for number in range(16):
        text = " ".join(str(word) for word in rng.choice(WORDS, 2))
        out = io.BytesIO()
        soundfile.write(out, tones(text.split(), 1.0, rng), RATE, format="WAV")
        files[f"u{number}.wav"] = out.getvalue()
        rows["train" if number < 8 else "dev" if number < 12 else "test"].append(f"u{number},u{number}.wav,{text}")
    for split, lines in rows.items():
        files[f"{split}_files.csv"] = ("uid,file_name,text\n" + "\n".join(lines) + "\n").encode()
    return files


def test_a_model_comes_out(make_server: Callable[..., Running], tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", ending=3.3)
    server = make_server(models={"tiny": str(base)}, program=("-m", "egrecho_inner.personal"), tensorboard=True)
    files = speech()
    id = server.post(files=files, epochs=2, language="en", normalizer="none").json()["id"]
    server.wait(id, "training", "saving", "evaluating_final", "succeeded", seconds=200)
    board = f"/v1/jobs/{id}/tensorboard/"
    with contextlib.suppress(AssertionError):
        for _ in range(300):
            if (answer := server.client.get(board)).status_code != 503:
                break
            time.sleep(0.2)
    assert answer.status_code in (200, 404)  # 404 where the job was faster than its board
    if answer.status_code == 200:
        assert "TensorBoard" in answer.text
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    job = server.wait(id, seconds=300)
    assert job["state"] == "succeeded", server.client.get(f"/v1/jobs/{id}/logs").text[-2000:]
    assert job["report"]["base_scores"]["test"]["utterances"] == 4
    metrics = server.client.get(f"/v1/jobs/{id}/metrics").json()["metrics"]
    assert {"loss", "eval_wer"} <= {key for row in metrics for key in row}
    seen = server.client.get(f"/v1/jobs/{id}/events").text
    assert "event: metric" in seen
    assert '"verdict"' in seen
    assert len(server.client.get(f"/v1/jobs/{id}/compare").json()["recordings"]) == 4
    assert server.client.get(board).status_code == 404
    with tarfile.open(fileobj=io.BytesIO(server.client.get(f"/v1/jobs/{id}/artifact").content)) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    assert "test: WER" in (tmp_path / "out/results/basemodel_eval_result.txt").read_text()
    check_model(tmp_path / "out/results/model", files["u0.wav"], tmp_path)
    check_faster_whisper(tmp_path / "out/results/faster_whisper", files["u0.wav"], job["report"]["notes"])
    texts = server.client.post(f"/v1/jobs/{id}/transcribe", content=files["u12.wav"], timeout=200).json()
    assert texts.keys() == {"base", "tuned"}
    rows = map(json.loads, (server.settings.jobs / id / "run/base/test/hyps.jsonl").read_text().splitlines())
    assert texts["base"] == next(row["hyp"] for row in rows if row["id"] == "u12-0")
    assert server.client.post(f"/v1/jobs/{id}/transcribe", content=b"no audio").status_code == 422


def check_model(folder: Path, wav: bytes, place: Path) -> None:
    """Load a model as others do."""
    from transformers import pipeline

    (place / "one.wav").write_bytes(wav)
    samples, rate = soundfile.read(place / "one.wav", dtype="float32")
    recognise = pipeline("automatic-speech-recognition", model=str(folder))
    assert isinstance(
        recognise({"raw": samples, "sampling_rate": rate}, generate_kwargs={"max_new_tokens": 5})["text"], str
    )


def check_faster_whisper(folder: Path, wav: bytes, notes: list[str]) -> None:
    """Load the other form with the program that it is for."""
    faster_whisper = pytest.importorskip("faster_whisper", reason="faster-whisper is not installed")
    assert folder.is_dir(), notes
    model = faster_whisper.WhisperModel(str(folder), device="cpu", compute_type="int8")
    segments, _ = model.transcribe(io.BytesIO(wav), language="en", beam_size=1, temperature=0.0, max_new_tokens=5)
    assert isinstance("".join(segment.text for segment in segments), str)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
