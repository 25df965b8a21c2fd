"""The model card of a result: a README.md that says what the model is, what it was trained on and how well it does.

In: what the run knows of itself, and the `results.json` of evaluations that lie in the run folder. Out: Markdown with
the metadata block that model hubs read. Nothing is claimed that was not measured.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from egrecho_inner import __version__
from egrecho_inner.model.whisper import Whisper


def about(model: Whisper, hours: float, config: dict[str, Any]) -> dict[str, Any]:
    """Collect what a card says of a run.

    Args:
        model: The base, as loaded.
        hours: Of training audio.
        config: The resolved settings.
    """
    return {
        "base": model.config._name_or_path or None,
        "revision": getattr(model.config, "_commit_hash", None),
        "hours": round(hours, 2),
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


def write_card(folder: Path, made: dict[str, Any], run: Path) -> None:
    """Write README.md into a result folder.

    Args:
        folder: Of the result.
        made: Its `training.json`.
        run: The run folder, searched for evaluations.
    """
    what = "Adapter for Whisper" if (folder / "adapter_config.json").is_file() else "Whisper"
    lines = [*metadata(made), f"# {what}, fine-tuned with egrecho", ""]
    base = f"`{made['base']}`" if made.get("base") else "random weights"
    if made.get("revision"):
        base += f" at `{made['revision']}`"
    facts = {
        "Base": base,
        "Training audio": f"{made['hours']:g} h",
        "Language": made.get("language") or "as each utterance says",
        "Steps": f"{made['step']:,} of {made['max_steps']:,}; the weights are those of {made['best']}",
        "Input": {"30s": "30 s window", "longest": "as long as the utterance"}.get(
            made["input_window"], "both windows"
        ),
        "Command": f"`{made['command']}`",
        "Code": f"egrecho {made['version']}" + (f", commit `{made['git']}`" if made.get("git") else ""),
    }
    lines += ["| | |", "|---|---|", *(f"| {key} | {cell(value)} |" for key, value in facts.items()), ""]
    lines += scores(made.get("scores", {}), evaluations(run))
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def metadata(made: dict[str, Any]) -> list[str]:
    """Return the YAML block of a model hub."""
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: automatic-speech-recognition",
        "tags: [whisper, egrecho]",
    ]
    if made.get("language"):
        lines.append(f"language: {json.dumps(made['language'])}")
    if made.get("base") and not str(made["base"]).startswith(("/", ".")):
        lines.append(f"base_model: {made['base']}")
    return [*lines, "---", ""]


def evaluations(run: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the scored test sets of a run folder with their names."""
    found = []
    for path in sorted((run / "eval").rglob("results.json")) if (run / "eval").is_dir() else []:
        content = json.loads(path.read_text(encoding="utf-8"))
        if "error_rate" in content:
            found.append((str(path.parent.relative_to(run)), content))
    return found


def scores(dev: dict[str, float], sets: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Return the section on error rates."""
    lines = ["## Error rates", ""]
    for metric in ("wer", "cer"):
        if f"eval_{metric}" in dev:
            low, high = dev.get(f"eval_{metric}_low"), dev.get(f"eval_{metric}_high")
            interval = f", 95 % interval {100 * low:.2f} to {100 * high:.2f} %" if low is not None else ""
            named = f", normaliser {dev['eval_normalizer']}" if "eval_normalizer" in dev else ""
            lines.append(f"Development cuts: {metric.upper()} {100 * dev[f'eval_{metric}']:.2f} %{interval}{named}.")
    for name, content in sets:
        interval = content.get("interval") or content.get("error_rate_interval")
        shown = f", 95 % interval {interval[0]} to {interval[1]}" if interval else ""
        normalizer = content.get("normalizer")
        named = f", normaliser {normalizer}" if normalizer else ""
        lines.append(f"- {name}: {content.get('metric', 'wer').upper()} {content['error_rate']}{shown}{named}")
    return lines if len(lines) > 2 else [*lines, "Not measured yet; `egrecho eval --model_path` this folder does."]


def cell(text: str) -> str:
    """Keep a table's cell in its cell."""
    return text.replace("|", "\\|").replace("\n", " ")
