#!/usr/bin/env python3
"""Run a program in several processes as torchrun does, but end with the program's own message and exit code.

    local/launch.py --standalone --nproc_per_node 2 egrecho_inner/lora.py -c config/train.yaml ...

Takes torchrun's options. torchrun alone makes 1 of every exit code, prints a traceback under the program's one line,
and on Ctrl-C ends its processes after 30 s, saved or not. Here a signal is passed on and the processes have the time
they need; a second Ctrl-C ends them at once.
"""

import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback out of the imports, which take seconds

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def launch(argv: list[str]) -> int:
    """Run torchrun with these arguments and return the exit code that tells what happened."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun's default, without its banner
    if "--debug" not in argv:
        logging.disable(logging.ERROR)  # torchrun repeats what the program has printed
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # with its own handlers torchrun would kill what has not saved after 30 s
    arguments = torchrun.parse_args(["--signals_to_handle", "SIGQUIT", *argv])
    what = f"{arguments.nproc_per_node} process(es) of {arguments.training_script}"
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


def explain(error: "ChildFailedError") -> int:  # noqa: F821
    """Return the exit code of the process that failed first, and name the signal that left it no time to."""
    rank, failure = error.get_first_failure()
    if failure.exitcode > 0:
        return failure.exitcode
    name = signal.Signals(-failure.exitcode).name
    hint = ", which often means that the memory was full" if name == "SIGKILL" else ""
    print(f"error: process {rank} was ended by {name}{hint}; the same command continues", file=sys.stderr)
    return 128 - failure.exitcode


def main() -> NoReturn:
    """Run the command line."""
    sys.exit(launch(sys.argv[1:]))


if __name__ == "__main__":
    main()
