#!/usr/bin/env python3
"""`egrecho serve`: a training server for personal models, with a page, a queue and the specification's three routes.

    egrecho serve                                                # on this machine only, http://127.0.0.1:5553/
    egrecho serve --tokens tokens.json --new_token anna          # make a token for anna, print it, end
    egrecho serve --host 0.0.0.0 --tokens tokens.json            # for others, who need a token
    SERVER_HOSTNAME=0.0.0.0 egrecho serve --open true            # for everyone who reaches the port

Jobs are processes that outlive the server: started again, it goes on where it was, whatever ended it.
"""

import logging
import os
from pathlib import Path
from typing import Literal

from egrecho_inner.config import run
from egrecho_inner.config_types import Port, PositiveFloat, PositiveInt
from egrecho_inner.errors import ConfigError
from egrecho_inner.serve.engines.slurm import SlurmOptions
from egrecho_inner.serve.options import HUB_MODELS, Limits, Settings

logger = logging.getLogger(__name__)


def serve(
    work: str = "exp/serve",
    host: str | None = None,
    port: Port = 5553,
    open: bool = False,
    tokens: str | None = None,
    new_token: str | None = None,
    role: Literal["read", "write", "admin"] = "write",
    days: PositiveFloat | None = None,
    hosts: list[str] | None = None,
    proxies: str = "127.0.0.1",
    models: dict[str, str] | None = None,
    slots: PositiveInt = 1,
    limits: Limits = Limits(),
    compat_busy: bool = False,
    tensorboard: bool = True,
    slurm: SlurmOptions | None = None,
    modal: bool = False,
    prices: dict[str, PositiveFloat] | None = None,
) -> None:
    """Serve trainings of personal models.

    Args:
        work: Folder of jobs, data sets and the queue; one server works in it at a time.
        host: Address to listen on; null takes SERVER_HOSTNAME from the environment, else 127.0.0.1.
        port: To listen on.
        open: Let in everyone who reaches the port, without tokens.
        tokens: File of tokens; needed where others than this machine reach the server, unless it is open.
        new_token: Make a token of this name, add it to the file, print it and end.
        role: Of the new token: read looks, write starts and stops own jobs, admin sees those of all.
        days: The new token's life; null for no end.
        hosts: Names under which the server is reached, besides addresses and localhost; *.example.org takes all below.
        proxies: Addresses of proxies whose X-Forwarded headers are believed, with commas; * believes everyone's.
        models: More models to offer, as `{name: folder or hub id}`; openai/whisper-* are offered anyway.
        slots: Jobs that run at a time.
        limits: How much an upload, a job, a client may take.
        compat_busy: Answer 429 while a job runs, instead of queueing.
        tensorboard: Start a TensorBoard beside every job of this machine.
        slurm: Offer the cluster as an engine, with what a job asks for; needs the extra cloud.
        modal: Offer Modal as an engine; needs the extra cloud and `modal deploy` (docs/personal.md).
        prices: Of an hour on each engine, as `{modal: 0.8}`, for what a job cost.
    """
    if new_token is not None:
        make_token(tokens, new_token, role, days)
        return
    try:
        import uvicorn  # an extra

        from egrecho_inner.serve.app import make_app
        from egrecho_inner.serve.engines import make_engines
        from egrecho_inner.serve.patience import PatientProtocol
        from egrecho_inner.serve.single import hold
    except ImportError as error:
        raise ConfigError(f"egrecho serve needs {error.name}: pip install 'egrecho[serve]'") from error
    engines = make_engines(slurm, modal)
    settings = Settings(
        work=Path(work).resolve(),
        host=host or os.environ.get("SERVER_HOSTNAME") or "127.0.0.1",
        port=port,
        open=open,
        tokens=Path(tokens) if tokens else None,
        hosts=tuple(hosts or ()),
        models=HUB_MODELS | {name: local(path) for name, path in (models or {}).items()},
        slots=slots,
        limits=limits,
        compat_busy=compat_busy,
        tensorboard=tensorboard,
        engines=tuple(name for name in engines if name != "local"),
        prices=prices or {},
    )
    with hold(settings.work):
        app = make_app(settings, engines)
        logger.info("http://%s:%d/ works in %s", settings.host, port, settings.work)
        uvicorn.run(
            app, host=settings.host, port=port, log_level="warning", access_log=False, server_header=False,
            proxy_headers=True, forwarded_allow_ips=proxies, timeout_keep_alive=15, limit_concurrency=500,
            timeout_graceful_shutdown=3, http=PatientProtocol,
        )  # fmt: skip


def make_token(tokens: str | None, name: str, role: Literal["read", "write", "admin"], days: float | None) -> None:
    """Make a token and print it."""
    from egrecho_inner.serve.auth import new_token

    if tokens is None:
        raise ConfigError("--new_token needs --tokens FILE, where its hash is kept")
    print(new_token(Path(tokens), name, role, days))


def local(path: str) -> str:
    """Return a model's folder as an absolute path, a hub id as it is."""
    return str(Path(path).resolve()) if Path(path).is_dir() else path


if __name__ == "__main__":
    run(serve)
