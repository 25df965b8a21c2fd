"""Train one step, compiled or not; run by test_devices.py under torchrun.

usage: compiled.py CUTS OUT true|false

The backend is torch's `eager`: the module is wrapped and traced as for inductor, whose C++ takes minutes here.
"""

import logging
import os
import sys
from pathlib import Path

os.environ["ACCELERATE_DYNAMO_BACKEND"] = "eager"

from runs import train

from egrecho_inner.data.batches.plan import BatchOptions

cuts, out, compiled = sys.argv[1:]
logging.basicConfig(level=logging.INFO)
batch = BatchOptions(max_duration=None, batch_size=2)
train(Path(cuts), Path(out), batch=batch, max_steps=1, compile=compiled == "true")
