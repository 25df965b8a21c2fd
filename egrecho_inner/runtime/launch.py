"""Several processes of one program: torchrun, but with the program's own message and exit code.

In: torchrun's options, then a program: a file, `-m` and a module, or the name of an `egrecho` command. torchrun alone
makes 1 of every exit code, prints a traceback under the program's one line, and on Ctrl-C ends its processes after
30 s, saved or not. Here a signal is passed on and the processes have the time they need; a second Ctrl-C ends them.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Container
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def launch(argv: list[str], commands: Container[str] = ()) -> int:
    """Run torchrun with these arguments and return the exit code that shows what happened.

    Args:
        argv: torchrun's options, the program, its options.
        commands: Names that are commands of `egrecho`, not files.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback out of the imports, which take seconds
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun's default, without its banner
    if "--debug" not in argv:
        logging.disable(logging.ERROR)  # torchrun repeats what the program has printed
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # with its own handlers torchrun would kill what has not saved after 30 s
    arguments = torchrun.parse_args(["--signals_to_handle", "SIGQUIT", *argv])
    what = f"{arguments.nproc_per_node} process(es) of {arguments.training_script}"
    if not arguments.module and arguments.training_script in commands:
        arguments.training_script_args = [arguments.training_script, *arguments.training_script_args]
        arguments.module, arguments.training_script = True, "egrecho_inner.cli"
    print(time.strftime("%H:%M:%S"), f"starting {what}: libraries load first", file=sys.stderr, flush=True)
    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, pass_on)
    with tempfile.TemporaryDirectory(prefix="egrecho_launch_") as folder:
        noted = Path(folder, "exit_code")
        os.environ["EGRECHO_EXIT_FILE"] = str(noted)
        try:
            torchrun.run(arguments)
        except ChildFailedError as error:
            if "--debug" in argv:
                raise
            return int(noted.read_text()) if noted.exists() else explain(error)
    return 0


def pass_on(number: int, frame: FrameType | None) -> None:
    """Send a signal to the processes; they have sessions of their own, which the terminal's Ctrl-C does not reach."""
    import psutil

    for child in psutil.Process().children():
        child.send_signal(number)


def explain(error: ChildFailedError) -> int:
    """Return the exit code of the process that failed first, and name the signal that left it no time to."""
    rank, failure = error.get_first_failure()
    if failure.exitcode > 0:
        return failure.exitcode
    name = signal.Signals(-failure.exitcode).name
    hint = ", which often means that the memory was full" if name == "SIGKILL" else ""
    print(f"error: process {rank} was ended by {name}{hint}; the same command continues", file=sys.stderr)
    return 128 - failure.exitcode
