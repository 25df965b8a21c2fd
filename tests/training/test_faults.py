"""Numbers that blow up, memory that runs out, cuts that do not load: named, limited, never saved."""

import functools
import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from runs import in_child, kill_at_step, same, train, weights
from tiny import speech_cuts

from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.model.adapters import LoraOptions
from egrecho_inner.training import collectives
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.guards import memory
from egrecho_inner.training.guards.memory import OutOfMemory, halve
from egrecho_inner.training.guards.skips import Skips
from egrecho_inner.training.options import TrainOptions
from egrecho_inner.training.trainer import PlanTrainer


def break_gradient(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Make the loss of some steps NaN."""
    kept = PlanTrainer.compute_loss

    def broken(self: PlanTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = kept(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step in steps else loss

    monkeypatch.setattr(PlanTrainer, "compute_loss", broken)


def test_nan_stops_before_the_step_names_its_cuts_and_can_be_mended(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        break_gradient(broken, 4)
        with pytest.raises(DataError, match=r"gradient norm is nan at step 4; its cuts are in .*nonfinite-4"):
            train(cuts, tmp_path / "run")
    note = json.loads((tmp_path / "run" / "nonfinite-4-rank0.json").read_text())
    assert len(note["ids"][0]) == 3
    assert [step for step, _ in checkpoint.steps(tmp_path / "run")] == [3]
    train(cuts, tmp_path / "run")
    train(cuts, tmp_path / "whole")
    assert same(tmp_path / "run" / "final", tmp_path / "whole" / "final")


def test_nan_is_skipped_and_counted_up_to_a_limit(cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_gradient(monkeypatch, 2, 4)
    train(cuts, tmp_path / "run", nonfinite="skip")
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run" / "final").values())
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row.get("nonfinite", 0) for row in rows if "loss" in row] == [0, 0, 1, 1, 2, 2, 2]
    with pytest.raises(DataError, match=r"\(number 2 of this run\)"):
        train(cuts, tmp_path / "limit", nonfinite="skip", nonfinite_limit=1)


def test_skipped_step_changes_no_weight(cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(cuts, tmp_path / "two", max_steps=2, schedule="constant", warmup_steps=0)
    break_gradient(monkeypatch, 2)
    train(cuts, tmp_path / "three", max_steps=3, schedule="constant", warmup_steps=0, nonfinite="skip", eval_steps=9)
    assert same(tmp_path / "two" / "final", tmp_path / "three" / "final")


def test_weights_that_are_not_finite_are_never_saved(cuts: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"learning_rate"):
        train(cuts, tmp_path, learning_rate=1e38, optimizer="sgd", max_grad_norm=0.0, eval_steps=1, warmup_steps=0)
    for _, folder in checkpoint.steps(tmp_path):
        assert all(torch.isfinite(value).all() for value in weights(folder).values())


def too_long(limit: float) -> Any:
    """Make a `training_step` that has memory for so many padded frames."""
    kept = torch.nn.Module.__call__

    def call(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if "input_features" in kwargs:
            rows, _, frames = kwargs["input_features"].shape
            if rows * frames / 100 > limit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return kept(self, *args, **kwargs)

    return call


def test_out_of_memory_names_the_batch_and_a_remedy(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.Module, "__call__", too_long(4.0))
    batch = BatchOptions(max_duration=9.0)
    with pytest.raises(OutOfMemory, match=r"step \d+ with \d cuts of up to \d\.\d s .*set batch.max_duration to \d"):
        train(cuts, tmp_path / "late", batch=batch)
    with pytest.raises(OutOfMemory, match=r"step 0 \(rehearsal\)"):
        train(cuts, tmp_path / "early", batch=batch, rehearse=True)


def test_batches_are_halved_until_they_fit_and_stay_so_after_a_restart(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.Module, "__call__", too_long(5.0))
    batch = BatchOptions(max_duration=9.0)
    train(cuts, tmp_path, batch=batch, auto_halve=True, max_steps=4)
    assert checkpoint.facts(checkpoint.newest(tmp_path))["halvings"] >= 1
    train(cuts, tmp_path, batch=batch, auto_halve=True, max_steps=6)
    assert checkpoint.facts(checkpoint.newest(tmp_path))["halvings"] >= 1


@pytest.mark.parametrize("batch", [BatchOptions(max_duration=9.0), BatchOptions(max_duration=None, batch_size=3)])
def test_halving_ends_where_one_cut_alone_is_too_much(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: BatchOptions
) -> None:
    monkeypatch.setattr(torch.nn.Module, "__call__", too_long(0.5))
    with pytest.raises(OutOfMemory, match=r"with 1 cuts of up to .*; (one cut alone|set batch.batch_size).*checkpoint"):
        train(cuts, tmp_path, batch=batch, auto_halve=True)


def test_halving_ends_where_a_step_wants_more_batches_than_there_are_cuts(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.Module, "__call__", too_long(0.5))
    with pytest.raises(OutOfMemory, match=r"with \d cuts .*cannot be halved again \(11 cuts cannot fill one step"):
        train(cuts, tmp_path, batch=BatchOptions(max_duration=1000.0), auto_halve=True)


def fail_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> None:
    """Let memory run out at one call of a method."""
    kept, calls = getattr(owner, name), []

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            kept(*args, **kwargs)  # its draws are taken before it fails
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return kept(*args, **kwargs)

    functools.update_wrapper(failing, kept)
    monkeypatch.setattr(owner, name, failing)


def test_a_batch_that_did_not_fit_costs_no_step(cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        fail_once(full, PlanTrainer, "compute_loss", 5)
        with pytest.raises(OutOfMemory, match="step 4 with 3 cuts"):
            train(cuts, tmp_path / "run")
    assert checkpoint.steps(tmp_path / "run")[0][0] == 4
    train(cuts, tmp_path / "run")
    train(cuts, tmp_path / "whole")
    assert same(tmp_path / "run" / "final", tmp_path / "whole" / "final")


def test_half_an_update_is_never_saved(cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        fail_once(full, torch.optim.AdamW, "step", 5)
        with pytest.raises(OutOfMemory, match="outside of a batch"):
            train(cuts, tmp_path, auto_halve=True)
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [3]


def test_memory_that_runs_out_in_evaluation_halves_nothing(
    cuts: Path, dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from egrecho_inner.training.dev_score import DevScorer

    fail_once(monkeypatch, DevScorer, "__call__", 2)
    with pytest.raises(OutOfMemory, match="development cuts were scored after step 6, which is saved"):
        train(cuts, tmp_path, dev, auto_halve=True)
    folder = checkpoint.newest(tmp_path)
    assert (folder.name, checkpoint.facts(folder)["halvings"]) == ("checkpoint-6", 0)


def test_the_trainer_that_failed_is_gone_before_the_next_one_is_made(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Any]] = []

    class Watched(PlanTrainer):
        def __init__(self, *args: Any, **kwargs: Any):
            assert [each() for each in made] == [None] * len(made)
            super().__init__(*args, **kwargs)
            made.append(weakref.ref(self))

        def create_optimizer(self, model: Any = None) -> Any:
            optimizer = super().create_optimizer(model)
            made.append(weakref.ref(optimizer))
            return optimizer

    fail_once(monkeypatch, PlanTrainer, "compute_loss", 5)
    train(cuts, tmp_path, auto_halve=True, make_trainer=Watched)
    assert len(made) == 4 and checkpoint.facts(checkpoint.newest(tmp_path))["halvings"] == 1


@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_an_adapter_goes_on_after_halving(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    fail_once(monkeypatch, PlanTrainer, "compute_loss", 5)
    lora = LoraOptions(method=method, r=2, dropout=0.1, init_r=3, delta=1)
    assert train(cuts, tmp_path, auto_halve=True, lora=lora).is_dir()
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and steps[-1] == 7


def test_halving_keeps_what_a_step_hears() -> None:
    batch, train_options = halve(BatchOptions(max_duration=120.0), TrainOptions(accumulation=3), 2)
    assert (batch.max_duration, train_options.accumulation) == (30.0, 12)
    for size, halved, steps in ((8, 4, 6), (3, 1, 9), (5, 2, 6)):
        batch, train_options = halve(BatchOptions(max_duration=None, batch_size=size), TrainOptions(accumulation=3))
        assert (batch.batch_size, train_options.accumulation) == (halved, steps)
    with pytest.raises(ConfigError, match="cannot be halved"):
        halve(BatchOptions(max_duration=None, batch_size=2), TrainOptions(), 2)


def test_rehearsal_leaves_no_trace(cuts: Path, tmp_path: Path) -> None:
    train(cuts, tmp_path / "without", max_steps=2)
    train(cuts, tmp_path / "with", max_steps=2, rehearse=True)
    assert same(tmp_path / "with" / "final", tmp_path / "without" / "final")


def test_other_runtime_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory.faults_named():
        raise RuntimeError("shapes do not match")


def test_cuts_that_do_not_load_are_limited(tmp_path: Path) -> None:
    cuts = speech_cuts(tmp_path, n=11)
    waves = sorted((tmp_path / "cuts").glob("*.wav"))
    for wave in waves[:3]:
        soundfile.write(wave, np.zeros(100, dtype=np.float32), 16000)
    with pytest.raises(DataError, match=r"training cuts could not be used.*data.max_skip_ratio"):
        train(cuts, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "skipped.json").read_text())
    assert not (tmp_path / "run" / "final").exists()


@pytest.fixture
def two_broken(tmp_path: Path) -> tuple[Path, list[Path]]:
    """Cuts of which two do not load, and their files."""
    cuts = speech_cuts(tmp_path, n=11)
    waves = sorted((tmp_path / "cuts").glob("*.wav"))[4:6]
    for wave in waves:
        wave.with_suffix(".good").write_bytes(wave.read_bytes())
        wave.write_bytes(b"RIFF")
    return cuts, waves


def counted(run: Path) -> list[int]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row.get("skipped", 0) for row in rows if "loss" in row]


def test_a_cut_that_does_not_load_counts_once_in_all_epochs_and_starts(
    two_broken: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    cuts, waves = two_broken
    options = {"max_steps": 12, "eval_steps": 6, "max_skip_ratio": 0.25}

    def killed() -> None:
        kill_at_step(9)
        train(cuts, tmp_path / "run", **options)

    train(cuts, tmp_path / "whole", **options)
    assert counted(tmp_path / "whole")[-1] == 2, "three epochs, two broken cuts"
    assert in_child(killed) == -9
    train(cuts, tmp_path / "run", **options)
    assert counted(tmp_path / "run") == counted(tmp_path / "whole")
    for wave in waves:
        wave.write_bytes(wave.with_suffix(".good").read_bytes())
    train(cuts, tmp_path / "run", **{**options, "max_steps": 20})
    assert counted(tmp_path / "run")[-1] == 0, "both load again"


def test_processes_agree_on_skips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skips = Skips(2, tmp_path)
    news = [{"a": "a is broken"}, {}, {"a": "a is broken", "b": "b is broken"}]
    monkeypatch.setattr(collectives, "gather", lambda mine: news)
    skips.share(9, news=True, main=True)
    assert skips.reasons == {"a": "a is broken", "b": "b is broken"}
    news[:] = [{"a": None}, {}, {}]
    skips.share(9, news=True, main=True)
    assert list(skips.reasons) == ["b"]


def test_a_training_that_uses_nothing_is_an_error(tmp_path: Path) -> None:
    cuts = speech_cuts(tmp_path, n=11)
    for wave in (tmp_path / "cuts").glob("*.wav"):
        wave.write_bytes(b"RIFF")
    with pytest.raises(DataError, match="3 training cuts could not be used, and nothing was trained"):
        train(cuts, tmp_path / "short", max_steps=1, max_skip_ratio=1.0)
    with pytest.raises(DataError, match="11 training cuts could not be used"):
        train(cuts, tmp_path / "run", max_skip_ratio=1.0)
    assert not [*(tmp_path / "run").glob("checkpoint-*"), *(tmp_path / "run").glob("final")], "nothing is saved"


def test_a_first_save_without_a_usable_cut_waits_for_the_next(tmp_path: Path) -> None:
    cuts = speech_cuts(tmp_path, n=11)
    for wave in sorted((tmp_path / "cuts").glob("*.wav"))[1:]:
        wave.write_bytes(b"RIFF")
    options = {"batch": BatchOptions(max_duration=None, batch_size=1), "max_skip_ratio": 1.0, "eval_steps": 1}
    train(cuts, tmp_path / "run", **options, max_steps=11, keep_checkpoints=20)
    saved = sorted(step for step, _ in checkpoint.steps(tmp_path / "run"))
    assert saved and saved[-1] == 11 and saved == list(range(saved[0], 12)), "from the step on that learned something"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"precision": "fp16"}, "needs a GPU"),
        ({"fsdp": "config/fsdp.yaml"}, "needs? GPUs"),
        ({"deepspeed": "nowhere.json"}, "nowhere.json does not exist"),
        ({"eval_steps": 5, "save_steps": 2}, "does not divide"),
        ({"optimizer": "lion", "deepspeed": "config/ds_zero1.json"}, "lion"),
        ({"auto_halve": True, "deepspeed": "config/ds_zero1.json"}, "auto_halve"),
    ],
)
def test_contradictions_are_refused_before_training(
    cuts: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        train(cuts, tmp_path, **changes)
