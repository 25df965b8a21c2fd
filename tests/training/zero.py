"""Train under DeepSpeed in 16 bits, one task after the other; run by test_deepspeed.py under torchrun.

usage: zero.py CUTS DEV OUT TASK...      a task is KIND:CONFIG, of config/ds_CONFIG.json
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from deepspeed.accelerator import get_accelerator
from launching import say
from runs import kill_at_step, same, train
from safetensors import safe_open

from egrecho_inner.data.batches.plan import BatchOptions
from egrecho_inner.errors import DataError
from egrecho_inner.model.adapters import LoraOptions
from egrecho_inner.training import arguments
from egrecho_inner.training.trainer import PlanTrainer

cuts, dev, out = (Path(word) for word in sys.argv[1:4])
LINEAR = torch.nn.functional.linear
FROZEN = {"freeze": ["encoder"], "augment": None, "dropout": 0.0}


def shipped(name: str, **fp16: Any) -> str:
    """The shipped configuration; of ZeRO-3 with all parameters sharded, not only the large ones."""
    config = json.loads(Path(f"config/ds_{name}.json").read_text())
    config["fp16"] |= fp16
    if name == "zero3":
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    path = out / f"{name}{len(fp16)}.json"
    path.write_text(json.dumps(config))
    return str(path)


def run(place: Path, config: str | None, precision: str = "bf16", **changes: Any) -> Path:
    """Train a few steps with evaluation by decoding; the last checkpoint."""
    AcceleratorState._reset_state()  # or the strategy of the run before would stay
    torch.nn.functional.linear = LINEAR  # ZeRO-3 replaces it for good; in bf16 the other has other last bits
    batch = BatchOptions(max_duration=None, batch_size=2)
    changes = {"max_steps": 6, "metric": "wer", "dev": dev, **changes}
    train(cuts, place, batch=batch, deepspeed=config, precision=precision, **changes)
    return place / f"checkpoint-{changes['max_steps']}"


def lines(place: Path, key: str) -> list[float]:
    """One column of the log."""
    return [row[key] for row in map(json.loads, (place / "metrics.jsonl").read_text().splitlines()) if key in row]


def bf16(name: str) -> dict[str, Any]:
    estimates, kept = [], PlanTrainer.checkpoint_bytes

    def noted(self: PlanTrainer) -> int:
        estimates.append(kept(self))
        return estimates[-1]

    PlanTrainer.checkpoint_bytes = noted
    last = run(out / name, shipped(name))
    PlanTrainer.checkpoint_bytes = kept
    large = [*last.glob("*.safetensors"), *last.glob("global_step*/*")]
    with safe_open(last / "model.safetensors", "pt") as file:
        types = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    losses = {"loss": lines(out / name, "loss")[0], "eval_loss": lines(out / name, "eval_loss")}
    return losses | {"estimates": estimates, "bytes": sum(p.stat().st_size for p in large), "types": sorted(types)}


def kill(name: str) -> dict[str, Any]:
    kill_at_step(5)
    run(out / f"killed-{name}", shipped(name))
    return {}


def again(name: str) -> dict[str, Any]:
    last = run(out / f"killed-{name}", shipped(name))
    return {"same": same(last, out / name / last.name), "eval_loss": lines(out / f"killed-{name}", "eval_loss")}


def cache(name: str) -> dict[str, Any]:
    """A frozen encoder with and without its outputs kept; processes meet other cuts, so have other misses."""
    found = {}
    for kind, room in (("plain", 0.0), ("kept", 0.1)):
        run(out / f"{kind}-{name}", shipped(name), encoder_cache_gb=room, **FROZEN)
        found[kind] = lines(out / f"{kind}-{name}", "loss")
    return found


def lora(name: str) -> dict[str, Any]:
    last = run(out / f"lora-{name}", shipped(name), lora=LoraOptions(r=4), metric="loss")
    with safe_open(last / "adapter_model.safetensors", "pt") as file:
        moved = sum(bool(file.get_tensor(key).abs().sum()) for key in file.keys() if "lora_B" in key)  # noqa: SIM118
    return {"eval_loss": lines(out / f"lora-{name}", "eval_loss"), "moved": moved}


def fp16(name: str) -> dict[str, Any]:
    """An initial scale that is too large: steps are left out until it has come down; a longer run goes on with it."""
    place = out / f"fp16-{name}"
    for steps in (9, 11):
        run(place, shipped(name, initial_scale_power=20, hysteresis=1), "fp16", augment=None, max_steps=steps)
    row = {key: lines(place, key) for key in ("grad_norm", "learning_rate", "loss", "eval_loss", "nonfinite")}
    return row


def lowest(name: str) -> dict[str, Any]:
    """A scale that may not come down."""
    try:
        config = shipped(name, initial_scale_power=24, hysteresis=1, min_loss_scale=2**23)
        run(out / f"lowest-{name}", config, "fp16", augment=None)
    except DataError as error:
        return {"error": str(error)}
    return {}


def nan(name: str) -> dict[str, Any]:
    """A loss that is not a number in the last step: left out, and then a stop."""
    kept = PlanTrainer.compute_loss

    def broken(self: PlanTrainer, *args: Any, **kwargs: Any) -> Any:
        loss = kept(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step == 5 else loss

    PlanTrainer.compute_loss = broken
    row: dict[str, Any] = {}
    try:
        last = run(out / f"nan-{name}", shipped(name), nonfinite="skip", eval_steps=1, metric="loss")
        row["unchanged"] = same(last, last.with_name("checkpoint-5"))
        row["nonfinite"] = lines(out / f"nan-{name}", "nonfinite")
        run(out / f"stop-{name}", shipped(name))
    except DataError as error:
        row["error"] = str(error)
    finally:
        PlanTrainer.compute_loss = kept
    return row


if __name__ == "__main__":
    tasks = {work.__name__: work for work in (nan, bf16, kill, again, cache, lora, fp16, lowest)}
    if not torch.cuda.is_available():
        get_accelerator().is_fp16_supported = lambda: True  # slowly, but it is
        arguments.check_options = lambda _: None  # refuses fp16 without a GPU
    for task in sys.argv[4:]:
        kind, _, config = task.partition(":")
        say(task, **tasks[kind](config))
