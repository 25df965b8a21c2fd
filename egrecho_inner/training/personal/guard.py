"""What a personal model forgets: measured on recordings of others, and held within a budget by mixing with the base.

In: the base, the tuned model, a second set in two halves. Out: the model `base + alpha (tuned - base)` (Wortsman et al.
2022, "Robust fine-tuning of zero-shot models", arXiv:2109.01903) of the alpha that is best on dev among those that keep
to the budget on the first half; the second half, which chose nothing, says what was forgotten.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from egrecho_inner.data.sources.folder import SplitOptions, read_folder
from egrecho_inner.data.sources.folder_cuts import cut_lines
from egrecho_inner.errors import DataError
from egrecho_inner.model.loading import load_model, load_processor, save_folder, window_of
from egrecho_inner.runtime.files import read_lines, working_folder, write_json, write_jsonl
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.training.checkpoints.card import TRAINING, write_card
from egrecho_inner.training.personal.assess import Assessed, Verdict
from egrecho_inner.training.personal.options import GuardOptions

HALVES = ("guard_dev", "guard_test")


def open_guard(options: GuardOptions, outdir: Path, language: str | None) -> dict[str, Path]:
    """Write the two halves of the second set as manifests; nothing where there is no second set.

    Raises:
        DataError: It has fewer than two usable recordings, or does not read.
    """
    if options.data is None:
        return {}
    path = Path(options.data)
    if path.is_dir():
        ledger = Ledger(outdir / "guard_skipped.jsonl")
        clips = read_folder(path, SplitOptions(folds=3), ledger).clips.values()
        lines = list(cut_lines(clips, path, outdir, language, ledger))
    else:
        lines = list(read_lines(path))
    lines.sort(key=lambda line: hashlib.sha256(str(json.loads(line)["id"]).encode()).digest())
    lines = lines[: options.limit]
    if len(lines) < 2:
        raise DataError(f"{path}: {len(lines)} usable recordings; the guard needs at least 2, better 100")
    found = {name: outdir / f"cuts_{name}.jsonl.gz" for name in HALVES}
    for offset, manifest in enumerate(found.values()):
        write_jsonl(manifest, sorted(lines[offset::2]))
    return found


def mix(base: str, tuned: Path, alpha: float, out: Path) -> Path:
    """Write the model `base + alpha (tuned - base)`; a finished one is left as it is."""
    if alpha == 1.0:
        return tuned
    if (out / TRAINING).is_file():
        return out
    model, other = load_model(str(tuned)), load_model(base).state_dict()
    window = window_of(model)
    state = {}
    for name, value in model.state_dict().items():
        state[name] = torch.lerp(other[name].float(), value.float(), alpha).to(value.dtype)
    model.load_state_dict(state)
    with working_folder(out) as working:
        save_folder(model, load_processor(base), working, window)
        made = json.loads((tuned / TRAINING).read_text(encoding="utf-8"))
        write_json(working / TRAINING, {**made, "base": base, "alpha": alpha})
        write_card(working)
    return out


def choose_alpha(
    options: GuardOptions,
    base: str,
    tuned: Path,
    before: Assessed,
    outdir: Path,
    measure: Callable[[Path, str, str], Assessed],
    with_dev: bool,
) -> tuple[Path, dict[str, Any]]:
    """Choose the mix that keeps to the budget.

    Args:
        options: The budget, and what is tried.
        base: Folder or hub id.
        tuned: The tuned model.
        before: The base on the first half.
        outdir: Of the mixed models.
        measure: Evaluates a model, under a name, on a set.
        with_dev: Whether there is a dev set to choose by; else the first alpha within the budget is taken.

    Returns:
        The model, and what was found.
    """
    tried: list[dict[str, Any]] = []
    for alpha in options.alphas:
        model = mix(base, tuned, alpha, outdir / f"{alpha:.2f}")
        found = measure(model, f"mixes/{alpha:.2f}", HALVES[0])
        forgotten = (found.score.error_rate or 0.0) - (before.score.error_rate or 0.0)
        row = {"alpha": alpha, "forgotten": forgotten, "model": model, "fits": forgotten <= options.budget}
        if row["fits"] and with_dev:
            row["dev"] = measure(model, f"mixes/{alpha:.2f}", "dev").score.error_rate
        tried.append(row)
        if row["fits"] and not with_dev:
            break
    fitting = [row for row in tried if row["fits"]]
    best = (
        min(fitting, key=lambda row: row.get("dev", 0.0)) if fitting else min(tried, key=lambda row: row["forgotten"])
    )
    told = [{name: value for name, value in row.items() if name != "model"} for row in tried]
    return best["model"], {"alpha": best["alpha"], "budget": options.budget, "tried": told}


def exceeds(change: Verdict, budget: float) -> bool:
    """Tell whether more was forgotten than the budget allows, and not by chance."""
    return change.word == "worse" and (change.delta or 0.0) > budget
