"""Train under torchrun, one strategy after the other; run by test_processes.py. Lines of JSON say how each went.

usage: two.py CUTS DEV OUT STRATEGY...      a strategy is ddp, a config/ds_NAME.json, kill (ddp,
killed while a checkpoint is written), again
"""

import json
import os
import sys
from pathlib import Path

from accelerate.state import AcceleratorState
from runs import kill_at_step, kill_in_seal, same, train

from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.errors import Interrupted
from egrecho_inner.training.trainer import PlanTrainer

cuts, dev, out, *strategies = sys.argv[1:]
BATCH = BatchOptions(max_duration=None, batch_size=2)
KEPT = PlanTrainer._maybe_log_save_evaluate


def run(place: Path, deepspeed: str | None, **changes: object) -> None:
    AcceleratorState._reset_state()  # or the strategy of the run before would stay
    train(Path(cuts), place, batch=BATCH, deepspeed=deepspeed, metric="wer", **changes)


def shipped(name: str) -> str:
    """The shipped configuration; of ZeRO-3 with all parameters sharded, not only the large ones."""
    config = json.loads(Path(f"config/ds_{name}.json").read_text())
    if name == "zero3":
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    path = Path(out) / f"{name}.json"
    path.write_text(json.dumps(config))
    return str(path)


def stop_and_continue(folder: Path, config: str | None) -> bool:
    """Run to the end; again with a SIGTERM in between; say whether both ended with the same bits."""
    run(folder / "whole", config, dev=Path(dev))
    kill_at_step(4, 15)
    try:
        run(folder / "parts", config, dev=Path(dev))
    except Interrupted:
        PlanTrainer._maybe_log_save_evaluate = KEPT
    run(folder / "parts", config, dev=Path(dev))
    return same(folder / "parts" / "final", folder / "whole" / "final")


for name in strategies:
    folder = Path(out) / name
    config = shipped(name) if name.startswith("zero") else None
    if name in ("kill", "again"):
        if name == "kill":
            kill_in_seal(6)
        run(Path(out) / "kill", config, dev=Path(dev))
        continue
    run(folder / "first", config, dropout=0.0, max_steps=1)
    first = json.loads((folder / "first" / "metrics.jsonl").read_text().splitlines()[0])
    row = {"strategy": name} | {key: first[key] for key in ("loss", "grad_norm")}
    if name in ("ddp", "zero2", "zero3"):  # the others go the way of these
        row["same"] = stop_and_continue(folder, config)
    if os.environ["RANK"] == "0":
        print("RESULT " + json.dumps(row), flush=True)
