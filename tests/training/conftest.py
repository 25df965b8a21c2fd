"""What most tests of training train on."""

from pathlib import Path

import pytest
from runs import train
from tiny import speech_cuts


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven utterances: whole batches of three, and a rest."""
    return speech_cuts(tmp_path_factory.mktemp("cuts"), n=11)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech_cuts(tmp_path_factory.mktemp("dev"), n=2, name="dev")


@pytest.fixture(scope="module")
def whole(cuts: Path, dev: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    train(cuts, out, dev)
    return out
