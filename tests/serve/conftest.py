"""Servers for tests; without the extra, all of them are skipped with that reason."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Running, running, settings_for

EXTRA = ("fastapi", "uvicorn", "python_multipart", "sse_starlette", "jinja2", "httpx")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    for item in items:
        if missing and Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason=f"needs the extra serve ({missing[0]} is missing)"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """Run a server that needs no token."""
    with running(settings_for(tmp_path / "work")) as found:
        yield found


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Run servers with other settings."""
    with contextlib.ExitStack() as stack:
        yield lambda **more: stack.enter_context(running(settings_for(tmp_path / "work", **more)))
