"""One training on a small set: a base and cuts in, a complete model folder out, whatever was trained.

Thin over `fit()`: options from `recipe`, lower layers frozen where asked, an adapter merged into its base at the end.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from egrecho_inner.config import to_yaml
from egrecho_inner.data.batching import BatchPlan
from egrecho_inner.data.cut_list import CutList
from egrecho_inner.data.options import DataOptions, TargetOptions
from egrecho_inner.data.targets import TargetBatches
from egrecho_inner.model.adapters import add_adapter, load_adapter
from egrecho_inner.model.loading import load_model, load_processor, save_folder, start_model
from egrecho_inner.model.options import ModelOptions
from egrecho_inner.training import checkpoint
from egrecho_inner.training.card import TRAINING, write_card
from egrecho_inner.training.fit import fit
from egrecho_inner.training.personal.recipe import (
    Policy,
    TuneOptions,
    batch_options,
    freeze_below,
    lora_options,
    train_options,
    window_options,
)


@dataclass(frozen=True)
class Tuned:
    """A trained model."""

    folder: Path
    step: int
    """Of the best checkpoint."""
    best: float | None
    """Its error rate on dev; None without dev."""


def tune(
    base: str,
    train: Sequence[Path],
    dev: Path | None,
    outdir: Path,
    language: str | None,
    options: TuneOptions,
    policy: Policy,
    normalizer: str = "auto",
    max_steps: int | None = None,
) -> Tuned:
    """Train one model, or continue where that was stopped.

    Args:
        base: Folder or hub id.
        train: Manifests.
        dev: Manifest that chooses the best checkpoint; None trains `max_steps` and takes the end.
        outdir: The run folder.
        language: Code of the recordings' language.
        options: What the user chose.
        policy: What is trained.
        normalizer: Of the development error rate.
        max_steps: Train exactly so long.
    """
    model, processor = start_model(ModelOptions(base), load_processor(base), options.seed), load_processor(base)
    data = DataOptions([str(path) for path in train], str(dev) if dev else None, language, normalizer=normalizer)
    cuts = CutList(data.train)
    batch, window = batch_options(options, cuts), window_options(model)
    plan = BatchPlan(cuts.durations, batch, options.seed, padded_share=window.padded_share)
    how = train_options(options, policy, model, plan, max_steps)
    if policy == "encoder-top":
        freeze_below(model, options.top_layers)
    lora = lora_options(options)
    adapt = partial(add_adapter, options=lora, seed=options.seed) if policy == "lora" else None
    settings = {"base": base, "policy": policy, "data": data, "batch": batch, "train": how, "window": window}
    if adapt:
        settings["lora"] = asdict(lora)
    if policy == "encoder-top":
        settings["top_layers"] = options.top_layers
    place = fit(
        model, processor, outdir, data, batch, how, window, None, to_yaml(settings),
        adapt=(lambda found, steps: adapt(found, total_steps=steps)) if adapt else None,
        make_batches=partial(TargetBatches, options=TargetOptions(), seed=options.seed),
    )  # fmt: skip
    made = json.loads((place / TRAINING).read_text(encoding="utf-8"))
    if adapt:
        place = merge(base, place, outdir / "final")
    step = int(made["best"].removeprefix(checkpoint.PREFIX))
    scores = {key: value for key, value in made["scores"].items() if key in ("eval_wer", "eval_cer")}
    return Tuned(place, step, next(iter(scores.values()), None))


def merge(base: str, adapter: Path, out: Path) -> Path:
    """Merge an adapter into its base; a finished folder is left as it is."""
    if (out / TRAINING).is_file():
        return out
    made = json.loads((adapter / TRAINING).read_text(encoding="utf-8"))
    merged = load_adapter(load_model(base), adapter).merge_and_unload(safe_merge=True)
    working = out.with_name(f".{out.name}.writing")
    shutil.rmtree(working, ignore_errors=True)
    save_folder(merged, load_processor(base), working, made["input_window"])
    checkpoint.write_json(working / TRAINING, {**made, "base": base, "adapter": str(adapter)})
    write_card(working)
    checkpoint.publish(working, out)
    return out
