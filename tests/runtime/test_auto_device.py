"""The device that is taken when nobody names one."""

import pytest
import torch

from egrecho_inner.runtime.devices import auto_device, exact_device


@pytest.mark.parametrize(
    ("cuda", "mps", "wanted"), [(True, True, "cuda:1"), (False, True, "mps"), (False, False, "cpu")]
)
def test_a_gpu_comes_before_the_cpu(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, wanted: str) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert auto_device() == wanted


def test_apples_gpu_has_no_float64() -> None:
    assert exact_device(torch.device("mps")).type == "cpu"
    assert exact_device(torch.device("cuda:1")) == torch.device("cuda:1")
