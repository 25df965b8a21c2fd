#!/usr/bin/env python3
"""Time training: fit() beside Transformers' Seq2SeqTrainer, same model, utterances and tokens, in one run.

    python benchmarks/train_speed.py --data data/mboshi/train

The peer is what the Transformers guide writes: `WhisperFeatureExtractor`, every utterance padded to 30 s, batches of 8,
`Seq2SeqTrainer`. The guide computes the features before training, so the peer's time does not contain them; ours reads
and transforms the audio while it trains. Both train all weights in float32 with AdamW and clip gradients. The first
step of every run is not counted.
"""

import argparse
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lhotse.cut import Cut
from speech import CLOCKS, add_clock, interleave, machine, make_processor, quiet, read_cuts, show, tiny_whisper
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

from egrecho_inner.data.audio import load_audio
from egrecho_inner.data.batching import BatchOptions
from egrecho_inner.data.dataset import DataOptions
from egrecho_inner.data.features import SAMPLING_RATE
from egrecho_inner.model.loading import load_model, save_folder
from egrecho_inner.training.fit import WindowOptions, fit
from egrecho_inner.training.options import TrainOptions
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
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="of torch, for both")
    add_clock(parser)
    options = parser.parse_args()
    clock = CLOCKS[options.clock]
    quiet()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cuts = read_cuts(options.data, folder / "cuts.jsonl", options.cuts)
        processor = make_processor(cuts)
        save_folder(tiny_whisper(processor), processor, folder / "model", "longest")
        ways = {
            PEER: peer(folder, processor, cuts, options.steps, clock),
            "fit(), batch 8": ours(folder, processor, BatchOptions(None, 8), 4 * options.our_steps, clock),
            "fit(), 120 s": ours(folder, processor, BatchOptions(120.0), options.our_steps, clock),
        }
        speeds = interleave(ways, options.rounds)
    seconds = sum(cut.duration for cut in cuts) / len(cuts)
    show(
        f"{len(cuts)} utterances of {seconds:.1f} s, tiny dimensions, {options.clock} time; {machine('accelerate')}",
        speeds,
        PEER,
    )


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
        self.collated: deque[float] = deque()
        """Audio seconds of batches that are made and not yet trained on: the peer makes one ahead."""
        self.seconds = self.audio = self.ended = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now, audio = self.clock(), self.collated.popleft()
        if state.global_step > 1:
            self.seconds += now - self.ended
            self.audio += audio
        self.ended = now


class Watched(WhisperTrainer):
    """Our trainer, with the same watch."""

    def get_batch_samples(self, *args: Any) -> tuple[list, Any]:
        before = self.tally.audio
        samples = super().get_batch_samples(*args)
        self.watch.collated.append(self.tally.audio - before)
        return samples


def peer(
    folder: Path, processor: WhisperProcessor, cuts: list[Cut], steps: int, clock: Callable[[], float]
) -> Callable[[], float]:
    """Train as the guide does."""
    data = Padded(cuts[: 8 * (steps + 1)], processor)  # features of more would be computed for nothing
    start = processor.tokenizer.convert_tokens_to_ids("<|startoftranscript|>")

    def run() -> float:
        watch = Watch(clock)

        def collate(items: list[dict[str, Any]]) -> dict[str, Tensor]:
            watch.collated.append(sum(item["seconds"] for item in items))
            features = [{"input_features": item["input_features"]} for item in items]
            batch = processor.feature_extractor.pad(features, return_tensors="pt")
            labels = processor.tokenizer.pad([{"input_ids": item["labels"]} for item in items], return_tensors="pt")
            ids = labels["input_ids"].masked_fill(labels["attention_mask"].ne(1), -100)
            batch["labels"] = ids[:, 1:] if (ids[:, 0] == start).all() else ids
            return batch

        arguments = Seq2SeqTrainingArguments(
            output_dir=str(folder / "peer"),
            per_device_train_batch_size=8,
            max_steps=steps + 1,
            learning_rate=1e-5,
            use_cpu=True,
            save_strategy="no",
            remove_unused_columns=False,
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
        )
        model = WhisperForConditionalGeneration.from_pretrained(folder / "model")
        trainer = Seq2SeqTrainer(
            model=model, args=arguments, train_dataset=data, data_collator=collate, callbacks=[watch]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return watch.audio / watch.seconds

    return run


def ours(
    folder: Path, processor: WhisperProcessor, batch: BatchOptions, steps: int, clock: Callable[[], float]
) -> Callable[[], float]:
    """Train by fit()."""

    def run() -> float:
        outdir, watch = folder / "ours", Watch(clock)

        def watched(*args: Any) -> WhisperTrainer:
            trainer = Watched(*args)
            trainer.watch = watch
            trainer.add_callback(watch)
            return trainer

        fit(
            load_model(str(folder / "model")),
            processor,
            outdir,
            data=DataOptions(train=str(folder / "cuts.jsonl")),
            batch=batch,
            train=TrainOptions(max_steps=steps + 1, eval_steps=10**6, workers=1, report_to=[], rehearse=False),
            window=WindowOptions("longest"),
            augment=None,
            config="",
            make_trainer=watched,
        )
        shutil.rmtree(outdir)
        return watch.audio / watch.seconds

    return run


if __name__ == "__main__":
    main()
