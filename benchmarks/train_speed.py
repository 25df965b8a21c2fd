#!/usr/bin/env python3
"""Time training: fit() beside Transformers' Seq2SeqTrainer, same model, utterances and tokens, in one run.

    python benchmarks/train_speed.py --data data/mboshi/train
    python benchmarks/train_speed.py --data data/mboshi/train --size large-v3 --precision bf16 --profile    # with a GPU

The peer is what the Transformers guide writes: `WhisperFeatureExtractor`, every utterance padded to 30 s, batches of 8,
`Seq2SeqTrainer`. The guide computes the features before training, so the peer's time does not contain them; ours reads
and transforms the audio while it trains. Both train all weights in float32 with AdamW and clip gradients. The first
step of every run is not counted. MFU: counted operations, padding included, over what the machine's matrix products do
(`training/flops.py`). `--profile` prints where our time goes.
"""

import argparse
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
from speech import CLOCKS, add_clock, interleave, machine, make_processor, quiet, random_whisper, read_cuts, show
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
from egrecho_inner.model.loading import load_model, save_folder
from egrecho_inner.model.options import SIZES
from egrecho_inner.training import flops
from egrecho_inner.training.fit import fit
from egrecho_inner.training.options import TrainOptions, WindowOptions
from egrecho_inner.training.trainer import WhisperTrainer

PEER = "Seq2SeqTrainer, batch 8, 30 s"


def main() -> None:
    """Make the model, time every way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="manifest of cuts, or Kaldi directory")
    parser.add_argument("--cuts", type=int, default=256, metavar="N", help="utterances")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="times each way is run")
    parser.add_argument("--steps", type=int, default=1, metavar="N", help="counted steps of the peer in a round")
    parser.add_argument("--our_steps", type=int, default=3, metavar="N", help="counted steps of ours in a round")
    parser.add_argument("--size", default="tiny", choices=list(SIZES), help="dimensions, with random weights")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="autocast, for both")
    parser.add_argument("--compile", action="store_true", help="one row more: torch.compile")
    parser.add_argument("--profile", action="store_true", help="the ten dearest operations of ours")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="of torch, for both")
    add_clock(parser)
    options = parser.parse_args()
    clock = CLOCKS[options.clock]
    quiet()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cuts = read_cuts(options.data, folder / "cuts.jsonl", options.cuts)
        processor = make_processor(cuts, SIZES[options.size][-1])
        save_folder(random_whisper(processor, options.size), processor, folder / "model", "longest")
        task = Task(folder, processor, options.precision, clock)
        ways = {
            PEER: peer(task, cuts, options.steps),
            "fit(), batch 8": ours(task, "fit(), batch 8", BatchOptions(None, 8), 4 * options.our_steps),
            "fit(), 120 s": ours(task, "fit(), 120 s", BatchOptions(120.0), options.our_steps),
        }
        if options.compile:
            name = "fit(), 120 s, torch.compile"
            ways[name] = ours(task, name, BatchOptions(120.0), options.our_steps, compiled=True)
        speeds = interleave(ways, options.rounds)
        if options.profile:
            print(profiled(ours(task, "profiled", BatchOptions(120.0), options.our_steps)))
    seconds = sum(cut.duration for cut in cuts) / len(cuts)
    show(
        f"{len(cuts)} utterances of {seconds:.1f} s, {options.size} dimensions, {options.precision}, "
        f"{options.clock} time; {machine('accelerate')}",
        speeds,
        PEER,
        ("MFU %", task.mfu),
        ("peak GB", task.memory),
    )


@dataclass
class Task:
    """What all ways are to do, and what was seen of them."""

    folder: Path
    processor: WhisperProcessor
    precision: Literal["fp32", "bf16"]
    clock: Callable[[], float]
    mfu: dict[str, str] = field(default_factory=dict)
    """Model FLOPs utilisation of the last round, by way."""
    memory: dict[str, str] = field(default_factory=dict)
    """Peak of the GPU's memory, by way; empty without one."""

    def finish(self, name: str, watch: "Watch") -> float:
        """Note what a run took; its audio seconds per second."""
        if torch.cuda.is_available():
            self.memory[name] = f"{torch.cuda.max_memory_allocated() / 1e9:.1f}"
            torch.cuda.reset_peak_memory_stats()
        most = flops.peak(torch.device("cuda" if torch.cuda.is_available() else "cpu"), self.precision)
        if most:
            self.mfu[name] = f"{100 * watch.operations / watch.seconds / most:.0f}"
        return watch.audio / watch.seconds


def profiled(run: Callable[[], float]) -> str:
    """Return a table of the operations that took most of a run's time."""
    cuda = torch.cuda.is_available()
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=kinds) as profile:
        run()
    order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
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


class Watch(TrainerCallback):
    """Times all steps but the first, from end to end."""

    def __init__(self, clock: Callable[[], float]):
        self.clock = clock
        self.collated: deque[tuple[float, float]] = deque()
        """Audio seconds and operations of batches that are made and not yet trained on: the peer makes one ahead."""
        self.seconds = self.audio = self.operations = self.ended = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now, (audio, operations) = self.clock(), self.collated.popleft()
        if state.global_step > 1:
            self.seconds += now - self.ended
            self.audio += audio
            self.operations += operations
        self.ended = now


class Watched(WhisperTrainer):
    """Our trainer, with the same watch."""

    def get_batch_samples(self, *args: Any) -> tuple[list, Any]:
        audio, operations = self.tally.audio, self.tally.flops
        samples = super().get_batch_samples(*args)
        self.watch.collated.append((self.tally.audio - audio, self.tally.flops - operations))
        return samples


def peer(task: Task, cuts: list[Cut], steps: int) -> Callable[[], float]:
    """Train as the guide does."""
    folder, processor, counters = task.folder, task.processor, []
    data = Padded(cuts[: 8 * (steps + 1)], processor)  # features of more would be computed for nothing
    start = processor.tokenizer.convert_tokens_to_ids("<|startoftranscript|>")

    def run() -> float:
        watch = Watch(task.clock)

        def collate(items: list[dict[str, Any]]) -> dict[str, Tensor]:
            features = [{"input_features": item["input_features"]} for item in items]
            batch = processor.feature_extractor.pad(features, return_tensors="pt")
            labels = processor.tokenizer.pad([{"input_ids": item["labels"]} for item in items], return_tensors="pt")
            ids = labels["input_ids"].masked_fill(labels["attention_mask"].ne(1), -100)
            batch["labels"] = ids[:, 1:] if (ids[:, 0] == start).all() else ids
            watch.collated.append((sum(item["seconds"] for item in items), counters[-1].count(batch)))
            return batch

        arguments = Seq2SeqTrainingArguments(
            output_dir=str(folder / "peer"),
            per_device_train_batch_size=8,
            max_steps=steps + 1,
            learning_rate=1e-5,
            use_cpu=not torch.cuda.is_available(),
            bf16=task.precision == "bf16",
            save_strategy="no",
            remove_unused_columns=False,
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
        )
        model = WhisperForConditionalGeneration.from_pretrained(folder / "model")
        counters.append(flops.Counter(model))
        trainer = Seq2SeqTrainer(
            model=model, args=arguments, train_dataset=data, data_collator=collate, callbacks=[watch]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return task.finish(PEER, watch)

    return run


def ours(task: Task, name: str, batch: BatchOptions, steps: int, compiled: bool = False) -> Callable[[], float]:
    """Train by fit()."""
    folder, workers = task.folder, 8 if torch.cuda.is_available() else 1
    more = {"compile": compiled, "precision": task.precision, "report_to": [], "rehearse": False}

    def run() -> float:
        outdir, watch = folder / "ours", Watch(task.clock)

        def watched(*args: Any) -> WhisperTrainer:
            trainer = Watched(*args)
            trainer.watch = watch
            trainer.add_callback(watch)
            return trainer

        fit(
            load_model(str(folder / "model")),
            task.processor,
            outdir,
            data=DataOptions(train=str(folder / "cuts.jsonl")),
            batch=batch,
            train=TrainOptions(max_steps=steps + 1, eval_steps=10**6, workers=workers, **more),
            window=WindowOptions("longest"),
            augment=None,
            config="",
            make_trainer=watched,
        )
        shutil.rmtree(outdir)
        return task.finish(name, watch)

    return run


if __name__ == "__main__":
    main()
