"""The model card of a result: a README.md that says what the model is, what it was trained on and how well it does.

In: `training.json`, what the run knows of itself, and what `egrecho eval` measured of this very folder. Out: Markdown
with the metadata block that model hubs read; what was measured is kept in that block, so that evaluations leave nothing
in the folder but a newer card. Nothing is claimed that was not measured.
"""

import json
import logging
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import nn

from egrecho_inner import __version__
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.errors import MachineError
from egrecho_inner.runtime.files import write_text

logger = logging.getLogger(__name__)

TRAINING = "training.json"
CARD = "README.md"
"""What was measured is in it: `egrecho eval` knows a model by its `.json` files, which must not change with results."""
MEASURED = "egrecho_evaluations"
"""The key of the metadata block that has what hubs have no fields for."""
EVALUATIONS = "evaluations.jsonl"  # where older versions kept that
NEEDED = {"name", "metric", "error_rate", "interval", "normalizer", "utterances", "beams"}
"""Of each measured set; cards of older versions have no more."""
OUTCOME = {"error_rate", "interval", "utterances", "long"}
"""What two evaluations of one set, made alike, may differ in: the later one replaces the other."""
SPEED = {"batch_seconds", "batch_size"}
"""Options of a search that change nothing in its result."""


def about(
    model: nn.Module, seconds: np.ndarray, config: dict[str, Any], joined: np.ndarray | None = None
) -> dict[str, Any]:
    """Collect what a card says of a run.

    Args:
        model: The base, as loaded.
        seconds: Durations of the training cuts (N,).
        config: The resolved settings.
        joined: Seconds of those that were joined while training; parts of recordings may be as long as these.
    """
    learned = seconds if joined is None or not len(joined) else joined
    made_by = getattr(model, "config", None)  # Transformers'
    return {
        "base": getattr(made_by, "_name_or_path", None) or None,
        "revision": getattr(made_by, "_commit_hash", None),
        "hours": round(float(seconds.sum()) / 3600, 2),
        "learned_seconds": [round(float(each), 2) for each in np.quantile(learned, [0.5, 0.999])],
        "language": config.get("data", {}).get("language"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "git": git_state(),
        "version": __version__,
    }


def git_state() -> str | None:
    """Return the commit of the code that runs, with a mark if files differ from it; None outside of git."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip()[:12] + ("+changes" if dirty.stdout.strip() else "")


def write_card(folder: Path, sets: list[dict[str, Any]] | None = None) -> None:
    """Write README.md into a result folder.

    Args:
        folder: With its `training.json`.
        sets: What was measured on test sets; by default what an earlier card has.
    """
    made = json.loads((folder / TRAINING).read_text(encoding="utf-8"))
    sets = evaluations(folder) if sets is None else sets
    what = family_of(made)
    if (folder / "adapter_config.json").is_file():
        what = f"Adapter for {what}"
    elif "adapter" in made:
        what += " with a merged adapter"
    base = f"`{made['base']}`" if made.get("base") else "random weights"
    if made.get("revision"):
        base += f" at `{made['revision']}`"
    facts: dict[str, str | None] = {
        "Base": base,
        "Training audio": f"{made['hours']:g} h" if "hours" in made else None,
        "Language": made.get("language") or "as each utterance says",
        "Steps": f"{made['step']:,} of {made['max_steps']:,}; the weights are those of {made['best']}"
        if "best" in made
        else None,
        "Input": {"30s": "30 s window", "longest": "as long as the utterance"}.get(
            made["input_window"], "both windows"
        ),
        "Adapter": f"`{made['adapter']}`" if "adapter" in made else None,
        "Command": f"`{made['command']}`" if "command" in made else None,
        "Code": f"egrecho {made.get('version', __version__)}"
        + (f", commit `{made['git']}`" if made.get("git") else ""),
    }
    rows = [f"| {key} | {cell(value)} |" for key, value in facts.items() if value is not None]
    lines = [*metadata(made, folder, sets), f"# {what}, fine-tuned with egrecho", "", "| | |", "|---|---|", *rows, ""]
    lines += scores(made.get("scores", {}), sets)
    write_text(folder / CARD, "\n".join(lines) + "\n")


def family_of(made: dict[str, Any]) -> str:
    """Return the name of a result's family; older versions knew one only."""
    return str(made.get("family", "Whisper"))


def metadata(made: dict[str, Any], folder: Path, sets: list[dict[str, Any]]) -> list[str]:
    """Return the YAML block of a model hub, with what was measured also as a key of ours."""
    from huggingface_hub import EvalResult, ModelCardData

    task, base = "automatic-speech-recognition", str(made.get("base") or "")
    results = [
        EvalResult(
            task_type=task,
            dataset_type=each["name"],
            dataset_name=each["name"],
            metric_type=each["metric"],
            metric_value=round(100 * each["error_rate"], 2),
            metric_name=f"{each['metric'].upper()}, {words}" if (words := way_in_words(each)) else None,
        )
        for each in sets
    ]
    data = ModelCardData(
        language=made.get("language"),
        library_name="transformers",
        pipeline_tag=task,
        tags=[family_of(made).lower().replace(" ", "-"), "egrecho"],
        base_model=base if base and not base.startswith(("/", ".")) else None,
        model_name=folder.resolve().parent.name if results else None,
        eval_results=results or None,
        **({MEASURED: sets} if sets else {}),
    )
    return ["---", *data.to_yaml().splitlines(), "---", ""]


def note_evaluations(folder: Path, sets: Mapping[str, Mapping[str, Any]]) -> None:
    """Tell the card of a model folder of ours what was measured.

    A set that is measured again in the same way replaces its line; in another way, it gets a line of its own.

    Args:
        folder: Of the model that was evaluated; one of others, or a hub id, is left alone.
        sets: The `results.json` of each test set, by its name.
    """
    if not (folder / TRAINING).is_file():
        return
    new = [measurement(name, found) for name, found in sets.items() if found.get("error_rate") is not None]
    known = [old for old in evaluations(folder) if not any(replaces(each, old) for each in new)]
    try:
        write_card(folder, known + new)
        (folder / EVALUATIONS).unlink(missing_ok=True)
    except (OSError, MachineError) as error:
        logger.info("the card of %s stays as it is (%s)", folder, error)


def measurement(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a card keeps of a `results.json`."""
    normalizer, data, usual = found["normalizer"], found["data"], asdict(DecodeOptions(backend="torch"))
    asked = {key: value for key, value in found["decode"].items() if key not in SPEED and value != usual.get(key)}
    return {
        **{"name": name, "metric": found["metric"], "error_rate": found["error_rate"]},
        **{"interval": found["interval"], "normalizer": f"{normalizer['name']} {normalizer['version']}"},
        **{"utterances": found["utterances"], "beams": asked.pop("num_beams", usual["num_beams"])},
        **({"first": data["taken"]} if data["taken"] < data["cuts"] else {}),
        **{"data": data["sha256"][:12], "window": found["model"]["window"], "long": found["long_form"]},
        "options": {key: value for key, value in asked.items() if key != "window"},
    }


def replaces(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Tell whether an evaluation was made like an earlier one, or its set's name stands for other data now."""
    alike = all(new.get(key) == old.get(key) for key in {*new, *old} - OUTCOME)
    return alike or (new["name"] == old["name"] and new["data"] != old.get("data", new["data"]))


def way_in_words(measured: Mapping[str, Any]) -> str:
    """Describe how hypotheses were searched for: what changes an error rate beside model, data and normaliser."""
    words = {"30s": ["30 s window"], "longest": ["no padding to 30 s"]}.get(measured.get("window", ""), [])
    if measured["beams"] > 1:
        words.append(f"{measured['beams']} beams")
    if measured.get("long"):
        words.append(f"{measured['long']:,} cuts over 30 s in parts")
    words += [f"{key} {value}" for key, value in measured.get("options", {}).items()]
    return ", ".join(words)


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """Return what was measured of a model folder; nothing where its card was written anew by hand."""
    old = folder / EVALUATIONS
    if old.is_file():
        return [json.loads(line) for line in old.read_text(encoding="utf-8").splitlines()]
    try:
        _, block, _ = (folder / CARD).read_text(encoding="utf-8").split("---\n", 2)
        return [each for each in yaml.safe_load(block).get(MEASURED, []) if each.keys() >= NEEDED]
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
        return []


def scores(dev: dict[str, float], sets: list[dict[str, Any]]) -> list[str]:
    """Return the section on error rates."""
    lines = ["## Error rates", ""]
    for metric in ("wer", "cer"):
        if f"eval_{metric}" in dev:
            interval = dev.get(f"eval_{metric}_low"), dev.get(f"eval_{metric}_high")
            rate = rated(metric, dev[f"eval_{metric}"], interval, dev.get("eval_normalizer"))
            lines.append(f"Development cuts, which chose the weights: {rate}.")
            lines.append("")
    for each in sets:
        part = f", first {each['first']:,}" if "first" in each else ""
        rate = rated(each["metric"], each["error_rate"], each["interval"] or (None, None), each["normalizer"])
        way = f"; {words}" if (words := way_in_words(each)) else ""
        lines.append(f"- {each['name']} ({each['utterances']:,} utterances{part}): {rate}{way}")
    return lines if len(lines) > 2 else [*lines, "Not measured yet; `egrecho eval --model` this folder does."]


def rated(metric: str, rate: float, interval: Any, normalizer: str | None) -> str:
    """Write an error rate with what belongs to it."""
    low, high = interval
    shown = f", 95 % interval {100 * low:.2f} to {100 * high:.2f} %" if low is not None else ""
    return f"{metric.upper()} {100 * rate:.2f} %{shown}" + (f", normaliser {normalizer}" if normalizer else "")


def cell(text: str) -> str:
    """Keep a table's cell in its cell."""
    return text.replace("|", "\\|").replace("\n", " ")
