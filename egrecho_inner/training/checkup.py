"""What would go wrong with a training, looked at before it costs an hour: model, data, and both with the configuration.

In: the options of `full` or `lora`. Out: `Check`s. Nothing is loaded but tokenizer and config.json; of the cuts the
index is read, and some evenly spread ones with their audio's header.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse.cut import Cut
from transformers import WhisperConfig, WhisperProcessor

from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.options import BatchOptions, DataOptions, Source
from egrecho_inner.data.batches.plan import BatchPlan
from egrecho_inner.data.batches.stream import is_shar
from egrecho_inner.errors import DataError, UserError
from egrecho_inner.model.loading import ENGLISH_ONLY_VOCABULARY, load_processor, read_config, read_generation_config
from egrecho_inner.model.options import LoraOptions, ModelOptions
from egrecho_inner.runtime.machine import Area, Check
from egrecho_inner.text.constants import WINDOW_SECONDS
from egrecho_inner.text.labels import LabelEncoder, languages_of
from egrecho_inner.training.cost import PEAKS, USABLE, Footprint, footprint, peak_name, trained_parameters
from egrecho_inner.training.options import Sharding, TrainOptions, WindowOptions
from egrecho_inner.training.whisper_cost import activations, audio_per_second, shape, shell

LOOKED_AT = 64
"""Cuts of a manifest whose audio or features are looked at, evenly spread."""


@dataclass(frozen=True)
class Plan:
    """What is to be trained, and how."""

    model: ModelOptions
    data: DataOptions | None
    batch: BatchOptions
    train: TrainOptions
    window: WindowOptions
    lora: LoraOptions | None
    source: Source
    mfu: float
    """Share of a GPU's peak that training reaches, for the estimate of hours."""


def checks(plan: Plan) -> Iterator[Check]:
    """Look at model, data, and how they and the configuration fit each other."""
    config = processor = labels = cuts = None
    try:
        config, processor = open_model(plan.model)
        yield from model_checks(plan.model, config, processor)
    except UserError as error:
        yield refused("model", "files", error)
    if plan.data is None:
        return
    if processor is not None and config is not None:
        multilingual = speaks_languages(plan.model, config)
        labels = LabelEncoder(processor.tokenizer, plan.data.language, plan.data.task, multilingual)
    for key, paths in (("data.train", plan.data.train), ("data.dev", dev_paths(plan.data))):
        opened, found = open_data(key, paths, plan, labels)
        yield from found
        if opened is None:
            continue
        mels = config.num_mel_bins if config is not None else None
        yield from data_checks(opened, mels)
        if key == "data.train":
            cuts = opened
        elif cuts is not None:
            yield from shared_checks(cuts, opened)
    if config is not None and cuts is not None:
        yield from plan_checks(plan, config, cuts)


def refused(area: Area, name: str, error: UserError) -> Check:
    """Return the check of what a program would refuse: its own message, the remedy apart."""
    found, _, remedy = str(error).rpartition("; ")
    return Check(area, name, found or str(error), "bad", remedy if found else "")


def open_model(options: ModelOptions) -> tuple[WhisperConfig, WhisperProcessor]:
    """Read config and processor; the latter is compared with the former."""
    processor = load_processor(options.path)
    config = read_config(options.path) if options.size is None else shape(options.size, len(processor.tokenizer))
    return config, processor


def speaks_languages(options: ModelOptions, config: WhisperConfig) -> bool:
    """Tell whether a model's prefix holds language and task, before the model is loaded."""
    generation = read_generation_config(options.path) if options.size is None else None
    flag = getattr(generation, "is_multilingual", None)
    return config.vocab_size != ENGLISH_ONLY_VOCABULARY if flag is None else bool(flag)


def model_checks(options: ModelOptions, config: WhisperConfig, processor: WhisperProcessor) -> Iterator[Check]:
    """Describe a model whose files agree, and look for its weights."""
    count = len(languages_of(processor.tokenizer.get_added_vocab()))
    size = sum(p.numel() for p in shell(config).parameters())
    yield Check(
        "model", options.size or Path(options.path).name,
        f"{size / 1e6:,.1f} M parameters, {config.encoder_layers} + {config.decoder_layers} layers, "
        f"{config.num_mel_bins} mels, {config.vocab_size:,} tokens, {count} languages",
    )  # fmt: skip
    folder = Path(options.path)
    if options.size is None and folder.is_dir() and not any(folder.glob("*.safetensors")):
        remedy = "copy the weights there; bash local/hf_download.sh gets them as safetensors"
        yield Check("model", "weights", f"no model.safetensors in {folder}", "bad", remedy)


def dev_paths(data: DataOptions) -> list[str] | None:
    """Return the manifests of all development sets, None without any."""
    sets = data.dev_sets.values()
    return [path for paths in sets for path in ([paths] if isinstance(paths, str) else paths)] if sets else None


def open_data(
    key: str, paths: list[str] | str | None, plan: Plan, labels: LabelEncoder | None
) -> tuple[CutList | None, list[Check]]:
    """Open manifests as training does; with what is left out of them."""
    if paths is None:
        remedy = "without data.dev no best checkpoint is chosen"
        return None, [Check("data", key, "not given", "note", remedy)]
    if any(is_shar(path) for path in ([paths] if isinstance(paths, str) else paths)):
        return None, [Check("data", key, "Shar folders are read in a stream: not looked at", "note")]
    try:
        cuts = CutList(paths, key)
        seconds = cuts.durations
        words = (
            f"{len(cuts):,} cuts, {seconds.sum() / 3600:,.2f} h; "
            + f"{seconds.min():.1f} to {seconds.max():.1f} s, half under {np.median(seconds):.1f} s"
        )
        found = [Check("data", key, words)]
        names = {name: 0 for name in cuts.languages}
        for index in cuts.indexes:
            for place, name in enumerate(index.languages):
                names[name] = names.get(name, 0) + int((index.language == place).sum())
        shown = ", ".join(f"{name or 'none named'} {count:,}" for name, count in names.items())
        found.append(Check("data", f"{key}: language", shown))
    except UserError as error:
        return None, [refused("data", key, error)]
    if labels is not None:
        try:
            source = plan.source if key == "data.train" else "reference"
            ratio = plan.data.max_skip_ratio if plan.data and key == "data.train" else 1.0
            cuts.keep_trainable(labels, ratio, source, bool(plan.data and plan.data.no_speech))
            state = "note" if cuts.left_out else "ok"
            found.append(Check("data", f"{key}: usable", f"{len(cuts):,}; {cuts.summary()}", state))
        except UserError as error:
            found.append(refused("data", f"{key}: usable", error))
            cuts.keep_all()
    return cuts, found


def data_checks(cuts: CutList, mels: int | None) -> Iterator[Check]:
    """Look at the audio or features of some cuts: there, of one rate, of as many mels as the model wants."""
    places = np.unique(np.linspace(0, len(cuts) - 1, min(LOOKED_AT, len(cuts))).astype(int))
    rates: Counter[int] = Counter()
    widths: Counter[int] = Counter()
    absent: list[str] = []
    for place in places:
        cut = cuts[int(place)]
        absent += [f"{path} ({cut.id})" for path in files_of(cut) if not Path(path).is_file()]
        if getattr(cut, "has_features", False):
            widths[cut.num_features] += 1
        elif getattr(cut, "has_recording", False):
            rates[rate_of(cut)] += 1
    if absent:
        found = f"{len(absent)} of {len(places)} looked at are missing, {absent[0]}"
        yield Check("data", f"{cuts.key}: files", found, "bad", "mount or copy them, or import the corpus again")
    if rates:
        found = ", ".join(f"{rate:,} Hz {count}" for rate, count in rates.most_common())
        low = ("note", "nothing above half of that is in them: test on audio of the same kind")
        yield Check(
            "data", f"{cuts.key}: audio", f"{found} of {len(places)} looked at", *(low if min(rates) < 16000 else ())
        )
    if widths:
        found = ", ".join(f"{width} mels {count}" for width, count in widths.most_common())
        wrong = mels is not None and set(widths) != {mels}
        remedy = f"egrecho compute-features ... --num_mel_bins {mels}, or cuts without stored features"
        found = f"stored, {found} of {len(places)} looked at"
        yield Check("data", f"{cuts.key}: features", found, "bad" if wrong else "ok", remedy if wrong else "")


def rate_of(cut: Cut) -> int:
    """Return the sampling rate of a cut's file, before it is resampled."""
    for each in cut.recording.transforms or []:
        name, settings = (each["name"], each["kwargs"]) if isinstance(each, dict) else (type(each).__name__, vars(each))
        if name == "Resample":
            return settings["source_sampling_rate"]
    return cut.sampling_rate


def files_of(cut: Cut) -> list[str]:
    """Return the files that a cut's samples or features are read from; none where they are elsewhere."""
    if getattr(cut, "has_features", False):
        archive = Path(cut.features.storage_path)
        chunked = cut.features.storage_type == "lilcom_chunky"
        return [str(archive)] if chunked or archive.suffix else []
    if not getattr(cut, "has_recording", False):
        return []
    return [source.source for source in cut.recording.sources if source.type == "file"]


def shared_checks(train: CutList, dev: CutList) -> Iterator[Check]:
    """Look for cuts that are both trained on and scored."""
    shared = np.intersect1d(train.column("ids")[train.kept], dev.column("ids")[dev.kept])
    if len(shared):
        remedy = "the development score would be too good; take them out of one"
        yield Check("data", "train and dev", f"{len(shared):,} cuts are in both", "bad", remedy)


def plan_checks(plan: Plan, config: WhisperConfig, cuts: CutList) -> Iterator[Check]:
    """Count steps, memory and hours, and compare them with the machine."""
    train, group = plan.train, plan.train.accumulation
    try:
        batches = BatchPlan(cuts.durations, plan.batch, train.seed, 1, group, plan.window.padded_share)
        steps = batches.steps_per_epoch()
    except DataError as error:
        yield refused("config", "batches", error)
        return
    total = train.max_steps or round(train.num_epochs * steps)
    hours = float(cuts.durations.sum()) / 3600 * (total / steps)
    found = f"{total:,} steps of one process, {total / steps:.1f} epochs, padding {100 * batches.padding_share():.1f} %"
    few = ("note", f"train.eval_steps {train.eval_steps} is more: only the last step is scored")
    yield Check("config", "steps", found, *(few if total < train.eval_steps else ()))
    largest = batches.padded_seconds(batches.largest())
    tokens = float(cuts.column("text_bytes")[cuts.kept].clip(0).sum()) / 3 / float(cuts.durations.sum())
    need = needed(plan, config, largest, float(cuts.durations.max()), max(tokens, 1.0))
    yield memory_check(plan, need, largest)
    yield hours_check(plan, config, hours, float(cuts.durations.mean()), tokens)
    if train.precision == "bf16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(False):
        yield Check("config", "precision", "bf16, which this GPU emulates", "bad", "--train.precision fp16")


def sharding_of(deepspeed: str | None) -> Sharding:
    """Return what a DeepSpeed configuration divides over processes."""
    if deepspeed is None:
        return "none"
    zero: dict[str, Any] = json.loads(Path(deepspeed).read_text(encoding="utf-8")).get("zero_optimization", {})
    names: dict[tuple[int, bool], Sharding] = {
        (1, False): "zero1", (2, False): "zero2", (3, False): "zero3", (2, True): "zero2+offload",
        (3, True): "zero3+offload",
    }  # fmt: skip
    return names.get((zero.get("stage", 0), "offload_optimizer" in zero), "none")


def needed(plan: Plan, config: WhisperConfig, seconds: float, longest: float, tokens: float) -> Footprint:
    """Estimate what a process holds."""
    model, method = shell(config), "full" if plan.lora is None else "lora"
    lora, half = plan.lora or LoraOptions(), plan.train.precision != "fp32"
    trained = trained_parameters(model, method, lora.r, lora.target_modules)
    longest = WINDOW_SECONDS if plan.window.padded_share else longest
    kept = activations(
        config, max(seconds, longest), longest, tokens, method, plan.train.gradient_checkpointing, half
    )  # fmt: skip
    total = sum(p.numel() for p in model.parameters())
    processes = max(torch.cuda.device_count(), 1)
    return footprint(total, trained, kept, sharding_of(plan.train.deepspeed), processes, half)


def memory_check(plan: Plan, need: Footprint, largest: float) -> Check:
    """Compare what a process holds with the GPU's memory, or the machine's where there is no GPU."""
    if torch.cuda.is_available():
        room, where = torch.cuda.get_device_properties(0).total_memory * USABLE, "the GPU's"
    else:
        import psutil

        room, where = float(psutil.virtual_memory().available), "the machine's free"
    parts = (
        f"weights {need.weights / 1e9:.1f}, gradients {need.gradients / 1e9:.1f}, optimizer {need.optimizer / 1e9:.1f}"
    )
    found = (
        f"about {need.total / 1e9:.1f} GB of {where} {room / 1e9:.1f} for batches of {largest:.0f} s "
        f"({parts}, activations {need.activations / 1e9:.1f})"
    )
    if need.total <= room:
        return Check("config", "memory", found)
    spare = room - (need.total - need.activations)
    remedy = "train.gradient_checkpointing true, an adapter (lora), or train.deepspeed config/ds_zero2.json"
    if spare > 0:
        remedy = f"batch.max_duration {max(int(largest * spare / need.activations), 1)}, or {remedy}"
    return Check("config", "memory", found, "bad", remedy)


def hours_check(plan: Plan, config: WhisperConfig, hours: float, seconds: float, tokens: float) -> Check:
    """Estimate how long the run takes on this machine's GPUs; of a CPU nothing is known."""
    name = peak_name(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else None
    if name is None:
        remedy = "20 steps show it: --train.max_steps 20, then egrecho plan --audio_seconds_per_second"
        return Check("config", "hours", f"{hours:,.1f} h of audio in all; no peak is known here", "note", remedy)
    gpus = torch.cuda.device_count()
    peak = PEAKS[name][0 if plan.train.precision != "fp32" else 1]
    speed = gpus * audio_per_second(config, peak, plan.mfu, seconds, tokens)
    found = (
        f"{hours / speed:,.1f} h for {hours:,.1f} h of audio on {gpus} x {name}, at {100 * plan.mfu:g} % of the peak"
    )
    return Check("config", "hours", found)
