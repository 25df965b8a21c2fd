"""What a program writes to its terminal: log lines to stderr, results to stdout, which a reader may close early."""

import contextlib
import logging
import os
import select
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

READER_GONE = 128 + 13
"""Exit code of a program that SIGPIPE ends, as every shell knows it from `command | head`."""


class Terminal(logging.StreamHandler):
    """Write to the stderr of the moment, which a progress bar replaces while it is shown: lines go above it."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        pass


def setup_logging(debug: bool, quiet: bool = False) -> None:
    """Send our log lines to stderr, from the first process only, and keep the libraries' chatter out of them.

    Args:
        debug: Show all there is.
        quiet: Show warnings and errors only, and no progress.
    """
    first = os.environ.get("RANK", "0") == "0"
    level = logging.DEBUG if debug else logging.INFO if first and not quiet else logging.WARNING
    handler = Terminal()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    ours = logging.getLogger("egrecho_inner")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(level)
    if not debug:
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings(
            "ignore", category=UserWarning, module=r"(torch|transformers|peft|accelerate|lhotse|bitsandbytes)\b"
        )


@contextlib.contextmanager
def closable_stdout() -> Iterator[None]:
    """End quietly where the reader of stdout has gone, as in `egrecho compare A B | head -3`.

    Raises:
        SystemExit: With the code of SIGPIPE.
        BrokenPipeError: Something else than stdout broke.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not is_closed(sys.stdout):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at the end
        sys.exit(READER_GONE)


def is_closed(stream: TextIO) -> bool:
    """Tell whether nobody reads a stream any more."""
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
