"""Train with train.deterministic, twice and in parts; run by tests/gpu under torchrun.

usage: same_bits.py CUTS DEV OUT TASK...      first, second, kill, again
"""

import sys
from pathlib import Path

from launching import say
from runs import kill_at_step, same, train

cuts, dev, out = (Path(word) for word in sys.argv[1:4])
for task in sys.argv[4:]:
    if task == "kill":
        kill_at_step(5)
    place = out / ("kill" if task == "again" else task)
    train(cuts, place, dev, precision="bf16", deterministic=True)
    say(task, same=same(place / "final", out / "first" / "final"))
