"""What is asked of a GPU before Transformers is told to use it, with GPUs that are not there played by patches."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import needs
import pytest
import torch
from launching import launch
from runs import train
from torch.nn.parallel import DataParallel
from transformers import TrainingArguments
from transformers.utils import is_torch_tf32_available

from egrecho_inner.errors import ConfigError
from egrecho_inner.training.arguments import training_arguments
from egrecho_inner.training.checkpoints import resume
from egrecho_inner.training.guards import devices, strategy
from egrecho_inner.training.options import TrainOptions
from egrecho_inner.training.trainer import PlanTrainer


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Let Transformers ask anew what the machine has."""
    yield
    is_torch_tf32_available.cache_clear()


def play_gpu(monkeypatch: pytest.MonkeyPatch, major: int, visible: int = 1, cuda: str | None = "12.8") -> None:
    """Make torch see GPUs of a compute capability; Transformers' tensors stay on the CPU."""

    def device(arguments: TrainingArguments) -> torch.device:
        arguments.distributed_state, arguments._n_gpu = None, visible
        return torch.device("cpu")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Some GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: SimpleNamespace(major=major, minor=0))
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda *_: True)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(TrainingArguments, "_setup_devices", property(device))
    monkeypatch.setattr("transformers.training_args.enable_tf32", lambda enable: None)
    is_torch_tf32_available.cache_clear()


@pytest.mark.parametrize(("major", "cuda", "tf32"), [(7, "12.8", None), (8, "12.8", True), (9, None, None)])
def test_tf32_only_where_the_gpu_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, major: int, cuda: str | None, tf32: bool | None
) -> None:
    play_gpu(monkeypatch, major, cuda=cuda)  # 7: T4, V100; without CUDA's version: ROCm
    assert training_arguments(TrainOptions(report_to=[]), tmp_path, 1, False).tf32 is tf32


def test_bf16_is_refused_or_warned_of_where_the_gpu_lacks_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    play_gpu(monkeypatch, 7)
    devices.check_bf16()
    assert "Some GPU only emulates it" in caplog.text
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda *_: False)
    with pytest.raises(ConfigError, match="bf16: Some GPU does not have it; use fp16"):
        devices.check_bf16()
    caplog.clear()
    play_gpu(monkeypatch, 8)
    devices.check_bf16()
    assert not caplog.text


def test_one_process_that_sees_several_gpus_uses_one(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrapped, setup = [], TrainingArguments._setup_devices

    def two(arguments: TrainingArguments) -> torch.device:
        device = arguments.__dict__.get("found") or setup.__get__(arguments)
        if "found" not in arguments.__dict__:  # as where two GPUs are visible
            arguments.found, arguments._n_gpu = device, 2
        return device

    kept = strategy.check
    monkeypatch.setattr(TrainingArguments, "_setup_devices", property(two))
    monkeypatch.setattr(strategy, "check", lambda trainer, options: wrapped.append(trainer) or kept(trainer, options))
    train(cuts, tmp_path, max_steps=1)
    assert not isinstance(wrapped[0].model_wrapped, DataParallel)
    assert wrapped[0].args.n_gpu == 1
    assert "2 GPUs are visible, one process uses one of them; torchrun --nproc_per_node 2" in caplog.text


def test_data_parallel_is_not_called_single() -> None:
    state = SimpleNamespace(distributed_type="NO")
    wrapped = DataParallel(torch.nn.Linear(1, 1))
    args = SimpleNamespace(world_size=1)
    assert strategy.in_force(SimpleNamespace(accelerator=state, model_wrapped=wrapped, args=args)) == "DataParallel"


@pytest.mark.parametrize(("wanted", "warn"), [(True, False), ("warn", True)])
def test_deterministic_operations(monkeypatch: pytest.MonkeyPatch, wanted: Any, warn: bool) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        devices.use_deterministic_operations(wanted)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() is warn
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


def test_deterministic_training_uses_them(cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(devices, "use_deterministic_operations", asked.append)
    train(cuts, tmp_path / "a", max_steps=1, deterministic="warn")
    train(cuts, tmp_path / "b", max_steps=1)
    assert asked == ["warn", False]


def test_an_operation_without_a_deterministic_form_is_named(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = PlanTrainer.compute_loss

    def random(self: PlanTrainer, *args: Any, **kwargs: Any) -> Any:
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))
        return kept(self, *args, **kwargs)

    monkeypatch.setattr(PlanTrainer, "compute_loss", random)
    try:
        with pytest.raises(ConfigError, match=r"deterministic true: put_ has no .*train\.deterministic warn"):
            train(cuts, tmp_path / "strict", max_steps=1, deterministic=True)
        train(cuts, tmp_path / "warned", max_steps=1, deterministic="warn")
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


def test_another_number_of_threads_is_named(caplog: pytest.LogCaptureFixture) -> None:
    facts = resume.facts_of({}, "", None, "", 1)
    then = {**facts, "step": 3, "versions": {**facts["versions"], "device": "CPU, 7 thread(s)"}}
    resume.check_same("checkpoint-3", then, facts, resume.Allowance(), sharded=False)
    assert "device CPU, 7 thread(s) -> CPU, " in caplog.text and "not bit for bit" in caplog.text


def test_torchrun_with_one_process_trains(cuts: Path, tmp_path: Path) -> None:
    done = launch("compiled.py", cuts, tmp_path, "false", processes=1)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "strategy: single, 1 process(es)" in done.stderr and (tmp_path / "final").is_dir()


def test_compiled_in_two_processes_is_ddp(cuts: Path, tmp_path: Path) -> None:
    needs.compiler("torch.compile")
    done = launch("compiled.py", cuts, tmp_path, "true", processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "strategy: DDP, 2 process(es)" in done.stderr and (tmp_path / "final").is_dir()
