"""The engine of this machine: the worker is a process in a session of its own, which outlives the server."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

from egrecho_inner.serve.engines.base import EngineError
from egrecho_inner.serve.jobs import JobFolder
from egrecho_inner.serve.worker import about


class LocalEngine:
    """Run workers on this machine."""

    def __init__(self) -> None:
        self.children: dict[str, subprocess.Popen] = {}

    def submit(self, folder: JobFolder) -> str:
        """Start the worker."""
        try:
            with open(folder.log, "ab") as log:
                child = subprocess.Popen(
                    [sys.executable, "-m", "egrecho_inner.serve.worker", str(folder.path)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=folder.path,
                )  # fmt: skip
        except OSError as error:
            raise EngineError(f"the worker does not start: {error.strerror}") from error
        self.children[str(folder.path)] = child
        return str(child.pid)

    def runs(self, handle: str, folder: JobFolder) -> bool:
        """Tell whether the worker runs: our own child, or after a restart whoever holds the job's lock."""
        child = self.children.get(str(folder.path))
        if child is not None:
            if child.poll() is None:
                return True
            del self.children[str(folder.path)]
        return folder.held()

    def cancel(self, handle: str, folder: JobFolder) -> None:
        """Send SIGTERM to the worker, which hands it on."""
        child = self.children.get(str(folder.path))
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGTERM)
            return
        stop_worker(folder)

    def forget(self, handle: str, folder: JobFolder) -> None:
        """Keep nothing elsewhere."""
        self.children.pop(str(folder.path), None)


def stop_worker(folder: JobFolder) -> None:
    """Send SIGTERM to the worker of a job, if it is a process of this machine."""
    worker = folder.read("worker.json").get("worker", {})
    if worker.get("started") and about(worker["pid"]) == worker:
        with suppress(ProcessLookupError):
            os.kill(worker["pid"], signal.SIGTERM)
