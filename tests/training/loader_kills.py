#!/usr/bin/env python3
"""Kill loader processes of a training at random, again and again, and count what comes of it.

    export PYTHONPATH=.:tests:tests/training
    python tests/training/loader_kills.py --kills 10                  # one process, all weights with a CTC layer
    python tests/training/loader_kills.py --kills 10 --processes 2    # two processes on gloo

After every kill: every process exits with 5, as `egrecho launch` then does, and the newest checkpoint is of the last
step in the log. When the run has come to its end in spite of all: its weights are those of a run that nobody disturbed.
Exits 1 where one of these is not so.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import psutil
from runs import in_child, same
from tiny import save_tiny, speech_cuts

from egrecho_inner.data.batches.options import BatchOptions, DataOptions
from egrecho_inner.full import train_full
from egrecho_inner.model.options import ModelOptions
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.options import TrainOptions

LONGEST_WAIT = 1.5  # seconds from the first loader process to the kill


def start(base: Path, cuts: Path, out: Path, processes: int, steps: int) -> None:
    """Train in this process."""
    train = TrainOptions(
        **{"max_steps": steps, "eval_steps": steps, "workers": 2, "report_to": [], "metric": "loss"},
        **{"logging_steps": 1, "learning_rate": 1e-3, "ctc_weight": 0.0 if processes > 1 else 0.3},
    )
    model, data = ModelOptions(str(base), dropout=0.1), DataOptions(train=str(cuts))
    train_full(model=model, data=data, batch=BatchOptions(max_duration=None, batch_size=2), train=train, out=str(out))


def launch(base: Path, cuts: Path, out: Path, processes: int, steps: int, port: int) -> list[int]:
    """Train in forked processes, in place of torchrun, whose imports would take longer than the training."""
    children = []
    for rank in range(processes):
        if child := os.fork():
            children.append(child)
            continue
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        if processes > 1:
            os.environ.update({name: str(value) for name, value in place.items()})
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
        os._exit(abs(in_child(lambda: start(base, cuts, out, processes, steps))))
    return children


def kill_one(children: list[int], wait: float) -> bool:
    """Kill a loader process a while after the first one begins; tell whether one was there."""
    while any(psutil.pid_exists(child) and psutil.Process(child).status() != "zombie" for child in children):
        if found := loaders(children):
            time.sleep(wait)
            found = loaders(children) or found
            try:
                random.choice(found).kill()
            except psutil.NoSuchProcess:
                return False
            return True
        time.sleep(0.01)
    return False


def loaders(children: list[int]) -> list[psutil.Process]:
    """Return the loader processes: children of the training processes, which are ours' children."""
    found = []
    for child in children:
        try:
            training = psutil.Process(child).children()
            found += [each for one in training for each in one.children() if each.status() != "zombie"]
        except psutil.NoSuchProcess:
            continue
    return found


def codes(children: list[int]) -> list[int]:
    """Wait for processes and return their exit codes."""
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def last_step(out: Path) -> int:
    """Return the last step in the log."""
    log = out / "metrics.jsonl"
    rows = map(json.loads, log.read_text().splitlines()) if log.exists() else ()
    return max((row["step"] for row in rows if "loss" in row), default=0)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with tempfile.TemporaryDirectory(prefix="loader_kills_") as home:
        return count(options, Path(home))


def count(options: argparse.Namespace, home: Path) -> int:
    """Kill until there were enough kills, print the counts, return the exit code."""
    base, cuts = save_tiny(home / "base" / "final", ending=3.3), speech_cuts(home, n=24)
    port = 29500 + os.getpid() % 999
    assert not any(codes(launch(base, cuts, home / "whole", options.processes, options.steps, port)))
    kills = exits = saved = runs = equal = 0
    while True:
        out = home / f"run{runs}"
        port += 1
        children = launch(base, cuts, out, options.processes, options.steps, port)
        killed = kills < options.kills and kill_one(children, random.uniform(0, LONGEST_WAIT))
        ended = codes(children)
        if killed and any(ended):
            kills += 1
            steps = [step for step, _ in checkpoint.steps(out)] if out.exists() else []
            exits += all(code == 5 for code in ended)
            newest = max(steps, default=0)
            saved += newest >= last_step(out)
            print(f"kill {kills}: exit codes {ended}, log {last_step(out)}, checkpoint {newest}", flush=True)
        elif not any(ended):
            runs += 1
            equal += same(out / "final", home / "whole" / "final")
            print(f"run {runs} ended, same bits: {equal == runs}", flush=True)
            if kills >= options.kills:
                break
        else:
            print(f"ended with {ended} although nothing was killed; {home}")
            return 1
    print(f"{kills} kills: exit 5 {exits}, nothing lost {saved}; {runs} runs to the end, {equal} with the same bits")
    return int(not exits == saved == kills or equal != runs)


if __name__ == "__main__":
    sys.exit(main())
