"""A frozen encoder whose outputs are kept: the same losses, one run for each cut, the same bits after a kill."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from runs import in_child, kill_at_step, same, train
from tiny import tiny_model, tiny_processor

from egrecho_inner.errors import ConfigError
from egrecho_inner.model.length import LengthEncoder
from egrecho_inner.training.frozen import FrozenEncoder


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


FROZEN = {"freeze": ["encoder"], "augment": None}


def test_losses_are_those_without_a_cache_and_each_cut_is_heard_once(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(cuts, tmp_path / "plain", dropout=0.0, **FROZEN)
    heard, kept = [], LengthEncoder.forward

    def counted(self: LengthEncoder, features, *args, **kwargs):
        heard.append(len(features))
        return kept(self, features, *args, **kwargs)

    monkeypatch.setattr(LengthEncoder, "forward", counted)
    train(cuts, tmp_path / "kept", dropout=0.0, encoder_cache_gb=0.1, **FROZEN)
    assert sum(heard) == 11  # seven steps of three cuts: nearly two epochs
    assert losses(tmp_path / "kept") == pytest.approx(losses(tmp_path / "plain"), rel=2e-3)


def test_a_killed_run_is_the_same_run(cuts: Path, tmp_path: Path) -> None:
    def killed() -> None:
        kill_at_step(5)
        train(cuts, tmp_path / "killed", encoder_cache_gb=0.1, **FROZEN)

    train(cuts, tmp_path / "whole", encoder_cache_gb=0.1, **FROZEN)
    assert in_child(killed) == -9
    train(cuts, tmp_path / "killed", encoder_cache_gb=0.1, **FROZEN)
    assert same(tmp_path / "killed" / "final", tmp_path / "whole" / "final")


def test_it_is_there_until_the_training_is_finished(cuts: Path, tmp_path: Path) -> None:
    def killed() -> None:
        kill_at_step(5)
        train(cuts, tmp_path, encoder_cache_gb=0.1, **FROZEN)

    assert in_child(killed) == -9
    assert (tmp_path / ".encoder_cache" / "outputs-0").stat().st_size
    train(cuts, tmp_path, encoder_cache_gb=0.1, **FROZEN)
    assert not (tmp_path / ".encoder_cache").exists()


def test_processes_on_several_machines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny_model(tiny_processor()).model.encoder.requires_grad_(False)
    accelerator = SimpleNamespace(process_index=0, num_processes=8, wait_for_everyone=lambda: None)
    FrozenEncoder(encoder, tmp_path, 1, None, accelerator, "key")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="here they are on several"):
        FrozenEncoder(encoder, tmp_path, 1, None, accelerator, "key")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"augment": None}, "it is trained"), ({"freeze": ["encoder"]}, "every epoch has other audio")],
)
def test_an_encoder_that_changes_is_not_remembered(cuts: Path, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(cuts, tmp_path, encoder_cache_gb=0.1, **changes)


def test_the_chunked_loss_trains_the_same(cuts: Path, tmp_path: Path) -> None:
    for name, chunked in (("plain", False), ("chunked", True)):
        train(cuts, tmp_path / name, chunked_loss=chunked, max_steps=3, dropout=0.0)
    assert losses(tmp_path / "chunked") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)
