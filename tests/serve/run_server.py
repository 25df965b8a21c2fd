"""Run a server of tests in a process of its own, to be killed: `run_server.py WORK PORT SLOTS`."""

import sys
from dataclasses import replace
from pathlib import Path

import uvicorn
from servers import SMALL, settings_for

from egrecho_inner.serve.app import make_app
from egrecho_inner.serve.engines.local import LocalEngine
from egrecho_inner.serve.single import hold

if __name__ == "__main__":
    work, port, slots = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    settings = settings_for(work, port=port, slots=slots, limits=replace(SMALL, attempts=50))
    with hold(work):
        app = make_app(settings, {"local": LocalEngine()})
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)
