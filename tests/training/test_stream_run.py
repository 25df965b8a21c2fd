"""Training from Shar folders: killed and started again it is the same run; what cannot be is said before."""

import json
from pathlib import Path

import pytest
from launching import launch, results
from runs import in_child, kill_at_step, same, train
from tiny import speech_cuts

from egrecho_inner.data.batches.stream import open_cuts
from egrecho_inner.errors import ConfigError
from egrecho_inner.to_shar import to_shar


@pytest.fixture(scope="module")
def shar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    manifest = speech_cuts(tmp_path_factory.mktemp("cuts"), n=11)
    to_shar(str(manifest), str(manifest.with_name("shar")), shard_size=4)
    return manifest.with_name("shar")


def test_a_killed_run_is_the_same_run(shar: Path, tmp_path: Path) -> None:
    def killed() -> None:
        kill_at_step(5)
        train(shar, tmp_path / "killed", workers=1)

    train(shar, tmp_path / "whole")
    assert in_child(killed) == -9
    train(shar, tmp_path / "killed")
    assert same(tmp_path / "killed" / "final", tmp_path / "whole" / "final")
    lines = map(json.loads, (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines())
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 8))


def test_two_processes_that_are_killed_go_on_as_the_same_run(shar: Path, tmp_path: Path) -> None:
    assert results(launch("two_stream.py", shar, tmp_path, "whole", "kill"), killed=True)["whole"]["same"]
    assert not (tmp_path / "parts" / "final").exists()
    assert results(launch("two_stream.py", shar, tmp_path, "again"))["again"]["same"]


def test_a_run_without_a_last_step_is_refused(shar: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_steps"):
        train(shar, tmp_path, max_steps=None, num_epochs=2)


def test_manifests_and_shards_do_not_mix(shar: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one kind"):
        open_cuts([str(shar), str(shar.with_name("cuts.jsonl"))])
