#!/usr/bin/env python3
"""Time training: fit() beside Transformers' Seq2SeqTrainer, same model, utterances and tokens, in one run.

    python benchmarks/train_speed.py --data data/mboshi/train
    python benchmarks/train_speed.py --data data/mboshi/train --size large-v3 --precision bf16 --profile    # with a GPU

The peer is what the Transformers guide writes: `WhisperFeatureExtractor`, every utterance padded to 30 s, batches of 8,
`Seq2SeqTrainer`. The guide computes the features before training, so the peer's time does not contain them; ours reads
and transforms the audio while it trains. Both train all weights with AdamW and clip gradients; `--ways lora` trains an
adapter, `zero2`, `zero3` and `fsdp` shard as config/ does (each alone, started by torchrun). The first steps of every
run are not counted. MFU: counted operations, padding included, over what the maker of the GPU states
(`training/cost.py`). `--profile` prints where our time goes.
"""

import argparse
import gc
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from lhotse.cut import Cut
from speech import CLOCKS, add_clock, interleave, machine, model_folder, quiet, read_cuts, show, write_rows
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from egrecho_inner.data.audio.features import SAMPLING_RATE
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.batches.options import BatchOptions, DataOptions
from egrecho_inner.data.batches.tensors import LoadedBatch
from egrecho_inner.model.adapters import add_adapter
from egrecho_inner.model.loading import load_model, load_processor
from egrecho_inner.model.options import SIZES, LoraOptions
from egrecho_inner.training.cost import peak
from egrecho_inner.training.fit import fit
from egrecho_inner.training.options import TrainOptions, WindowOptions
from egrecho_inner.training.trainer import PlanTrainer
from egrecho_inner.training.whisper_cost import Counter
from egrecho_inner.training.whisper_family import WhisperFamily

CUDA = torch.cuda.is_available()
PEER = "Seq2SeqTrainer, batch 8, 30 s"
WARM_UP = 3 if CUDA else 1  # steps; a GPU's allocator and libraries meet new shapes in the first ones
PREPARED = 64  # utterances of the peer, whose features are in memory before it starts
SHARDED = {
    "zero2": {"deepspeed": "config/ds_zero2.json"},
    "zero3": {"deepspeed": "config/ds_zero3.json"},
    "fsdp": {"fsdp": "config/fsdp.yaml"},
}
WAYS = ("peer", "batch8", "full", "lora", "compiled", *SHARDED)


def main() -> None:
    """Make the model, time every way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="manifest of cuts, or Kaldi directory")
    parser.add_argument("--cuts", type=int, default=256, metavar="N", help="utterances")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="times each way is run")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="counted of each way in a round")
    parser.add_argument("--max_duration", type=float, default=120.0, metavar="S", help="padded seconds of our batches")
    parser.add_argument("--size", default="tiny", choices=list(SIZES), help="dimensions, with random weights")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"], help="of all ways")
    parser.add_argument("--ways", nargs="+", default=["peer", "batch8", "full"], choices=WAYS, help="what is timed")
    parser.add_argument("--models", metavar="DIR", help="keeps the random models for the next program")
    parser.add_argument("--json", metavar="FILE", help="gets a line for every row, too")
    parser.add_argument("--profile", action="store_true", help="the ten dearest operations of ours")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="of torch, for both")
    add_clock(parser)
    options = parser.parse_args()
    quiet()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cuts = read_cuts(options.data, folder / "cuts.jsonl", options.cuts)
        model = model_folder(Path(options.models or folder / "models"), cuts, options.size)
        seconds = sum(cut.duration for cut in cuts) / len(cuts)
        task = Task(folder, model, cuts, options.precision, options.seconds, CLOCKS[options.clock])
        runs = dict(make_way(task, way, options.max_duration) for way in options.ways)
        speeds = interleave(runs, options.rounds)
        if options.profile:
            print(profiled(make_way(task, "full", options.max_duration)[1]))
    show(
        f"{len(cuts)} utterances of {seconds:.1f} s, {options.size} dimensions, {options.precision}, "
        f"{options.clock} time; {machine('accelerate')}",
        speeds,
        PEER,
        *(("MFU %", task.mfu), ("peak GB", task.memory), ("waits for data %", task.waits)),
    )
    found = {name: {"MFU %": task.mfu.get(name, ""), "peak GB": task.memory.get(name, "")} for name in speeds}
    found = {name: row | {"waits %": task.waits.get(name, "")} for name, row in found.items()}
    rows = [{"task": f"train {options.size}", "way": name, "speeds": speeds[name], **found[name]} for name in speeds]
    write_rows(options.json, rows)


@dataclass
class Task:
    """What all ways are to do, and what was seen of them."""

    folder: Path
    model: Path
    cuts: list[Cut]
    precision: Literal["fp32", "bf16", "fp16"]
    seconds: float
    clock: Callable[[], float]
    mfu: dict[str, str] = field(default_factory=dict)
    """Model FLOPs utilisation of the last round, by way; empty where the GPU's peak is not known."""
    memory: dict[str, str] = field(default_factory=dict)
    """Peak of the GPU's memory, by way; empty without one."""
    waits: dict[str, str] = field(default_factory=dict)
    """Share of the time in which the step waited for a batch, of our ways."""

    def start(self) -> None:
        """Free what the run before held, so that the peak is this one's."""
        gc.collect()
        if CUDA:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def finish(self, name: str, watch: "Watch") -> float:
        """Note what a run took; its audio seconds per second."""
        if CUDA:
            self.memory[name] = f"{torch.cuda.max_memory_allocated() / 1e9:.1f}"
        most = peak(torch.device("cuda" if CUDA else "cpu"), self.precision)
        if most:
            self.mfu[name] = f"{100 * watch.operations / watch.seconds / most:.0f}"
        if watch.waited is not None:
            self.waits[name] = f"{100 * watch.waited / watch.seconds:.1f}"
        return watch.audio / watch.seconds


def make_way(task: Task, way: str, max_duration: float) -> tuple[str, Callable[[], float]]:
    """Return a way's name in the table and its run."""
    if way == "peer":
        return PEER, peer(task)
    batch = BatchOptions(None, 8) if way == "batch8" else BatchOptions(max_duration)
    about = "batch 8" if way == "batch8" else f"{max_duration:g} s"
    name = f"fit(), {about}" + ("" if way in ("batch8", "full") else f", {way}")
    more = SHARDED.get(way, {"compile": True} if way == "compiled" else {})
    return name, ours(task, name, batch, lora=way == "lora", **more)


def profiled(run: Callable[[], float]) -> str:
    """Return a table of the operations that took most of a run's time."""
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if CUDA else [])]
    with torch.profiler.profile(activities=kinds) as profile:
        run()
    order = "self_cuda_time_total" if CUDA else "self_cpu_time_total"
    return profile.key_averages().table(sort_by=order, row_limit=10, max_name_column_width=60)


class Padded(Dataset[dict[str, Any]]):
    """What `dataset.map(prepare_dataset)` leaves: features of 30 s and labels."""

    def __init__(self, cuts: list[Cut], processor: WhisperProcessor):
        processor.tokenizer.set_prefix_tokens(language=cuts[0].supervisions[0].language, task="transcribe")
        self.items = []
        for cut in cuts:
            wave = load_audio(cut)
            features = processor.feature_extractor(wave, sampling_rate=SAMPLING_RATE)["input_features"][0]
            labels = processor.tokenizer(cut.supervisions[0].text).input_ids
            self.items.append({"input_features": features, "labels": labels, "seconds": len(wave) / SAMPLING_RATE})

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self.items[position]


class Enough(Exception):
    """Ends a run that has been timed, before it saves anything."""


class Watch(TrainerCallback):
    """Times the steps after the first ones, from end to end, until there are seconds enough."""

    def __init__(self, task: Task):
        self.clock, self.wanted = task.clock, task.seconds
        self.collated: deque[tuple[float, float]] = deque()
        """Audio seconds and operations of batches that are made and not yet trained on: the peer makes one ahead."""
        self.seconds = self.audio = self.operations = self.began = 0.0
        self.waited: float | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        audio, operations = self.collated.popleft()
        if state.global_step > WARM_UP:
            self.audio += audio
            self.operations += operations
            if self.clock() - self.began < self.wanted:
                return
        if CUDA:
            torch.cuda.synchronize()
        if state.global_step <= WARM_UP:
            self.began, self.waited = self.clock(), None if self.waited is None else 0.0
        else:
            self.seconds = self.clock() - self.began
            raise Enough


class Watched(PlanTrainer):
    """Our trainer, with the same watch."""

    def get_batch_samples(self, *args: Any) -> tuple[list, Any]:
        tally = self.tally
        audio, operations, waited = tally.audio, tally.flops, tally.waited
        samples = super().get_batch_samples(*args)
        self.watch.collated.append((tally.audio - audio, tally.flops - operations))
        self.watch.waited = (self.watch.waited or 0.0) + tally.waited - waited
        return samples


def peer(task: Task) -> Callable[[], float]:
    """Train as the guide does."""
    processor, counters = load_processor(str(task.model)), []
    data = Padded(task.cuts[:PREPARED], processor)
    start = processor.tokenizer.convert_tokens_to_ids("<|startoftranscript|>")

    def run() -> float:
        task.start()
        watch = Watch(task)

        def collate(items: list[dict[str, Any]]) -> dict[str, Tensor]:
            features = [{"input_features": item["input_features"]} for item in items]
            batch = processor.feature_extractor.pad(features, return_tensors="pt")
            labels = processor.tokenizer.pad([{"input_ids": item["labels"]} for item in items], return_tensors="pt")
            ids = labels["input_ids"].masked_fill(labels["attention_mask"].ne(1), -100)
            batch["labels"] = ids[:, 1:] if (ids[:, 0] == start).all() else ids
            shapes = LoadedBatch(batch, [], 0.0, len(items), 30.0, batch["labels"].shape[1], 0, [])
            watch.collated.append((sum(item["seconds"] for item in items), counters[-1].count(shapes)))
            return batch

        arguments = Seq2SeqTrainingArguments(
            output_dir=str(task.folder / "peer"),
            per_device_train_batch_size=8,
            max_steps=10**6,
            learning_rate=1e-5,
            use_cpu=not CUDA,
            bf16=task.precision == "bf16",
            fp16=task.precision == "fp16",
            save_strategy="no",
            remove_unused_columns=False,
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
        )
        model = WhisperForConditionalGeneration.from_pretrained(task.model)
        counters.append(Counter(model))
        trainer = Seq2SeqTrainer(
            model=model, args=arguments, train_dataset=data, data_collator=collate, callbacks=[watch]
        )
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train()
        except Enough:
            return task.finish(PEER, watch)
        raise AssertionError("training ended by itself")

    return run


def ours(task: Task, name: str, batch: BatchOptions, lora: bool = False, **more: Any) -> Callable[[], float]:
    """Train by fit(); `more` goes to TrainOptions."""
    options = TrainOptions(
        max_steps=10**6, eval_steps=10**6, workers=8 if CUDA else 1, precision=task.precision, report_to=[],
        rehearse=False, **more,
    )  # fmt: skip
    adapt = None if not lora else lambda model, steps: add_adapter(model, LoraOptions(), steps, 0)

    def run() -> float:
        task.start()
        outdir, watch = task.folder / "ours", Watch(task)

        def watched(*args: Any) -> PlanTrainer:
            trainer = Watched(*args)
            trainer.watch = watch
            trainer.add_callback(watch)
            return trainer

        model, data = load_model(str(task.model)), DataOptions(train=str(task.folder / "cuts.jsonl"))
        try:
            fit(
                model,
                WhisperFamily(model, load_processor(str(task.model)), data),
                outdir,
                data=data,
                batch=batch,
                train=options,
                window=WindowOptions("longest"),
                augment=None,
                config={},
                adapt=adapt,
                make_trainer=watched,
            )
        except Enough:
            return task.finish(name, watch)
        finally:
            shutil.rmtree(outdir, ignore_errors=True)
        raise AssertionError("training ended by itself")

    return run


if __name__ == "__main__":
    main()
