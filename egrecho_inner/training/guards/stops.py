"""Reasons to stop: SIGTERM, SIGINT, SIGUSR1, SIGHUP, a time limit, a file `STOP` in the run folder, a launcher
that was killed.

A signal only leaves a note; the trainer asks for it once per step, all processes agree, a checkpoint is written and the
program leaves with exit code 75. While nothing would be lost (evaluation, whose checkpoint is already there) a signal
ends the run at once. A second Ctrl-C leaves without saving.
"""

import logging
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from egrecho_inner.data.batches.tensors import single_thread
from egrecho_inner.errors import Interrupted, MachineError
from egrecho_inner.training.guards import loaders
from egrecho_inner.training.guards.loaders import LoaderDeaths

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
FILE = "STOP"
NOTE = "INTERRUPTED"
"""Written on leaving early, removed on starting: how a script behind a launcher, which eats exit codes, knows."""


class Stops:
    """Listen for reasons to stop, within a `with` block.

    Args:
        run: The run folder.
        max_hours: Stop after this long.
    """

    def __init__(self, run: Path, max_hours: float | None = None):
        self.run, self.max_hours = run, max_hours
        # a launched process has a session of its own, so nobody else could end it when its launcher is killed
        self.launcher = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
        self.reason: str | None = None
        self.nothing_to_lose = False
        self.loaders = LoaderDeaths()
        self.began = self.noticed = time.monotonic()
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Stops":
        for name in (FILE, NOTE):  # left over from an earlier run
            (self.run / name).unlink(missing_ok=True)
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                    self.before[number] = signal.signal(number, self.note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.loaders.unwatch()
        if isinstance(error, Interrupted) and self.run.is_dir():
            (self.run / NOTE).write_text(f"{error}\n", encoding="utf-8")

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        now = time.monotonic()
        # torchrun sends on to us what the terminal has sent us already; that is no second Ctrl-C
        patience = 1.0 if "TORCHELASTIC_RUN_ID" in os.environ else 0.0
        if self.reason is not None:
            if number == signal.SIGINT and now - self.noticed > patience:
                os.write(2, b"second Ctrl-C: leaving without saving\n")
                os._exit(130)
            return
        self.reason, self.noticed = signal.Signals(number).name, now
        if self.nothing_to_lose:
            raise Interrupted(f"{self.reason}: stopped during evaluation, after saving; the same command continues")
        if os.environ.get("RANK", "0") == "0":  # all processes get the signal
            os.write(2, f"{self.reason}: saving after this step; Ctrl-C (again) leaves at once\n".encode())

    def asked(self) -> bool:
        """Return whether this process knows of a reason to stop."""
        if self.reason is None and self.max_hours is not None:
            hours = (time.monotonic() - self.began) / 3600
            if hours >= self.max_hours:
                self.reason = f"train.max_hours {self.max_hours:g} is over"
        if self.reason is None and (self.run / FILE).exists():
            (self.run / FILE).unlink(missing_ok=True)
            self.reason = f"file {self.run / FILE} (removed)"
        if self.reason is None and self.launcher not in (None, os.getppid()):
            self.reason = "the launcher was killed"
        return self.reason is not None


def raise_if_stopped(trainer: Any) -> None:
    """After train(): leave with the exit code of why it ended early.

    Raises:
        MachineError: A loader process died.
        Interrupted: The run was stopped on request.
        DataError: Not one cut could be used.
    """
    if trainer.stopped is None:
        trainer.tally.skips.check_used(trainer.args.should_save)
        return
    state = trainer.state
    saved = trainer.saved_step == state.global_step
    step = f"checkpoint-{state.global_step} is complete" if saved else "nothing is saved yet"
    step += "; the same command continues" if saved else "; the same command starts again"
    if trainer.stopped.startswith("!"):
        raise MachineError(f"{trainer.stopped[1:]} {loaders.REMEDY}; {step}")
    raise Interrupted(f"{trainer.stopped}: stopped at step {state.global_step}/{state.max_steps}; {step}")


def start_worker(number: int) -> None:
    """Begin a loader process, which lives on when a terminal or a scheduler signals all of the group.

    Its parent may end it: ignoring SIGTERM outright would make the parent wait for ever when it does.
    """
    single_thread(number)
    for each in SIGNALS:
        if each != signal.SIGTERM:
            signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait for a SIGTERM that the parent sent."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
