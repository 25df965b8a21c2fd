"""Train from Shar folders under torchrun; run by test_stream_run.py. Lines of JSON say how each task went.

usage: two_stream.py SHAR OUT TASK...      a task is whole, kill (at step 5), again (goes on, and compares)
"""

import sys
from pathlib import Path

from launching import say
from runs import kill_at_step, same, train

from egrecho_inner.data.batches.options import BatchOptions

shar, out, *tasks = sys.argv[1:]
place = Path(out)

for task in tasks:
    if task == "kill":
        kill_at_step(5)
    folder = place / ("whole" if task == "whole" else "parts")
    train(Path(shar), folder, batch=BatchOptions(max_duration=None, batch_size=2), workers=1)
    say(task, same=task != "again" or same(folder / "final", place / "whole" / "final"))
