"""Loader processes that die: found out between two steps, never in the middle of one.

torch raises RuntimeError from its handler of SIGCHLD, wherever the program happens to be; inside the optimizer that
leaves half of the weights updated, and nothing to save. Here the error waits until a batch is taken. In: a training
loop, which calls `watch` before the processes begin and takes batches within `waiting`. Out: the error, raised there.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from torch.utils.data._utils.signal_handling import _set_SIGCHLD_handler

REMEDY = "Most often the machine's memory is full: fewer train.workers, a smaller batch.max_duration"
_DIED = "DataLoader worker (pid"  # without the bracket it is how torch names an error inside a living one


class LoaderDeaths:
    """Hold torch's error back while a step is taken."""

    def __init__(self) -> None:
        self.error: RuntimeError | None = None
        self.may_raise = False
        self.torchs: Callable[..., Any] | None = None

    def watch(self) -> None:
        """Take the place of torch's handler, before there are loader processes or after."""
        if threading.current_thread() is not threading.main_thread():
            return  # torch sets none either
        # torch would set it when the first processes begin, and a death between that and the first batch would end this
        # process alone: the others would wait for it in a collective. Blocking the signal until then is no way: it may
        # be delivered to any thread
        _set_SIGCHLD_handler()
        handler = signal.getsignal(signal.SIGCHLD)
        if callable(handler) and handler != self.note:
            self.torchs = handler
            signal.signal(signal.SIGCHLD, self.note)

    def unwatch(self) -> None:
        """Give torch its handler back."""
        if self.torchs is not None:
            signal.signal(signal.SIGCHLD, self.torchs)
            self.torchs = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGCHLD: let torch look which process ended, and keep its error."""
        try:
            self.torchs(number, frame)
        except RuntimeError as error:
            self.error = error
            if self.may_raise:
                self.may_raise = False
                raise

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Let the error through: half a message of the dead process would be waited for without end.

        Raises:
            RuntimeError: A loader process has died, now or since the last time.
        """
        self.may_raise = True
        try:
            if self.error is not None:
                raise self.error
            yield
        finally:
            self.may_raise = False


def death(error: BaseException, deaths: LoaderDeaths | None = None) -> str:
    """Return the message of an exception about a loader process that died; empty if it is about something else.

    One that is killed while it hands over a batch shows as the end of a pipe before torch notices, or as half a batch.

    Args:
        error: Raised while a batch was taken.
        deaths: What is known of the loader processes.
    """
    if deaths is not None and deaths.error is not None:
        error = deaths.error
    if isinstance(error, (EOFError, ConnectionError)):
        return f"DataLoader worker ended while it handed over a batch ({type(error).__name__})."
    return " ".join(str(error).split()) if isinstance(error, RuntimeError) and _DIED in str(error) else ""
