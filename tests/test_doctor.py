"""`egrecho doctor`: what is wrong is found before a training is started, with its remedy and the right exit code."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from lhotse import CutSet
from tiny import save_tiny, speech_cut

from egrecho_inner.config import parse
from egrecho_inner.data.batches.options import BatchOptions, DataOptions
from egrecho_inner.doctor import doctor
from egrecho_inner.errors import ConfigError, DataError, MachineError, ModelError
from egrecho_inner.model.options import LoraOptions, ModelOptions
from egrecho_inner.runtime import machine
from egrecho_inner.runtime.machine import extra_checks, gpu_checks, machine_checks
from egrecho_inner.training.checkup import sharding_of
from egrecho_inner.training.options import TrainOptions

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, training and development cuts that fit each other."""
    folder = tmp_path_factory.mktemp("doctor")
    save_tiny(folder / "model")
    for split, numbers in (("train", range(12)), ("dev", range(12, 16))):
        cuts = [speech_cut(folder, f"u{number}", 1.0 + 0.1 * number) for number in numbers]
        CutSet.from_cuts(cuts).to_file(folder / f"{split}.jsonl")
    return folder


def looked(
    capsys: pytest.CaptureFixture, folder: Path, train: str = "train.jsonl", dev: str = "dev.jsonl", **options: object
) -> dict[str, dict[str, str]]:
    """Return what `egrecho doctor` finds, by name."""
    data = DataOptions(train=str(folder / train), dev=str(folder / dev))
    options = {"model": ModelOptions(str(folder / "model")), "data": data, "out": str(folder / "run")} | options
    capsys.readouterr()
    try:
        doctor(**options, json=True)
    finally:
        found = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
        looked.last = found
    return found


def test_what_fits_is_described_and_passes(folder: Path, capsys: pytest.CaptureFixture) -> None:
    found = looked(capsys, folder)
    assert not [check for check in found.values() if check["state"] == "bad"]
    assert found["model"]["found"].startswith("0.2 M parameters, 2 + 2 layers, 80 mels")
    assert found["data.train"]["found"].startswith("12 cuts, 0.01 h; 1.0 to 2.1 s")
    assert found["data.train: language"]["found"] == "en 12"
    assert found["data.train: audio"]["found"] == "16,000 Hz 12 of 12 looked at"
    assert "GB of the machine's free" in found["memory"]["found"] or torch.cuda.is_available()
    assert found["steps"]["found"].startswith("3 steps of one process, 3.0 epochs")  # 18.6 s in one batch of 120 s
    assert found["cores"]["found"].endswith("train.workers 2")


def test_faults_of_data_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(DataError, match="checks failed: train and dev; the table has the remedies"):
        looked(capsys, folder, dev="train.jsonl")
    assert looked.last["train and dev"]["found"] == "12 cuts are in both"
    cuts = CutSet.from_file(folder / "train.jsonl").to_eager()
    for cut in cuts:
        cut.supervisions[0].language = "yue"
        cut.recording.sources[0].source = str(tmp_path / "gone.wav")
    cuts.to_file(folder / "bad.jsonl")
    with pytest.raises(DataError, match=r"data\.train: files"):
        looked(capsys, folder, train="bad.jsonl", dev="gone.jsonl")
    files, dev = looked.last["data.train: files"], looked.last["data.dev"]
    assert files["found"].startswith("12 of 12 looked at are missing, ") and "gone.wav (u0-0)" in files["found"]
    assert dev["state"] == "bad" and "gone.jsonl does not exist" in dev["found"] and "prepare.sh" in dev["remedy"]
    assert looked.last["data.train: language"]["found"] == "yue 12"


def test_a_language_without_token_and_features_of_other_mels(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from lhotse.features.io import LilcomChunkyWriter
    from tiny import without_language

    cuts = []
    with LilcomChunkyWriter(tmp_path / "feats") as writer:
        for cut in CutSet.from_file(folder / "train.jsonl"):
            cut.features = writer_features(cut, writer)
            cuts.append(cut)
    CutSet.from_cuts(cuts).to_file(folder / "wide.jsonl")
    shutil.copytree(folder / "model", tmp_path / "model")
    without_language(tmp_path / "model", "en")
    with pytest.raises(DataError):
        looked(capsys, folder, train="wide.jsonl", model=ModelOptions(str(tmp_path / "model")))
    usable, features = looked.last["data.train: usable"], looked.last["data.train: features"]
    assert usable["state"] == "bad" and "in en, which this model has no token for" in usable["found"]
    assert features["state"] == "bad" and features["found"].startswith("stored, 128 mels 12 of 12")
    assert "--num_mel_bins 80" in features["remedy"]


def writer_features(cut, writer):
    from lhotse.features.base import Features

    values = np.zeros((round(100 * cut.duration), 128), dtype=np.float32)
    return Features(
        type="whisper-fbank", num_frames=len(values), num_features=128, frame_shift=0.01, sampling_rate=16000,
        start=0.0, duration=cut.duration, storage_type=writer.name, storage_path=str(writer.storage_path),
        storage_key=writer.write(cut.id, values), recording_id=cut.recording_id, channels=0,
    )  # fmt: skip


def test_a_model_that_will_not_load_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copytree(folder / "model", tmp_path / "model")
    (tmp_path / "model/model.safetensors").unlink()
    with pytest.raises(ModelError, match="weights"):
        looked(capsys, folder, model=ModelOptions(str(tmp_path / "model")))
    (tmp_path / "model/tokenizer.json").unlink()
    with pytest.raises(ModelError, match="files"):
        looked(capsys, folder, model=ModelOptions(str(tmp_path / "model")))
    assert "no tokenizer.json" in looked.last["files"]["found"]


def test_what_does_not_fit_the_memory_has_a_remedy(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelOptions(str(folder / "model"), size="large-v2")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5e9, total=8e9))
    with pytest.raises(ConfigError, match="memory"):
        looked(capsys, folder, model=model)
    assert "optimizer 11.8" in looked.last["memory"]["found"] and "an adapter" in looked.last["memory"]["remedy"]
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=40e9, total=64e9))
    assert looked(capsys, folder, model=model)["memory"]["state"] == "ok"
    lora = looked(capsys, folder, model=model, lora=LoraOptions())["memory"]
    assert float(lora["found"].partition("optimizer ")[2].partition(",")[0]) < 1


def test_a_gpu_that_torch_cannot_use_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '470.82.01, Tesla T4, 15360'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    (check,) = gpu_checks()
    assert check.state == "bad" and "driver 470.82.01 is there" in check.found and "for CPUs" in check.remedy
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    (check,) = gpu_checks()
    assert check.state == "bad" and "CUDA 13.0 needs a newer driver" in check.remedy


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (10e9, 80e9))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "NVIDIA H100")
    _, gpu = gpu_checks()
    assert gpu.found == "NVIDIA H100 (sm_90), 10.0 of 80.0 GB free" and gpu.state == "note"


def test_packages_that_the_configuration_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "is_installed", lambda name: False)
    (check,) = extra_checks(["wandb"])
    assert check.state == "bad" and check.remedy == "pip install 'egrecho[watch]'"
    with pytest.raises(MachineError, match="deepspeed"):
        doctor(train=TrainOptions(deepspeed=str(ROOT / "config/ds_zero2.json")), out=str(tmp_path))


def test_little_shared_memory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=64e9, total=64e6))
    bad = [check.name for check in machine_checks(tmp_path / "new/run", workers=2) if check.state == "bad"]
    assert bad == (["/dev/shm"] if Path("/dev/shm").is_dir() else [])
    assert not [check for check in machine_checks(tmp_path) if check.state == "bad" and check.name == "/dev/shm"]


def test_it_takes_the_configs_of_training_and_divides_as_deepspeed_does(folder: Path) -> None:
    for method in ("full", "lora"):
        files = ["-c", str(ROOT / "config/train.yaml"), "-c", str(ROOT / f"config/{method}.yaml")]
        values = parse(doctor, [*files, "--model", "m", "--data.train", "x"])
        assert (values["lora"] is not None) == (method == "lora") and values["batch"] == BatchOptions()
    assert sharding_of(str(ROOT / "config/ds_zero3_offload.json")) == "zero3+offload"
    assert sharding_of(str(ROOT / "config/ds_zero2.json")) == "zero2" and sharding_of(None) == "none"
    with pytest.raises(ConfigError, match=r"without a model; give --model"):
        doctor(data=DataOptions(train="x"))
