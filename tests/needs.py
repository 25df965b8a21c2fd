"""What a test needs and a machine may lack: the test is skipped with the reason, which conftest.py counts."""

import os
import shutil
from types import ModuleType

import pytest


def extra(name: str, module: str) -> ModuleType:
    """Import a module that an extra of pyproject.toml brings, or skip."""
    return pytest.importorskip(module, reason=f"extra {name} is not installed", exc_type=ImportError)


def compiler(what: str) -> None:
    """Skip without a C++ compiler, as torch finds it."""
    if shutil.which(os.environ.get("CXX") or "c++") is None:
        pytest.skip(f"no C++ compiler (g++), which {what} needs on a CPU", allow_module_level=True)


def deepspeed() -> None:
    """Skip unless DeepSpeed can run here: on a CPU it compiles its communication on first use."""
    extra("deepspeed", "deepspeed")
    compiler("DeepSpeed")
