"""What an engine is: it starts the worker on a job folder somewhere, and knows whether it still runs."""

from typing import Protocol

from egrecho_inner.serve.jobs import JobFolder


class Engine(Protocol):
    """A place where jobs run."""

    def submit(self, folder: JobFolder) -> str:
        """Start the worker; return a handle that survives a restart of the server.

        Raises:
            EngineError: It cannot be started.
        """

    def runs(self, handle: str, folder: JobFolder) -> bool:
        """Tell whether the worker runs or waits for a machine; if not, `result.json` is here where there is one."""

    def cancel(self, handle: str, folder: JobFolder) -> None:
        """Ask the worker to stop; one that has ended is no error."""

    def forget(self, handle: str, folder: JobFolder) -> None:
        """Delete what the engine keeps of a job elsewhere than in its folder."""


class EngineError(Exception):
    """An engine refused a job or cannot be reached."""
