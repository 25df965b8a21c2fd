"""Trainings on a small set: a base and cuts in, a complete model folder out, whatever was trained.

Thin over `fit()`: options from `recipe`, lower layers frozen where asked, an adapter merged into its base at the end.
"""

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from egrecho_inner.config import plain
from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.options import DataOptions, TargetOptions
from egrecho_inner.data.batches.plan import BatchPlan
from egrecho_inner.data.batches.targets import TargetBatches
from egrecho_inner.model.adapters import add_adapter, load_adapter
from egrecho_inner.model.loading import load_model, load_processor, save_folder, start_model
from egrecho_inner.model.options import ModelOptions
from egrecho_inner.runtime.files import working_folder, write_json
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints.card import TRAINING, write_card
from egrecho_inner.training.fit import fit
from egrecho_inner.training.personal.options import Policy, TuneOptions
from egrecho_inner.training.personal.recipe import (
    batch_options,
    freeze_below,
    lora_options,
    train_options,
    window_options,
)
from egrecho_inner.training.whisper_family import WhisperFamily


@dataclass(frozen=True)
class Way:
    """What all trainings of a run have in common."""

    base: str
    """Folder or hub id."""
    language: str | None
    """Code of the recordings' language."""
    options: TuneOptions
    normalizer: str
    """Of the development error rate."""

    def longer(self, factor: float) -> "Way":
        """Return the same for so many times the epochs."""
        return replace(self, options=replace(self.options, epochs=self.options.epochs * factor))


@dataclass(frozen=True)
class Tuned:
    """A trained model."""

    folder: Path
    step: int
    """Of the best checkpoint."""
    best: float | None
    """Its error rate on dev; None without dev."""
    recordings: int
    seconds: float

    def about(self) -> dict[str, Any]:
        """Return the figures for a report."""
        return {"dev": self.best, "step": self.step, "recordings": self.recordings, "seconds": self.seconds}


@dataclass(frozen=True)
class TunedFolds:
    """A model for every fold, which it was not trained on."""

    models: dict[str, Tuned]

    @property
    def best(self) -> float:
        """Mean error rate on the folds' dev sets."""
        return statistics.fmean(model.best for model in self.models.values())

    @property
    def steps(self) -> int:
        """How long to train on all folds: as many passes as were best on those less the two held out."""
        share = len(self.models) / (len(self.models) - 2)
        return max(1, round(share * statistics.median(model.step for model in self.models.values())))

    def about(self) -> dict[str, Any]:
        """Return the figures for a report."""
        models = self.models.values()
        return {
            "dev": self.best,
            "step": self.steps,
            "recordings": round(statistics.fmean(model.recordings for model in models)),
            "seconds": round(sum(model.seconds for model in models), 1),
        }


def tune(
    way: Way, train: Sequence[Path], dev: Path | None, outdir: Path, policy: Policy, max_steps: int | None = None
) -> Tuned:
    """Train one model, or continue where that was stopped.

    Args:
        way: Base and options.
        train: Manifests.
        dev: Manifest that chooses the best checkpoint; None trains `max_steps` and takes the end.
        outdir: The run folder.
        policy: What is trained.
        max_steps: Train exactly so long.
    """
    began, options = time.monotonic(), way.options
    model, processor = (
        start_model(ModelOptions(way.base), load_processor(way.base), options.seed),
        load_processor(way.base),
    )
    sources = [str(path) for path in train]
    data = DataOptions(sources, str(dev) if dev else None, way.language, max_skip_ratio=0.1,
                       normalizer=way.normalizer)  # fmt: skip
    cuts = CutList(sources)
    batch, window = batch_options(options, cuts), window_options(options)
    plan = BatchPlan(cuts.durations, batch, options.seed, padded_share=window.padded_share)
    how = train_options(options, policy, model, plan, max_steps)
    if policy == "encoder-top":
        freeze_below(model, options.top_layers)
    lora = lora_options(options)
    adapt = partial(add_adapter, options=lora, seed=options.seed) if policy == "lora" else None
    settings = {"base": way.base, "policy": policy, "data": data, "batch": batch, "train": how, "window": window}
    if adapt:
        settings["lora"] = asdict(lora)
    if policy == "encoder-top":
        settings["top_layers"] = options.top_layers
    family = WhisperFamily(model, processor, data, window.window)
    place = fit(
        model, family, outdir, data, batch, how, window, None, plain(settings),
        adapt=(lambda found, steps: adapt(found, total_steps=steps)) if adapt else None,
        make_batches=partial(TargetBatches, options=TargetOptions(), seed=options.seed),
    )  # fmt: skip
    made = json.loads((place / TRAINING).read_text(encoding="utf-8"))
    if adapt:
        place = merge(way.base, place, outdir / "final")
    scores = [made["scores"][key] for key in ("eval_wer", "eval_cer") if key in made["scores"]]
    step = int(made["best"].removeprefix(checkpoint.PREFIX))
    return Tuned(place, step, next(iter(scores), None), len(cuts), round(time.monotonic() - began, 1))


def tune_folds(way: Way, folds: Mapping[str, Path], outdir: Path, policy: Policy) -> TunedFolds:
    """Train a model for every fold: on all others but the next, which chooses its best checkpoint."""
    names, models = list(folds), {}
    for number, fold in enumerate(names):
        dev = names[(number + 1) % len(names)]
        train = [path for name, path in folds.items() if name not in (fold, dev)]
        models[fold] = tune(way, train, folds[dev], outdir / f"{policy}-{fold}", policy)
    return TunedFolds(models)


def merge(base: str, adapter: Path, out: Path) -> Path:
    """Merge an adapter into its base; a finished folder is left as it is."""
    if (out / TRAINING).is_file():
        return out
    made = json.loads((adapter / TRAINING).read_text(encoding="utf-8"))
    merged = load_adapter(load_model(base), adapter).merge_and_unload(safe_merge=True)
    with working_folder(out) as working:
        save_folder(merged, load_processor(base), working, made["input_window"], made.get("timestamps"))
        write_json(working / TRAINING, {**made, "base": base, "adapter": str(adapter)})
        write_card(working)
    return out
