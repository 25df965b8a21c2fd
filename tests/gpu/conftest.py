"""Tests of what a CPU cannot show; all are marked gpu, and skipped where there is none.

python -m pytest -m gpu
"""

import sys
from pathlib import Path

import pytest
import torch
from tiny import speech_cuts

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "training"))  # its runs and scripts


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this folder's tests."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no GPU is visible"))


@pytest.fixture(autouse=True)
def _devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let DeepSpeed take the GPU; the other tests tell it that there is none."""
    monkeypatch.setenv("DS_ACCELERATOR", "cuda")


@pytest.fixture(scope="session")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech_cuts(tmp_path_factory.mktemp("cuts"), n=11)


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech_cuts(tmp_path_factory.mktemp("dev"), n=3, name="dev")
