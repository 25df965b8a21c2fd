"""What others made is read, never run: YAML, weights, adapters, checkpoints, manifests. One line, an exit code.

Each payload would make a folder called PWNED; that it can is tested, too.
"""

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import needs
import pytest
import torch
from runs import train
from tiny import save_tiny, speech_cuts

from egrecho_inner.config import run
from egrecho_inner.evaluation import evaluate
from egrecho_inner.full import train_full
from egrecho_inner.lora import train_lora
from egrecho_inner.merge_lora import merge_lora
from egrecho_inner.model.options import LoraOptions
from egrecho_inner.training.checkpoints import folder as checkpoint


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path):
        self.place = str(place)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.place,)


@pytest.fixture
def pwned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where payloads show; the working folder is the test's, for those that write there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "PWNED"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "base")


@pytest.fixture
def cuts(tmp_path: Path) -> Path:
    return speech_cuts(tmp_path, n=4)


def refused(capsys: pytest.CaptureFixture[str], program: Callable[..., Any], *words: str | Path) -> tuple[int, str]:
    """Run a program that must refuse; its exit code and its one line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        run(program, [str(word) for word in words])
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in said and "fault of ours" not in said, said
    return left.value.code, lines[0]


def training(model: Path, cuts: Path, out: Path) -> list[str]:
    return [
        *("--model", str(model), "--data.train", f"[{cuts}]", "--out", str(out), "--train.max_steps", "2"),
        *("--train.workers", "0", "--train.report_to", "[]"),
    ]


def test_the_payload_works(pwned: Path) -> None:
    pickle.loads(pickle.dumps(Evil(pwned)))
    assert pwned.is_dir()


@pytest.mark.parametrize(
    "text",
    [
        "train: !!python/object/apply:os.mkdir [PWNED]\n",
        "model:\n  path: !!python/object/new:os.mkdir [PWNED]\n",
        "data: !!python/object/apply:subprocess.run [[mkdir, PWNED]]\n",
        "train:\n  class_path: os.mkdir\n  init_args: {path: PWNED}\n",
        "model:\n  class_path: subprocess.Popen\n  init_args: {args: [mkdir, PWNED]}\n",
    ],
)
def test_yaml_runs_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pwned: Path, model: Path, cuts: Path, text: str
) -> None:
    (tmp_path / "evil.yaml").write_text(text)
    code, line = refused(capsys, train_full, *training(model, cuts, tmp_path / "run"), "-c", tmp_path / "evil.yaml")
    assert code == 2 and "evil.yaml" in line
    assert not pwned.exists()


@pytest.mark.parametrize("program", ["full", "eval", "merge"])
def test_pickled_model_weights_are_not_opened(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pwned: Path, model: Path, cuts: Path, program: str
) -> None:
    adapter = adapter_of(model, cuts, tmp_path) if program == "merge" else None
    torch.save({"model.encoder.conv1.weight": Evil(pwned)}, model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    if program == "full":
        code, line = refused(capsys, train_full, *training(model, cuts, tmp_path / "run"))
    elif program == "eval":
        code, line = refused(capsys, evaluate, model, "--cuts", cuts, "--out", tmp_path / "eval")
    else:
        code, line = refused(capsys, merge_lora, adapter, tmp_path / "merged", "--base", model)
    assert code == 4 and "pickled weights (.bin), which are not loaded" in line
    assert not pwned.exists()


def adapter_of(model: Path, cuts: Path, folder: Path) -> Path:
    """Train an adapter for a step, as a user does."""
    run(train_lora, [*training(model, cuts, folder / "lora"), "--train.max_steps", "1", "--lora.r", "2"])
    return folder / "lora" / "adapter"


def test_adapters_bring_no_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pwned: Path, model: Path, cuts: Path
) -> None:
    adapter = adapter_of(model, cuts, tmp_path)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (tmp_path / "payload.py").write_text("import os\nos.mkdir('PWNED')\n")
    sys.path.insert(0, str(tmp_path))
    try:
        changed = {"megatron_config": {"model_parallel_size": 1}, "megatron_core": "payload"}
        (adapter / "adapter_config.json").write_text(json.dumps(config | changed))
        code, line = refused(capsys, merge_lora, adapter, tmp_path / "merged")
        assert code == 4 and "code of an adapter is never run" in line
        changed = {"auto_mapping": {"base_model_class": "Evil", "parent_library": "payload"}}
        (adapter / "adapter_config.json").write_text(json.dumps(config | changed))
        code, line = refused(capsys, merge_lora, adapter, tmp_path / "merged")
        assert code == 4 and "never run" in line
        assert "payload" not in sys.modules
    finally:
        sys.path.remove(str(tmp_path))
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    weights = adapter / "adapter_model.safetensors"
    weights.unlink()
    torch.save({"base_model.model.x": Evil(pwned)}, adapter / "adapter_model.bin")
    code, line = refused(capsys, merge_lora, adapter, tmp_path / "merged")
    assert code == 4 and "only safetensors adapters are loaded" in line
    assert not pwned.exists()


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"]
)
def test_models_bring_no_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pwned: Path, model: Path, cuts: Path, file: str
) -> None:
    classes = ("AutoConfig", "AutoModel", "AutoModelForSpeechSeq2Seq", "AutoTokenizer", "AutoFeatureExtractor")
    content = json.loads((model / file).read_text())
    content |= {"auto_map": {name: "payload.Evil" for name in classes}, "trust_remote_code": True}
    (model / file).write_text(json.dumps(content))
    (model / "payload.py").write_text("import os\nos.mkdir('PWNED')\nclass Evil: pass\n")
    if "processor" in file:  # the one class it can name is ours to choose
        run(train_full, training(model, cuts, tmp_path / "run"))
    else:
        code, line = refused(capsys, train_full, *training(model, cuts, tmp_path / "run"))
        assert code == 4 and f"{file} asks for code of its own (auto_map), which is never run" in line
    assert not pwned.exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder after two of three steps, with the cuts beside it."""
    folder = tmp_path_factory.mktemp("trained")
    train(speech_cuts(folder, n=6), folder / "run", max_steps=2, eval_steps=1)
    return folder


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "global_step2/mp_rank_00_states.pt"])
def test_checkpoints_run_nothing_although_their_marker_vouches_for_it(
    tmp_path: Path, pwned: Path, trained: Path, name: str
) -> None:
    home = shutil.copytree(trained, tmp_path / "home")
    shutil.rmtree(home / "run" / "final")
    newest = checkpoint.newest(home / "run")
    path = newest / name
    path.parent.mkdir(exist_ok=True)
    torch.save({"state": Evil(pwned)}, path)
    if path.parent != newest:
        (newest / "latest").write_text("global_step2")
    facts = checkpoint.facts(newest)
    facts.pop("files")
    checkpoint.seal(newest, facts)
    assert checkpoint.newest(home / "run") == newest
    with pytest.raises(
        Exception, match=rf"{name} holds more than numbers \(posix.mkdir\) and is not opened"
    ) as refusal:
        train(trained / "cuts.jsonl", home / "run", max_steps=3, eval_steps=1)
    assert refusal.value.exit_code == 4 and "\n" not in str(refusal.value)
    assert not pwned.exists()
    shutil.rmtree(newest)  # the message's advice
    train(trained / "cuts.jsonl", home / "run", max_steps=3, eval_steps=1)


def test_deepspeeds_own_shards_are_numbers(tmp_path: Path) -> None:
    from egrecho_inner.training.checkpoints.pickles import check_pickles

    scaler = needs.extra("deepspeed", "deepspeed.runtime.fp16.loss_scaler")
    (tmp_path / "global_step2").mkdir()
    torch.save({"loss_scaler": scaler.LossScaler(1.0), "x": torch.ones(2)}, tmp_path / "global_step2" / "states.pt")
    check_pickles(tmp_path)


@pytest.mark.parametrize("source", ["command", "url", "pipe", "memory_raw", "pickled"])
@pytest.mark.parametrize("program", ["full", "eval"])
def test_manifests_run_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    pwned: Path,
    model: Path,
    cuts: Path,
    source: str,
    program: str,
) -> None:
    lines = [json.loads(line) for line in cuts.read_text().splitlines()]
    audio = lines[2]["recording"]["sources"][0]
    if source in ("command", "url", "pipe"):
        kind, value = {
            "command": ("command", "mkdir PWNED"),
            "url": ("url", "https://localhost/a.wav"),
            "pipe": ("file", "pipe:mkdir PWNED |"),
        }[source]
        audio |= {"type": kind, "source": value}
    else:
        kind = "memory_raw" if source == "memory_raw" else "pickle"
        lines[2]["features"] = {
            "type": "kaldi-fbank", "num_frames": 10, "num_features": 80, "frame_shift": 0.01, "sampling_rate": 16000,
            "start": 0, "duration": 0.1, "storage_type": kind, "storage_path": "", "channels": 0,
            "storage_key": pickle.dumps(Evil(pwned)).decode("latin-1"),
        }  # fmt: skip
    evil = tmp_path / "evil.jsonl"
    evil.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if program == "full":
        code, line = refused(capsys, train_full, *training(model, evil, tmp_path / "run"))
    else:
        code, line = refused(capsys, evaluate, model, "--cuts", evil, "--out", tmp_path / "eval")
    assert code == 3 and "evil.jsonl:3: " in line and "is refused: manifests may only point at plain files" in line
    assert not pwned.exists()


def test_an_index_made_by_another_vouches_for_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pwned: Path, model: Path, cuts: Path
) -> None:
    from egrecho_inner.data.cuts import make as reader
    from egrecho_inner.data.cuts.index import CutIndex

    lines = [json.loads(line) for line in cuts.read_text().splitlines()]
    lines[2]["recording"]["sources"][0] |= {"type": "command", "source": "mkdir PWNED"}
    evil = tmp_path / "evil.jsonl"
    evil.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.MonkeyPatch.context() as blind:
        blind.setattr("egrecho_inner.data.cuts.columns.check_line", lambda *_: None)
        CutIndex(evil)
    assert reader.SUSPICIOUS
    code, line = refused(capsys, train_full, *training(model, evil, tmp_path / "run"))
    assert code == 3 and "is refused" in line
    assert not pwned.exists()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_we_write_ourselves_is_opened(cuts: Path, tmp_path: Path, method: str) -> None:
    lora = LoraOptions(r=2) if method == "lora" else None
    train(cuts, tmp_path / "run", max_steps=1, eval_steps=1, lora=lora)
    train(cuts, tmp_path / "run", max_steps=2, eval_steps=1, lora=lora)
