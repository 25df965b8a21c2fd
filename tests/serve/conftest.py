"""Servers for tests; without the extra, all of them are skipped with that reason."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from servers import SMALL, Running, running, settings_for

from egrecho_inner.serve.auth import new_token

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


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run one server for all requests that must not harm it."""
    work = tmp_path_factory.mktemp("shared") / "work"
    with running(
        settings_for(work, limits=replace(SMALL, files=200, unpacked_mb=30, file_mb=5, upload_mb=30))
    ) as found:
        yield found


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Make tokens of two writers, a reader, an admin and one that has expired."""
    path = tmp_path / "tokens.json"
    people = {"anna": "write", "ben": "write", "eve": "read", "root": "admin", "old": "write"}
    return path, {name: new_token(path, name, role, -1 if name == "old" else None) for name, role in people.items()}
